"""The run of a smaller model: new weights, and everything else from its origin."""

from pathlib import Path

from msgspec.structs import replace

from ranking_models.architectures import Architecture
from ranking_models.compression.origin import Origin
from ranking_models.fitting import FitOptions, Weights
from ranking_models.manifest import Lineage
from ranking_models.nn import restore
from ranking_models.run import TrainedRun
from ranking_models.train import measured_quality


def child_run(
    origin: Origin,
    *,
    directory: Path,
    architecture: Architecture,
    weights: Weights,
    options: FitOptions,
    epochs: int,
    validation_log_loss: float | None,
    lineage: Lineage,
) -> TrainedRun:
    """The smaller run, measured on the test rows of its parent; nothing is written.

    Args:
        origin: What it was made from.
        directory: Where it is meant to be saved; its name is the model's.
        architecture: Of the weights.
        weights: By name.
        options: What the last training ran with.
        epochs: How many it took.
        validation_log_loss: Where validation rows chose them.
        lineage: How it was made.
    """
    parent = origin.run
    network = restore(architecture, parent.schema, weights)
    training = replace(
        parent.training, options=options, epochs=epochs, validation_log_loss=validation_log_loss
    )
    return replace(
        parent,
        directory=directory,
        name=directory.name,
        architecture=architecture,
        weights=weights,
        quality=measured_quality(origin.logs, origin.data, network, origin.parts),
        training=training,
        lineage=lineage,
    )
