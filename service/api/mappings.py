"""Which key of a mapping is wrong: msgspec says ``$.context[...]`` and does not name it."""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ranking_models.schema import FeatureValue
from service.errors import split_place
from service.messages import Text

_SOME_KEY: Final = "[...]"
_VALUES: Final[dict[str, Any]] = {
    "context": list[FeatureValue],
    "features": list[FeatureValue],
    "force": list[Text],
    "external": list[Text],
}
"""What the mappings of a ranking request hold, by the name of their field."""
_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]")


def named_place(body: bytes, path: str) -> str:
    """The path with the key for ``[...]``: of the first value that its mapping cannot hold."""
    before, mark, _ = path.partition(_SOME_KEY)
    kind = _VALUES.get(before.rpartition(".")[2])
    if not mark or kind is None:
        return path
    mapping = _mapping_at(body, before)
    try:
        # As a list, because the place in a list has a number.
        msgspec.convert([*mapping.values()], kind)
    except msgspec.ValidationError as error:
        _, place = split_place(error)
        number, _, within = place.removeprefix("$[").partition("]")
        return f"{before}.{[*mapping][int(number)]}{within}"
    return path  # the key is there twice, and the value that came last is well


def _mapping_at(body: bytes, path: str) -> Mapping[str, Any]:
    """What the body holds there; nothing where that cannot be told."""
    try:
        value = msgspec.json.decode(body)
        for name, index in _STEP.findall(path):
            value = value[int(index)] if index else value[name]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return {}  # broken behind the mistake, or a field is there twice
    return value if isinstance(value, dict) else {}
