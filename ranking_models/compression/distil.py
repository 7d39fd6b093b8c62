"""Distillation: a small network learns from what a large one says, besides from the labels.

A label says clicked or not; the teacher says how likely it was, and it can be
asked about items that nobody was shown.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from msgspec import Struct
from msgspec.structs import replace
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ranking_models.architectures import Architecture
from ranking_models.compression.child import child_run
from ranking_models.compression.origin import Origin
from ranking_models.data import Dataset
from ranking_models.fitting import FitOptions, Objective, TrainingProgress, fit, search_epochs
from ranking_models.manifest import Lineage
from ranking_models.nn import RankingNetwork
from ranking_models.run import TrainedRun
from ranking_models.split import Rows


class Distillation(Struct, frozen=True, kw_only=True):
    """What the student listens to."""

    temperature: float = 1.0
    """Above 0; divides the log odds of both, so that the teacher sounds less sure above 1."""
    mix: float = 1.0
    """Weight of the teacher in the loss, 0..1; the labels have the rest."""
    unshown: float = 1.0
    """Rows per row of the log of which the teacher alone knows something: the same user and
    context beside an item drawn from the whole catalogue."""


def distil_run(
    origin: Origin,
    architecture: Architecture,
    options: FitOptions,
    distillation: Distillation,
    *,
    directory: Path,
    progress: TrainingProgress,
) -> TrainedRun:
    """A run of another architecture that has learned from its parent's scores.

    As in `ranking_models.train.train_run` the validation rows say for how many
    epochs, and are then learned from as well. The teacher has seen their
    labels, so that it may be an epoch too many; no row that measures anything
    is touched.

    Args:
        origin: The teacher, and its log.
        architecture: The student.
        options: How to fit it, and the seed.
        distillation: What it listens to.
        directory: Where the run is meant to be saved; its name is the model's.
        progress: Hears of every step.

    Raises:
        InputError: the training diverges.
    """
    objective = distillation_loss(origin.run.module(), distillation, double=options.double)
    data, added = with_unshown(origin.data, origin.train, distillation.unshown, options.seed)
    found = search_epochs(
        data,
        architecture,
        options,
        progress,
        rows=np.concatenate([origin.train, added]),
        validation=origin.parts.validation,
        objective=objective,
    )
    data, added = with_unshown(origin.data, origin.learned, distillation.unshown, options.seed)
    weights = fit(
        data,
        architecture,
        options,
        progress,
        rows=np.concatenate([origin.learned, added]),
        epochs=found.epochs,
        phase="final epoch",
        objective=objective,
    )
    return child_run(
        origin,
        directory=directory,
        architecture=architecture,
        weights=weights,
        options=options,
        epochs=found.epochs,
        validation_log_loss=found.log_loss,
        lineage=Lineage(
            method="distilled",
            parent=origin.run.name,
            options={
                "temperature": distillation.temperature,
                "mix": distillation.mix,
                "unshown": distillation.unshown,
                "epochs": found.epochs,
            },
        ),
    )


def distillation_loss(
    teacher: RankingNetwork, distillation: Distillation, *, double: bool = False
) -> Objective:
    """``mix * T^2 * H(s(z_t / T), s(z / T)) + (1 - mix) * H(y, s(z))``, the mean over rows.

    ``z`` are the student's logits, ``z_t`` the teacher's on the same input,
    ``y`` the labels, ``s`` the sigmoid and ``H`` the binary cross entropy; it is
    Hinton's loss with two classes, of which one has logit 0. The gradient of
    the first ``H`` by ``z`` falls with ``1 / T^2``, so that without the factor
    the mix would mean something else at every temperature. A row without a
    label (NaN) has the first term alone.

    Args:
        teacher: In evaluation mode.
        distillation: T and the mix.
        double: Whether the student trains in double precision; the teacher then scores in it.

    Source:
        Hinton, Vinyals, Dean (2015), "Distilling the Knowledge in a Neural
        Network"; arXiv:1503.02531, section 2.
    """
    t, mix = distillation.temperature, distillation.mix
    if double:
        teacher.double()

    def loss(logits: Tensor, label: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        with torch.no_grad():
            soft = (teacher.logits(*inputs) / t).sigmoid()
        from_teacher = binary_cross_entropy_with_logits(logits / t, soft, reduction="none") * t**2
        known = ~label.isnan()
        from_label = binary_cross_entropy_with_logits(logits, label.nan_to_num(), reduction="none")
        weight = torch.where(known, mix, 1.0)
        return (weight * from_teacher + (1 - weight) * from_label).mean()

    return loss


def with_unshown(data: Dataset, rows: Rows, share: float, seed: int) -> tuple[Dataset, Rows]:
    """The log with rows that nobody was shown behind its own, and their row numbers.

    Each has the user and the context of one of ``rows``, an item drawn from
    the catalogue, all equally likely, and no label (NaN).
    """
    rng = np.random.default_rng([seed, len(rows)])
    chosen = rng.choice(rows, round(share * len(rows)))
    items = rng.integers(data.tables["item"].rows - 1, size=len(chosen), dtype=np.int32)
    context = data.tables["context"].take(np.concatenate([np.arange(len(data.label)), chosen]))
    more = replace(
        data,
        tables={**data.tables, "context": context},
        user=np.concatenate([data.user, data.user[chosen]]),
        item=np.concatenate([data.item, items]),
        label=np.concatenate([data.label, np.full(len(chosen), np.nan, np.float32)]),
    )
    return more, np.arange(len(data.label), len(more.label))
