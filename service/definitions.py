"""The experiments that the settings name, checked against the deployments."""

from collections.abc import Collection
from pathlib import Path

from experiments.assignment import Assigner
from experiments.definition import Experiment
from experiments.source import ExperimentInvalid, parse_experiments
from service.errors import StartupError
from service.settings.reading import read_text


def load_experiments(file: Path, deployments: Collection[str]) -> Assigner:
    """Read and compile the experiments of a file.

    Raises:
        StartupError: the file cannot be read.
        ExperimentInvalid: what it defines is not valid, or names no deployment of ours.
    """
    return compile_experiments(file, read_experiments(file), deployments)


def read_experiments(file: Path) -> str:
    """The text of a file of experiments.

    Raises:
        StartupError: it cannot be read.
    """
    try:
        return read_text(file, "the experiments")
    except FileNotFoundError as error:
        raise StartupError(f"{file}: the experiments cannot be read: {error.strerror}") from None


def compile_experiments(file: Path, text: str, deployments: Collection[str]) -> Assigner:
    """The experiments that a file says.

    Raises:
        ExperimentInvalid: as `load_experiments`.
    """
    found = parse_experiments(text, where=str(file))
    for experiment in found:
        _check_deployments(experiment, deployments, file)
    return Assigner(found)


def no_deployment(name: str, deployments: Collection[str]) -> str:
    """What is wrong with a variant that names one that the settings do not have."""
    known = ", ".join(sorted(deployments))
    return f"there is no deployment {name!r} in the settings; there are: {known}"


def _check_deployments(experiment: Experiment, deployments: Collection[str], file: Path) -> None:
    for variant in experiment.variants:
        if variant.deployment is not None and variant.deployment not in deployments:
            reason = no_deployment(variant.deployment, deployments)
            whose = f"experiment {experiment.key!r}, variant {variant.name!r}"
            raise ExperimentInvalid(str(file), f"{whose}: {reason}")
