"""Training: a log in, a trained run out, the same run for the same seed.

    split by time
    -> put some training rows aside for INT8 calibration: nothing below learns from them
    -> learn vocabularies and scales from the training rows
    -> train until the validation rows stop getting better: that many epochs are right
    -> learn and train again, for that many epochs, on training and validation rows
    -> measure once on the test rows
    -> if asked to: learn and train again, for that many epochs, on all rows

The later rounds matter because the rows nearest to the future are the ones most
like it. No figure is measured on rows that the measured weights have seen. By
default the measured weights are the released ones, so that whoever holds a
figure against the model finds it true.
"""

from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from ranking_models import metrics
from ranking_models.architectures import Architecture
from ranking_models.checkpoint import Checkpoints, Plan, Stage, log_digest
from ranking_models.continuing import Parent, check_declared, grown
from ranking_models.data import Dataset, encode, fit_schema
from ranking_models.fitting import (
    FitOptions,
    Found,
    TrainingProgress,
    Weights,
    fit,
    scores,
    search_epochs,
)
from ranking_models.item_pages import ItemPages, item_pages
from ranking_models.joining import Tables
from ranking_models.log_figures import data_source
from ranking_models.logs import Entities, Logs
from ranking_models.manifest import Lineage, Quality
from ranking_models.nn import RankingNetwork, restore
from ranking_models.run import ReleaseOn, Table, TrainedRun, Training
from ranking_models.schema import FeatureBatch, FeatureSchema
from ranking_models.split import HELD_OUT_ROWS, Rows, Split, SplitName, drawn, split_logs
from ranking_models.torch_scorer import torch_scorer

CALIBRATION_ROWS = 2_048
"""At most, and at most an eighth of the training rows. They say how large numbers get inside of
the network, which old rows do as well as new ones; the newest are the most worth learning from."""


