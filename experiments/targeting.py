"""Who an experiment is for: small typed rules on the context of a request.

A rule holds or fails, it never raises: a field that the request does not name, or a value of
another type than the rule compares with, fails it (so ``!=`` and ``not_in`` fail too: of a device
that nobody named it is not known that it is no phone). Only ``exists`` speaks of missing fields.
Rules that could never hold for anybody are refused when they are loaded.
"""

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import isfinite
from types import MappingProxyType
from typing import Any, Final, Literal

from msgspec import Struct

from experiments.validity import has_utf8

Scalar = str | int | float | bool
ContextValue = Scalar | Sequence[Scalar] | None
"""What a request says of a field. Of a list a rule holds if it holds of one of its values, and
``!=`` and ``not_in`` if they hold of all; None is a field that is not there."""
Context = Mapping[str, ContextValue]
Fits = Callable[[Context], bool]

Operator = Literal["==", "!=", "in", "not_in", "<", "<=", ">", ">=", "starts_with", "exists"]

NO_CONTEXT: Context = MappingProxyType({})

_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MAX_VALUES = 1_000


class Rule(Struct, frozen=True, forbid_unknown_fields=True):
    """One condition on one field of the context."""

    field: str
    op: Operator
    value: Scalar | tuple[Scalar, ...] = True
    """A list for ``in`` and ``not_in``, a number for ``<`` and its like, text for ``starts_with``;
    for ``exists`` whether the field must be there."""

    def __post_init__(self) -> None:
        if not self.field:
            raise ValueError("a targeting rule needs the name of a field")
        problem = self._problem() or self._problem_of_text()
        if problem:
            raise ValueError(f"targeting of {self.field!r}: {problem}")

    def _problem(self) -> str | None:
        op, value = self.op, self.value
        if op in ("in", "not_in"):
            return self._problem_of_list()
        if isinstance(value, tuple):
            return f"{op!r} compares with one value; a list goes with 'in' or 'not_in'"
        if op in _COMPARISONS and _kind(value) is not float:
            return f"{op!r} needs a number, got {value!r}"
        if op == "starts_with" and not (isinstance(value, str) and value):
            return f"'starts_with' needs text, got {value!r}"
        if op == "exists" and not isinstance(value, bool):
            return f"'exists' needs true or false, got {value!r}"
        return _not_a_number(value)

    def _problem_of_text(self) -> str | None:
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        if all(has_utf8(text) for text in (self.field, *values) if isinstance(text, str)):
            return None
        return "it holds half a character (a lone surrogate), which no request can"

    def _problem_of_list(self) -> str | None:
        if not isinstance(self.value, tuple):
            return f"{self.op!r} needs a list, got {self.value!r}"
        if not 1 <= len(self.value) <= _MAX_VALUES:
            return f"{self.op!r} needs 1 to {_MAX_VALUES} values, got {len(self.value)}"
        return next(filter(None, map(_not_a_number, self.value)), None)


def compiled(rule: Rule) -> Fits:
    """The rule as a function of the context."""
    field, value = rule.field, rule.value
    values = value if isinstance(value, tuple) else (value,)
    match rule.op:
        case "exists":
            return lambda context: (context.get(field) is not None) is value
        case "==" | "in":
            return _is_one(field, values)
        case "!=" | "not_in":
            return _over(field, _unlike(values), all)
        case "starts_with":
            return _over(field, lambda given: _kind(given) is str and given.startswith(value), any)
    compare = _COMPARISONS[rule.op]
    return _over(field, lambda given: _kind(given) is float and compare(given, value), any)


def _is_one(field: str, values: Sequence[Scalar]) -> Fits:
    known = frozenset(map(_told_apart, values))
    otherwise = _over(field, lambda given: _told_apart(given) in known, any)

    def fits(context: Context) -> bool:
        # Nearly every rule compares one text, on the path of every request.
        given = context.get(field)
        return given in known if given.__class__ is str else otherwise(context)

    return fits


def _over(
    field: str, holds: Callable[[Any], bool], quantified: Callable[[Iterable[bool]], bool]
) -> Fits:
    def fits(context: Context) -> bool:
        given = context.get(field)
        if isinstance(given, list | tuple):
            return bool(given) and quantified(map(holds, given))
        return holds(given)

    return fits


def _unlike(values: Sequence[Scalar]) -> Callable[[Any], bool]:
    known = frozenset(map(_told_apart, values))
    kinds = {_kind(value) for value in values}
    return lambda given: _kind(given) in kinds and _told_apart(given) not in known


def _told_apart(value: Any) -> Any:
    # Python takes True for 1, a context must not: a flag is no count.
    kind = _kind(value)
    return value if kind is str else (kind, value if kind else None)


def _kind(value: Any) -> type | None:
    """Text, truth or number; None for anything else, which fits no rule."""
    if isinstance(value, bool):
        return bool
    if isinstance(value, int | float):
        return float
    return str if isinstance(value, str) else None


def _not_a_number(value: Scalar) -> str | None:
    if isinstance(value, float) and not isfinite(value):
        return f"{value} is no number to compare with"
    return None
