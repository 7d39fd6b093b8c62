"""Where running experiments come from: a TOML text, and whoever keeps the current set."""

import tomllib
from typing import Any, Protocol, get_args

import msgspec

from experiments.assignment import Assigner
from experiments.definition import Experiment, State, UnitKind, check_together

_CHOICES = {"unit": UnitKind, "state": State}


class ExperimentInvalid(ValueError):
    """The text defines no valid experiments; one line says where and what to change."""

    def __init__(self, where: str, reason: str) -> None:
        self.where, self.reason = where, reason
        super().__init__(f"{where}: {reason}")


class ExperimentSource(Protocol):
    """Gives the experiments that are in force now.

    The answer is one immutable object, so a request that asks once cannot see
    half of an old and half of a new set. Asking is cheap and does no I/O.
    """

    def current(self) -> Assigner:
        """The compiled experiments, with their definitions and digest."""
        ...


class FixedExperiments:
    """A set of experiments that stays as it is while the process lives."""

    def __init__(self, assigner: Assigner) -> None:
        self._assigner = assigner

    def current(self) -> Assigner:
        return self._assigner


class _Definitions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file: any number of ``[[experiment]]`` tables."""

    experiment: tuple[Experiment, ...] = ()


def parse_experiments(text: str, *, where: str) -> tuple[Experiment, ...]:
    """Read experiment definitions from TOML.

    Args:
        text: ``[[experiment]]`` tables with the fields of `Experiment`, each
            with two or more ``[[experiment.variant]]``.
        where: What the text is called in errors, usually the file name.

    Raises:
        ExperimentInvalid: it is no TOML, has unknown keys, or defines
            experiments that are not valid, alone or together.
    """
    try:
        definitions = msgspec.convert(_named(tomllib.loads(text)), _Definitions)
        check_together(definitions.experiment)
    except ValueError as problem:  # TOMLDecodeError and ValidationError are ValueErrors
        raise ExperimentInvalid(where, _readable(str(problem))) from None
    return definitions.experiment


def _named(document: dict[str, Any]) -> dict[str, Any]:
    """TOML names one table of a list at a time: ``variant`` becomes the field ``variants``."""
    tables = document.get("experiment")
    if isinstance(tables, dict):
        raise ValueError("an experiment is written as [[experiment]], with two brackets")
    if not isinstance(tables, list):
        return document
    return {**document, "experiment": [_with_variants(table) for table in tables]}


def _with_variants(table: Any) -> Any:
    if not isinstance(table, dict):
        return table
    if "variants" in table:
        raise ValueError("Object contains unknown field `variants`; write [[experiment.variant]]")
    return {("variants" if key == "variant" else key): value for key, value in table.items()}


def _readable(message: str) -> str:
    """msgspec's message in the words of the file: ``experiment[0].variant[1].share_bp``."""
    what, _, path = message.partition(" - at `$.")
    what = what.replace("Object contains unknown field", "unknown key")
    what = what.replace("Object missing required field `variants`", "missing key `variant`")
    what = what.replace("Object missing required field", "missing key")
    place = path.rstrip("`").replace(".variants", ".variant")
    if what.startswith("Invalid enum value"):
        choices = get_args(_CHOICES[place.rpartition(".")[2]])
        what = f"{what.replace('Invalid enum value', 'unknown value')}, not {' or '.join(choices)}"
    return f"{what} (at {place})" if place else what