def train_run(
    logs: Logs,
    architecture: Architecture,
    options: FitOptions,
    *,
    split: SplitName,
    release_on: ReleaseOn = "rest",
    directory: Path,
    progress: TrainingProgress,
    parent: Parent | None = None,
    checkpoints: Checkpoints | None = None,
) -> TrainedRun:
    """Train a model on a log; nothing is written.

    Args:
        logs: What people were shown and clicked.
        architecture: Which network.
        options: How to fit it, and the seed.
        split: What is held out; see `split_logs`.
        release_on: Whether the measured model is released (``rest``), or one of
            the same recipe that learns from the test rows too (``all``).
        directory: Where the run is meant to be saved; its name is the model's.
        progress: Hears of every step.
        parent: A model of this architecture to go on from; None starts from nothing.
        checkpoints: Where to keep the training's state, and to find it again.

    Raises:
        InputError: the log cannot be split or is not one of the parent's
            features, training diverges, or a checkpoint is of another training
            or cannot be written.
    """
    if parent is not None:
        check_declared(parent, logs.declared)
    parts = split_logs(logs, split)
    calibration = drawn(
        parts.train, min(CALIBRATION_ROWS, len(parts.train) // 8), seed=options.seed
    )
    train = np.setdiff1d(parts.train, calibration)
    tools = {name: version(name) for name in ("numpy", "torch")}
    stage = Stage(phase="best epoch")
    if checkpoints is not None:
        plan = Plan(
            log=log_digest(logs),
            architecture=architecture,
            options=options,
            split=split,
            release_on=release_on,
            parent=parent.reference if parent else None,
            tools=tools,
        )
        stage = checkpoints.open(plan) or stage
    learning = _Learning(logs, architecture, options, progress, parent, checkpoints)
    found = stage.found
    if found is None:
        found = learning.search(stage, rows=train, validation=parts.validation)
        again = release_on == "all"
        stage = Stage(phase="measured epoch" if again else "final epoch", found=found)
    seen = np.concatenate([train, parts.validation])
    quality = stage.quality
    if quality is None:
        data, weights = learning.fit(stage, rows=seen, epochs=found.epochs)
        network = restore(architecture, data.schema, weights)
        quality = measured_quality(logs, data, network, parts)
        pages = _pages(logs, data, network, seen=seen, held_out=parts.test)
        stage = Stage(phase="final epoch", found=found, quality=quality, candidates=pages.figures)
    if release_on == "all":
        seen = np.setdiff1d(np.arange(len(logs.label)), calibration)
        data, weights = learning.fit(stage, rows=seen, epochs=found.epochs)
        quality = replace(quality, split=f"{quality.split}, before a last round on all rows")
        network = restore(architecture, data.schema, weights)
        pages = _pages(logs, data, network, seen=seen, held_out=parts.test[:0])

    held_out = drawn(parts.test, HELD_OUT_ROWS, seed=options.seed)
    return TrainedRun(
        directory=directory,
        name=directory.name,
        architecture=architecture,
        schema=data.schema,
        weights=weights,
        items=_table(logs.items, data.tables["item"]),
        users=_table(logs.users, data.tables["user"]),
        popularity=pages.popularity,
        anchors=pages.anchors,
        held_out=data.inputs(held_out),
        held_out_labels=logs.label[held_out],
        held_out_units=logs.unit[held_out],
        held_out_rows=held_out,
        calibration=data.inputs(calibration),
        calibration_rows=calibration,
        quality=quality,
        data=data_source(logs),
        training=Training(
            options=options,
            split=split,
            release_on=release_on,
            epochs=found.epochs,
            validation_log_loss=found.log_loss,
            tools=tools,
        ),
        lineage=_lineage(parent, logs, options, found),
        candidates=stage.candidates,
    )


class _Learning(msgspec.Struct, frozen=True):
    """What the rounds of one training have in common."""

    logs: Logs
    architecture: Architecture
    options: FitOptions
    progress: TrainingProgress
    parent: Parent | None
    checkpoints: Checkpoints | None

    def search(self, stage: Stage, *, rows: Rows, validation: Rows) -> Found:
        """How many epochs are right."""
        return search_epochs(
            encode(self.logs, self._schema(rows)),
            self.architecture,
            self.options,
            self.progress,
            rows=rows,
            validation=validation,
            start=self.parent.start if self.parent else None,
            keeper=self.checkpoints.round(stage) if self.checkpoints else None,
        )

    def fit(self, stage: Stage, *, rows: Rows, epochs: int) -> tuple[Dataset, Weights]:
        """Vocabularies, scales and weights from some rows and no others."""
        data = encode(self.logs, self._schema(rows))
        weights = fit(
            data,
            self.architecture,
            self.options,
            self.progress,
            rows=rows,
            epochs=epochs,
            phase=stage.phase,
            start=self.parent.start if self.parent else None,
            keeper=self.checkpoints.round(stage) if self.checkpoints else None,
        )
        return data, weights

    def _schema(self, rows: Rows) -> FeatureSchema:
        learned = fit_schema(self.logs, rows)
        return grown(learned, self.parent.start.schema) if self.parent else learned


def _lineage(
    parent: Parent | None, logs: Logs, options: FitOptions, found: Found
) -> Lineage | None:
    if parent is None:
        return None
    return parent.lineage(
        log=logs.declared.name, epochs=found.epochs, learning_rate=options.learning_rate
    )


def _table(entities: Entities, encoded: FeatureBatch) -> Table:
    known = np.arange(len(entities.ids))  # without the last row, which is nobody's
    return Table(ids=entities.ids, features=encoded.take(known))


def _pages(
    logs: Logs, data: Dataset, network: RankingNetwork, *, seen: Rows, held_out: Rows
) -> ItemPages:
    tables = Tables(
        schema=data.schema,
        users=_table(logs.users, data.tables["user"]).features,
        items=_table(logs.items, data.tables["item"]).features,
    )
    scorer = torch_scorer(network.eval(), data.schema)
    return item_pages(logs, scorer, tables, seen=seen, held_out=held_out)


def measured_quality(logs: Logs, data: Dataset, network: RankingNetwork, parts: Split) -> Quality:
    """The network's figures on all test rows."""
    found = scores(network, data, parts.test)
    labels, units = logs.label[parts.test], logs.unit[parts.test]
    return Quality(
        split=parts.description,
        rows=len(parts.test),
        users=len(np.unique(units)),
        auc=metrics.auc(found, labels),
        log_loss=metrics.log_loss(found, labels),
        gauc=metrics.gauc(found, labels, units),
        ndcg_at_10=metrics.ndcg_at_k(found, labels, units),
    )
