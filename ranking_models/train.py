"""Training: a log in, a trained run out, the same run for the same seed.

    split by time
    -> put some validation rows aside for INT8 calibration: nothing below learns from them
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

from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from ranking_models import metrics
from ranking_models.architectures import Architecture
from ranking_models.candidates import anchor_candidates, popularity_order
from ranking_models.data import Dataset, encode, fit_schema
from ranking_models.fitting import (
    FitOptions,
    TrainingProgress,
    Weights,
    fit,
    scores,
    search_epochs,
)
from ranking_models.logs import Entities, Logs
from ranking_models.manifest import DataSource, Quality
from ranking_models.nn import RankingNetwork, restore
from ranking_models.run import ReleaseOn, Table, TrainedRun, Training
from ranking_models.schema import FeatureBatch
from ranking_models.split import Rows, Split, SplitName, split_logs

HELD_OUT_ROWS = 20_000

CALIBRATION_ROWS = 2_048
"""At most, and at most a quarter of the validation rows."""


def train_run(
    logs: Logs,
    architecture: Architecture,
    options: FitOptions,
    *,
    split: SplitName,
    release_on: ReleaseOn = "rest",
    directory: Path,
    progress: TrainingProgress,
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

    Raises:
        InputError: the log cannot be split, or training diverges.
    """
    parts = split_logs(logs, split)
    calibration = _some(
        parts.validation, min(CALIBRATION_ROWS, len(parts.validation) // 4), options
    )
    validation = np.setdiff1d(parts.validation, calibration)
    data = encode(logs, fit_schema(logs, parts.train))
    found = search_epochs(
        data, architecture, options, progress, rows=parts.train, validation=validation
    )
    seen = np.concatenate([parts.train, validation])
    again = release_on == "all"
    phase = "measured epoch" if again else "final epoch"
    data, weights = _learn(
        logs, architecture, options, progress, rows=seen, epochs=found.epochs, phase=phase
    )
    quality = _quality(logs, data, restore(architecture, data.schema, weights), parts)
    if again:
        seen = np.setdiff1d(np.arange(len(logs.label)), calibration)
        data, weights = _learn(
            logs,
            architecture,
            options,
            progress,
            rows=seen,
            epochs=found.epochs,
            phase="final epoch",
        )
        quality = replace(quality, split=f"{quality.split}, before a last round on all rows")

    items = len(logs.items.ids)
    popularity = popularity_order(logs.item[seen], logs.label[seen], items)
    liked = _liked_in_time_order(logs, seen)
    held_out = _some(parts.test, HELD_OUT_ROWS, options)
    return TrainedRun(
        directory=directory,
        name=directory.name,
        architecture=architecture,
        schema=data.schema,
        weights=weights,
        items=_table(logs.items, data.tables["item"]),
        users=_table(logs.users, data.tables["user"]),
        popularity=popularity,
        anchors=anchor_candidates(logs.unit[liked], logs.item[liked], items, popularity=popularity),
        held_out=data.inputs(held_out),
        held_out_labels=logs.label[held_out],
        held_out_units=logs.unit[held_out],
        held_out_rows=held_out,
        calibration=data.inputs(calibration),
        calibration_rows=calibration,
        quality=quality,
        data=_data_source(logs),
        training=Training(
            options=options,
            split=split,
            release_on=release_on,
            epochs=found.epochs,
            validation_log_loss=found.log_loss,
            tools={name: version(name) for name in ("numpy", "torch")},
        ),
    )


def _learn(
    logs: Logs,
    architecture: Architecture,
    options: FitOptions,
    progress: TrainingProgress,
    *,
    rows: Rows,
    epochs: int,
    phase: str,
) -> tuple[Dataset, Weights]:
    """Vocabularies, scales and weights from some rows and no others."""
    data = encode(logs, fit_schema(logs, rows))
    return data, fit(data, architecture, options, progress, rows=rows, epochs=epochs, phase=phase)


def _liked_in_time_order(logs: Logs, rows: Rows) -> Rows:
    liked = rows[logs.label[rows] > 0]
    return liked[np.argsort(logs.seconds[liked], kind="stable")]


def _some(rows: Rows, most: int, options: FitOptions) -> Rows:
    """All rows, or so many of them at random, ascending."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(options.seed).choice(rows, most, replace=False))


def _table(entities: Entities, encoded: FeatureBatch) -> Table:
    known = np.arange(len(entities.ids))  # without the last row, which is nobody's
    return Table(ids=entities.ids, features=encoded.take(known))


def _quality(logs: Logs, data: Dataset, network: RankingNetwork, parts: Split) -> Quality:
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


def _data_source(logs: Logs) -> DataSource:
    def rfc3339(seconds: float) -> str:
        return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")

    return DataSource(
        name=logs.declared.name,
        licence=logs.declared.licence,
        interactions=len(logs.label),
        users=len(logs.users.ids),
        items=len(logs.items.ids),
        first_event=rfc3339(float(logs.seconds.min())),
        last_event=rfc3339(float(logs.seconds.max())),
    )
