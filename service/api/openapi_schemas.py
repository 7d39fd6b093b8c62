"""The schemas of the OpenAPI document: every message, with what its docstrings say of its fields.

They come from msgspec and not from the framework, which names types by their modules where two
share a name, leaves out defaults and bounds, and does not know of ``UNSET``.
"""

import ast
import inspect
import sys
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import Any, Final

import msgspec
from msgspec import Struct

from experiments.report import Report
from experiments.standing import Standing
from ranking_models.manifest import Interval as ManifestInterval
from service.api.openapi_problems import codes
from service.health import Readiness
from service.messages import (
    DecisionsReply,
    EventsReply,
    ExperimentChange,
    ExperimentReply,
    ExperimentsReply,
    FeedbackEvent,
    ForceToken,
    ForceTokenRequest,
    ModelsReply,
    ModelVersion,
    Problem,
    RankReply,
    RankRequest,
)
from service.warming.values import CacheFlushed, CacheView, EntryView, WarmReply, WarmRequest

REQUEST_BODIES: Final[tuple[type[Struct], ...]] = (
    RankRequest,
    FeedbackEvent,
    ExperimentChange,
    ForceTokenRequest,
    ModelVersion,
    WarmRequest,
)
"""What bodies of requests hold; what these are made of comes along. Unknown fields are refused."""
REPLY_BODIES: Final[tuple[type[Struct], ...]] = (
    RankReply,
    EventsReply,
    ExperimentsReply,
    ExperimentReply,
    Standing,
    DecisionsReply,
    Report,
    ForceToken,
    ModelsReply,
    WarmReply,
    CacheFlushed,
    CacheView,
    EntryView,
    Readiness,
    Problem,
)
"""The same of answers. The next version may have more fields than the document tells."""
REFERENCE: Final = "#/components/schemas/{name}"
_CLOSED: Final = "additionalProperties"


def schemas() -> dict[str, Any]:
    """Schema by name and title; the name of a struct is its own, without its module."""
    messages = (*REQUEST_BODIES, *REPLY_BODIES)
    _, found = msgspec.json.schema_components(messages, ref_template=REFERENCE)
    every, asked = _structs(messages), _structs(REQUEST_BODIES)
    structs = {name: struct for struct in every for name in _names(struct) if name in found}
    plain = {name: _name(structs[name]) for name in found}
    named = {
        plain[name]: _described(schema, structs[name], closed=structs[name] in asked)
        for name, schema in found.items()
    }
    named["Problem"]["properties"]["code"]["enum"] = codes()
    finished: dict[str, Any] = _finished(named, plain)
    return finished


def _names(struct: type[Struct]) -> tuple[str, str]:
    """Both names that msgspec may give it: the second where another struct has the first."""
    return struct.__name__, f"{struct.__module__}.{struct.__qualname__}"


def _name(struct: type[Struct]) -> str:
    return "ManifestInterval" if struct is ManifestInterval else struct.__name__


def _structs(messages: tuple[type[Struct], ...]) -> list[type[Struct]]:
    """The messages and every struct within them."""
    found: dict[type[Struct], None] = {}

    def visit(kind: object) -> None:
        if isinstance(kind, type) and issubclass(kind, Struct):
            if kind in found:
                return
            found[kind] = None
            for field in msgspec.structs.fields(kind):
                visit(field.type)
        for part in getattr(kind, "__args__", ()):
            visit(part)

    for message in messages:
        visit(message)
    return list(found)


def _described(schema: dict[str, Any], struct: type[Struct], *, closed: bool) -> dict[str, Any]:
    """The schema with the docstring of each field, and its own without line breaks.

    Args:
        closed: Whether other fields are refused. Some clients would refuse the answers of a newer
            service by it.
    """
    properties = {
        name: _with_words(field, field_docs(struct).get(name))
        for name, field in schema["properties"].items()
    }
    words = " ".join((inspect.getdoc(struct) or "").replace("``", "`").split())
    told = {**schema, "title": _name(struct), "description": words, "properties": properties}
    return told if closed else {key: one for key, one in told.items() if key != _CLOSED}


def _with_words(field: dict[str, Any], words: str | None) -> dict[str, Any]:
    if words is None:
        return field
    own = field.get("description")
    return {**field, "description": words if own is None else f"{own} {words}"}


def field_docs(struct: type[Struct]) -> dict[str, str]:
    """What the strings under the fields of a struct say, those that it inherits included."""
    told: dict[str, str] = {}
    for base in reversed(struct.__mro__):
        if issubclass(base, Struct) and base is not Struct:
            told |= _docs_of_module(sys.modules[base.__module__]).get(base.__name__, {})
    return told


@cache
def _docs_of_module(module: ModuleType) -> dict[str, dict[str, str]]:
    """Class to field to the string under it. Of a whole module: each look reads its source."""
    definitions = ast.parse(inspect.getsource(module)).body
    return {one.name: _docs_of(one) for one in definitions if isinstance(one, ast.ClassDef)}


def _docs_of(definition: ast.ClassDef) -> dict[str, str]:
    told: dict[str, str] = {}
    for field, words in pairwise(definition.body):
        match field, words:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                told[name] = " ".join(text.replace("``", "`").split())
    return told


def _finished(value: Any, names: dict[str, str]) -> Any:
    """The value with every reference by the plain name, and in words that generators know.

    Some need the type of every list of words, which msgspec leaves out; and some know nothing of
    ``prefixItems``, which say no more of a tuple of one type than its length does.
    """
    if isinstance(value, list):
        return [_finished(one, names) for one in value]
    if not isinstance(value, dict):
        return value
    if isinstance(reference := value.get("$ref"), str):
        name = reference.rpartition("/")[2]
        value = {**value, "$ref": REFERENCE.format(name=names[name])}
    if isinstance(words := value.get("enum"), list) and all(isinstance(w, str) for w in words):
        value = {"type": "string", **value}
    first, *others = value.get("prefixItems", [None])
    if first is not None and all(other == first for other in others):
        value = {key: one for key, one in value.items() if key != "prefixItems"} | {"items": first}
    return {key: _finished(one, names) for key, one in value.items()}
