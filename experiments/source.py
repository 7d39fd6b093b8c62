"""Where running experiments come from: a TOML text, and whoever keeps the current set."""

import tomllib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol, get_args

import msgspec

from experiments.assignment import Assigner
from experiments.definition import (
    Experiment,
    HashId,
    Method,
    Objective,
    Policy,
    State,
    UnitKind,
)
from experiments.targeting import Operator
from experiments.together import check_together

_DECIDED: Final[Mapping[str, str]] = MappingProxyType(
    {"rolled_back": "rollback", "promoted": "promote"}
)
"""States that a file cannot ask for: somebody, or the rule, brings them about while it runs."""
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "unit": get_args(UnitKind),
    "state": tuple(state for state in get_args(State) if state not in _DECIDED),
    "hash": get_args(HashId),
    "objective": get_args(Objective),
    "policy": get_args(Policy),
    "method": get_args(Method),
    "op": get_args(Operator),
}


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
            with two or more ``[[experiment.variant]]`` and any number of
            ``[[experiment.targeting]]``.
        where: What the text is called in errors, usually the file name.

    Raises:
        ExperimentInvalid: it is no TOML, has unknown keys, or defines
            experiments that are not valid, alone or together.
    """
    try:
        definitions = msgspec.convert(_named(tomllib.loads(text)), _Definitions)
        check_together(definitions.experiment)
    except (ValueError, RecursionError) as problem:  # TOML and msgspec raise ValueErrors
        raise ExperimentInvalid(where, _readable(str(problem))) from None
    return definitions.experiment


def _named(document: dict[str, Any]) -> dict[str, Any]:
    """TOML names one table of a list at a time: ``variant`` becomes the field ``variants``."""
    tables = document.get("experiment")
    if isinstance(tables, dict):
        raise ValueError("an experiment is written as [[experiment]], with two brackets")
    if not isinstance(tables, list):
        return document
    return {**document, "experiment": [named_table(table) for table in tables]}


def named_table(table: Any) -> Any:
    """One experiment of a file with the names of the fields of `Experiment`.

    Raises:
        ValueError: it says what a file cannot say, or says it in another form.
    """
    if not isinstance(table, dict):
        return table
    if "variants" in table:
        raise ValueError("Object contains unknown field `variants`; write [[experiment.variant]]")
    _check_state(table)
    _check_tables(table)
    return {("variants" if key == "variant" else key): value for key, value in table.items()}


def _check_tables(table: dict[str, Any]) -> None:
    for name in ("variant", "targeting"):
        if isinstance(table.get(name), dict):
            raise ValueError(f"{name} is written as [[experiment.{name}]], with two brackets")
    rules = table.get("targeting", ())
    for rule in rules if isinstance(rules, list) else ():
        # Only `exists` goes without: any other rule would compare with true, and fit nobody.
        if isinstance(rule, dict) and "value" not in rule and rule.get("op", "exists") != "exists":
            raise ValueError(
                f"experiment {table.get('key')!r}, targeting of {rule.get('field')!r}: "
                f"{rule['op']!r} needs a value"
            )


def _check_state(table: dict[str, Any]) -> None:
    state, key = table.get("state"), table.get("key")
    if isinstance(state, str) and state in _DECIDED:
        raise ValueError(
            f"experiment {key!r}: a file cannot say state = {state!r}; "
            f"`podium experiment {_DECIDED[state]}` brings it about"
        )


def _readable(message: str) -> str:
    """msgspec's message in the words of the file: ``experiment[0].variant[1].share_bp``."""
    what, _, path = message.partition(" - at `$.")
    what = what.replace("Object contains unknown field", "unknown key")
    what = what.replace("Object missing required field `variants`", "missing key `variant`")
    what = what.replace("Object missing required field", "missing key")
    place = path.rstrip("`").replace(".variants", ".variant")
    if what.startswith("Invalid enum value"):
        choices = _CHOICES[place.rpartition(".")[2]]
        what = f"{what.replace('Invalid enum value', 'unknown value')}, not {' or '.join(choices)}"
    return f"{what} (at {place})" if place else what
