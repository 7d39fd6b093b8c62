"""What decides a flag: pinned units, rules, and one ``fractional``."""

from typing import Literal

from msgspec import Struct

from experiments.flagd.conditions import rules_of, units_of
from experiments.flagd.places import FLAG_KEY, TARGETING_KEY, Node
from experiments.hashing.terms import PLACE
from experiments.targeting import Rule

FlagdHash = Literal["flagd-v2", "flagd-v3"]


class Split(Struct, frozen=True, kw_only=True):
    """A flag's targeting, read."""

    weights: dict[str, int]
    """Variant to weight, in the order in which they share the range."""
    salt: str
    """What is hashed with the unit: the flag's key, or a text with the place of the unit in it."""
    rules: tuple[Rule, ...] = ()
    pinned: dict[str, str] = {}
    """Unit to variant."""


class Terms(Struct, frozen=True, kw_only=True):
    """What the reading of a flag depends on."""

    key: str
    variants: frozenset[str]
    default: str
    hash: FlagdHash
    unit: str
    """The variable that holds the unit."""


def split_of(targeting: Node, terms: Terms) -> Split:
    """The one split that a targeting makes.

    Raises:
        Refused: it makes none, or more than an experiment can say.
    """
    if isinstance(targeting.value, str | None):
        targeting.refuse("gives everybody the same variant, which is no experiment")
    operator, arguments = targeting.operation()
    if operator == "fractional":
        return _fractional(arguments, terms)
    if operator == "if":
        return _if(arguments.items(), targeting, terms)
    return targeting.refuse(f"the operator {operator!r} does not split units; `fractional` does")


def _if(parts: list[Node], place: Node, terms: Terms) -> Split:
    if len(parts) < 2:
        place.refuse("`if` needs a condition and what follows from it")
    condition, then, otherwise = parts[0], parts[1], parts[2:]
    units = units_of(condition, terms.unit)
    if units is not None:
        return _pinned(units, then, otherwise, place, terms)
    found = split_of(then, terms)
    if found.pinned:
        then.refuse("units are pinned for some contexts only; an override holds in all")
    if len(otherwise) > 1 or not _is_default(otherwise, terms):
        otherwise[0].refuse(
            f"whom the rules leave out must get the default variant {terms.default!r} or null"
        )
    return Split(weights=found.weights, salt=found.salt, rules=(*rules_of(condition), *found.rules))


def _pinned(
    units: tuple[str, ...], then: Node, otherwise: list[Node], place: Node, terms: Terms
) -> Split:
    if not isinstance(then.value, str):
        then.refuse("a pinned unit gets one variant by name")
    _check_variant(then, terms)
    if "" in units:
        place.refuse("a unit with the id '' is no unit here")
    if not otherwise:
        place.refuse("splits nobody: there is no `fractional`")
    found = split_of(otherwise[0], terms) if len(otherwise) == 1 else _if(otherwise, place, terms)
    # The first condition that holds decides, so earlier pins win.
    return Split(
        weights=found.weights,
        salt=found.salt,
        rules=found.rules,
        pinned={**found.pinned, **dict.fromkeys(units, then.value)},
    )


def _fractional(arguments: Node, terms: Terms) -> Split:
    entries = arguments.items()
    by = None
    if entries and not isinstance(entries[0].value, list):
        by, entries = entries[0], entries[1:]
    salt = _salt(by, arguments, terms)
    weights: dict[str, int] = {}
    last = None
    for entry in entries:
        name, weight = _entry(entry, terms)
        if name in weights and name != last:
            entry.refuse(f"{name!r} has two parts of the range with others between them")
        weights[name] = weights.get(name, 0) + weight
        last = name
    if not sum(weights.values()):
        arguments.refuse("all weights are 0")
    return Split(weights=weights, salt=salt)


def _salt(by: Node | None, place: Node, terms: Terms) -> str:
    """The split's salt, in the words of `experiments.hashing.flagd`."""
    if by is None:
        if terms.unit != TARGETING_KEY:
            place.refuse(f"it splits by {TARGETING_KEY!r}, and the unit is {terms.unit!r}")
        return terms.key
    if by.variable() == terms.unit:
        return PLACE
    if not isinstance(by.value, dict) or list(by.value) != ["cat"]:
        by.refuse(f'must be {{"var": "{terms.unit}"}}, or a `cat` with it')
    salt = "".join(_salt_part(part, terms) for part in by["cat"].items())
    if salt.count(PLACE) != 1:
        by.refuse(f'must have {{"var": "{terms.unit}"}}, the unit, once')
    return salt


def _salt_part(part: Node, terms: Terms) -> str:
    if part.variable() == terms.unit:
        return PLACE
    if part.variable() == FLAG_KEY:
        return terms.key
    if not isinstance(part.value, str):
        part.refuse(f'must be text, the unit or {{"var": "{FLAG_KEY}"}}: the same for all units')
    return part.value


def _entry(entry: Node, terms: Terms) -> tuple[str, int]:
    parts = entry.items()
    if not 1 <= len(parts) <= 2:
        entry.refuse("must be a variant and perhaps a weight")
    _check_variant(parts[0], terms)
    weight = parts[1].value if len(parts) == 2 else 1
    if isinstance(weight, bool) or not isinstance(weight, int):
        parts[-1].refuse("must be a whole number")
    return parts[0].value, max(0, weight)  # flagd takes a negative weight for 0


def _check_variant(node: Node, terms: Terms) -> None:
    if not isinstance(node.value, str):
        node.refuse("must be a variant's name, not an expression")
    if node.value not in terms.variants:
        node.refuse(f"{node.value!r} is no variant of the flag")


def _is_default(otherwise: list[Node], terms: Terms) -> bool:
    return not otherwise or otherwise[0].value in (None, terms.default)
