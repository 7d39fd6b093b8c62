"""The experiments that the settings name, checked against the deployments."""

from collections.abc import Collection
from pathlib import Path

from experiments.assignment import Assigner
from experiments.definition import Experiment
from experiments.source import ExperimentInvalid, parse_experiments
from service.errors import StartupError


def load_experiments(file: Path, deployments: Collection[str]) -> Assigner:
    """Read and compile the experiments of a file.

    Raises:
        StartupError: the file cannot be read.
        ExperimentInvalid: what it defines is not valid, or names no deployment of ours.
    """
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise StartupError(f"{file}: the experiments cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise StartupError(
            f"{file}: the experiments cannot be read: not UTF-8 at byte {error.start}"
        ) from None
    found = parse_experiments(text, where=str(file))
    for experiment in found:
        _check_deployments(experiment, deployments, file)
    return Assigner(found)


def _check_deployments(experiment: Experiment, deployments: Collection[str], file: Path) -> None:
    for variant in experiment.variants:
        if variant.deployment is not None and variant.deployment not in deployments:
            known = ", ".join(sorted(deployments))
            raise ExperimentInvalid(
                str(file),
                f"experiment {experiment.key!r}, variant {variant.name!r}: there is no deployment "
                f"{variant.deployment!r} in the settings; there are: {known}",
            )
