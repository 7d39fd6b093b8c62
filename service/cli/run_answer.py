"""A trained run, for programs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ranking_models.run import TrainedRun


def run_answer(run: "TrainedRun") -> dict[str, object]:
    """Where it is, how large, how long it took, and how good it is on rows held out."""
    return {
        "run": run.directory,
        "name": run.name,
        "architecture": run.architecture,
        "parameters": sum(weights.size for weights in run.weights.values()),
        "training": run.training,
        "quality": run.quality,
    }
