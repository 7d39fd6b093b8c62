"""Conditions of JSON Logic as targeting rules, where both always answer the same.

JSON Logic converts before it compares: a missing value is 0 for ``<``, ``"5" == 5``
holds, and ``!=`` holds for who names no value at all. Our rules compare values of
one type and fail on missing ones. So only those conditions map for which that
makes no difference.
"""

from experiments.flagd.places import TARGETING_KEY, Node
from experiments.targeting import Rule

_CONVERTED = ("", "true", "false", "null", "infinity", "-infinity", "nan")


def rules_of(condition: Node) -> tuple[Rule, ...]:
    """The rules that hold together where the condition holds.

    Raises:
        Refused: there are none that always say the same.
    """
    operator, arguments = condition.operation()
    match operator:
        case "and":
            parts = arguments.items()
            if not parts:
                arguments.refuse("holds for nobody without a condition, and rules for everybody")
            return tuple(rule for part in parts for rule in rules_of(part))
        case "==" | "===":
            return (_equality(arguments, strict=operator == "==="),)
        case "in":
            field, listed = _field_and_value(arguments)
            return (_rule(arguments, field, "in", _texts(listed)),)
        case "starts_with":
            field, prefix = _field_and_value(arguments)
            if not isinstance(prefix.value, str):
                prefix.refuse("must be text")
            return (_rule(arguments, field, "starts_with", prefix.value),)
    return condition.refuse(f"the operator {operator!r} has no rule that always answers the same")


def units_of(condition: Node, unit: str) -> tuple[str, ...] | None:
    """The ids that the condition picks out one by one; None if it is about something else."""
    if not isinstance(condition.value, dict) or list(condition.value) not in (
        ["=="],
        ["==="],
        ["in"],
    ):
        return None
    operator, arguments = condition.operation()
    sides = arguments.items()
    about = [side.variable() for side in sides]
    if unit not in about:
        return None
    if operator == "in":
        if about != [unit, None]:
            arguments.refuse("a text is searched for the unit; only a list of units maps")
        return _texts(sides[1])
    others = [side.value for side, name in zip(sides, about, strict=True) if name != unit]
    if len(sides) != 2 or len(others) != 1 or not isinstance(others[0], str):
        arguments.refuse("a unit is compared with one text")
    return (others[0],)


def _equality(arguments: Node, *, strict: bool) -> Rule:
    sides = arguments.items()
    if len(sides) == 2 and sides[0].variable() is None and sides[1].variable() is not None:
        sides.reverse()
    field, value = _field_and_value(arguments, sides)
    given = value.value
    if isinstance(given, bool) and strict:
        return _rule(arguments, field, "==", given)
    if not isinstance(given, str):
        value.refuse("is compared with conversion, so only texts (and truths by '===') map")
    if not strict and _converts(given):
        value.refuse(f"{given!r} also equals a number or a truth by '=='; '===' does not")
    return _rule(arguments, field, "==", given)


def _field_and_value(arguments: Node, sides: list[Node] | None = None) -> tuple[str, Node]:
    sides = arguments.items() if sides is None else sides
    if len(sides) != 2:
        arguments.refuse(f"must have 2 arguments, has {len(sides)}")
    field = sides[0].variable()
    if field is None:
        sides[0].refuse('must be {"var": name}')
    if field == TARGETING_KEY or field.startswith("$flagd."):
        sides[0].refuse(f"{field!r} is not in the context of a request")
    if "." in field:
        sides[0].refuse(f"{field!r} is nested; the context of a request is flat")
    return field, sides[1]


def _texts(listed: Node) -> tuple[str, ...]:
    if not isinstance(listed.value, list) or not all(isinstance(v, str) for v in listed.value):
        listed.refuse("must be a list of texts; numbers are told apart differently by SDKs")
    return tuple(listed.value)


def _rule(place: Node, field: str, operator: str, value: str | bool | tuple[str, ...]) -> Rule:
    try:
        return Rule(field, operator, value)  # type: ignore[arg-type]  # one of the three above
    except ValueError as problem:
        return place.refuse(str(problem))


def _converts(text: str) -> bool:
    """Whether JSON Logic's ``==`` may take the text for a number or a truth."""
    stripped = text.strip().lower()
    if stripped in _CONVERTED or stripped.startswith(("0x", "0b", "0o")):
        return True
    try:
        float(stripped)
    except ValueError:
        return False
    return True
