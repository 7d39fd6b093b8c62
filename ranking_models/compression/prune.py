"""Pruning: the units that matter least are taken out, and the rest is trained a little more.

Structured, so that the matrices really are smaller: a network of the same
kind, which every engine runs as it runs the large one.
"""

from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from ranking_models.architectures import Architecture, Widths
from ranking_models.compression.child import child_run
from ranking_models.compression.distil import Distillation, distillation_loss, with_unshown
from ranking_models.compression.importance import importance
from ranking_models.compression.origin import Origin
from ranking_models.compression.units import units_of, without
from ranking_models.errors import InputError
from ranking_models.fitting import Start, TrainingProgress, Weights, deterministic, fit
from ranking_models.manifest import Lineage
from ranking_models.run import TrainedRun
from ranking_models.split import Rows

IMPORTANCE_ROWS = 8192
"""Training rows, at most, that say how much a unit matters."""

FINE_TUNING_EPOCHS = 2

FINE_TUNING = Distillation(temperature=1.0, mix=1.0, unshown=1.0)
"""Pruned networks learn from their parent's scores alone."""

LAYERS = ("hidden", "bottom")
"""The sizes of an architecture that are widths of layers."""

SIZES = (*LAYERS, "embedding_dim")
"""The sizes that pruning can change."""


def prune_run(
    origin: Origin,
    architecture: Architecture,
    *,
    epochs: int = FINE_TUNING_EPOCHS,
    distillation: Distillation = FINE_TUNING,
    directory: Path,
    progress: TrainingProgress,
) -> TrainedRun:
    """A run of the smaller architecture with the units of its parent that matter most.

    It is trained on for so many epochs, on the rows and with the options of
    its parent. No validation rows could say when to stop, because the parent
    has learned from them. By default it learns from the parent's scores: from
    labels it would learn what the parent was stopped short of, and rank
    differently.

    Args:
        origin: What is pruned.
        architecture: From `with_share` or `with_sizes`.
        epochs: Of fine-tuning; 0 leaves the weights that stay as they are.
        distillation: What it learns from meanwhile.
        directory: Where the run is meant to be saved; its name is the model's.
        progress: Hears of every step.

    Raises:
        InputError: the training diverges.
    """
    run = origin.run
    options = replace(run.training.options, epochs=epochs)
    data, added = with_unshown(origin.data, origin.learned, distillation.unshown, options.seed)
    weights = fit(
        data,
        architecture,
        options,
        progress,
        rows=np.concatenate([origin.learned, added]),
        epochs=epochs,
        phase="fine-tuning",
        start=Start(schema=run.schema, weights=pruned_weights(origin, architecture)),
        objective=distillation_loss(run.module(), distillation, double=options.double),
    )
    return child_run(
        origin,
        directory=directory,
        architecture=architecture,
        weights=weights,
        options=options,
        epochs=epochs,
        validation_log_loss=None,
        lineage=Lineage(
            method="pruned",
            parent=run.name,
            options={
                "epochs": epochs,
                "mix": distillation.mix,
                "unshown": distillation.unshown,
                **{f: _text(getattr(architecture, f)) for f in SIZES if hasattr(architecture, f)},
            },
        ),
    )


def with_share(architecture: Architecture, share: float) -> Architecture:
    """The architecture with this share of every hidden layer's units taken out.

    Each layer keeps at least one unit; embedding dimensions stay.

    Raises:
        InputError: nothing would be taken out, such as from a network without
            hidden layers.
    """
    smaller = {
        field: tuple(max(1, round(width * (1 - share))) for width in getattr(architecture, field))
        for field in LAYERS
        if hasattr(architecture, field)
    }
    return _smaller(architecture, smaller)


def with_sizes(
    architecture: Architecture, *, hidden: Widths | None = None, embedding_dim: int | None = None
) -> Architecture:
    """The architecture with these sizes; what is None stays.

    Raises:
        InputError: it has no such sizes or smaller ones, or nothing would be
            taken out.
    """
    asked: dict[str, Widths | int] = {}
    if hidden is not None:
        asked["hidden"] = hidden
    if embedding_dim is not None:
        asked["embedding_dim"] = embedding_dim
    for field, size in asked.items():
        has = getattr(architecture, field, None)
        if has is None:
            raise InputError(f"{_flag(field)}: a {architecture.name} has none to prune")
        if isinstance(size, tuple) and len(size) != len(has):
            raise InputError(
                f"{_flag(field)}: {len(size)} layers are named, the run has {len(has)} "
                f"({_text(has)}); layers get smaller and do not go"
            )
        if any(new > old for new, old in zip(_each(size), _each(has), strict=True)):
            raise InputError(
                f"{_flag(field)}: {_text(size)} is more than the run's {_text(has)}; "
                "pruning only takes out"
            )
    return _smaller(architecture, asked)


def pruned_weights(origin: Origin, architecture: Architecture) -> Weights:
    """The parent's weights without the units that the smaller architecture has no room for.

    Of each layer the most important units stay, in their order; of equally
    important ones the first.
    """
    run = origin.run
    rows = _some(origin.learned, IMPORTANCE_ROWS, seed=run.training.options.seed)
    groups = units_of(run.architecture, run.schema)
    with deterministic(replace(run.training.options, double=False)):
        found = importance(run.module(), origin.data, rows, groups)
    weights: Weights = run.weights
    for units, important in zip(groups, found, strict=True):
        room = _each(getattr(architecture, units.size))[units.layer]
        kept = np.zeros(units.count, np.bool_)
        kept[np.argsort(-important, kind="stable")[:room]] = True
        weights = without(weights, units, kept)
    return weights


def _smaller(architecture: Architecture, sizes: dict[str, Any]) -> Architecture:
    smaller: Architecture = replace(architecture, **sizes)
    if smaller == architecture:
        raise InputError(
            f"nothing would be taken out of this {architecture.name}; name smaller sizes, or "
            "distil another architecture from it"
        )
    return smaller


def _some(rows: Rows, most: int, *, seed: int) -> Rows:
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _each(size: Widths | int) -> Widths:
    return size if isinstance(size, tuple) else (size,)


def _text(size: Widths | int) -> str:
    return ",".join(str(width) for width in _each(size)) or "none"


def _flag(field: str) -> str:
    return f"--{field.replace('_', '-')}"
