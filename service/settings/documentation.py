"""What a setting means, what it may be, and what it is by default: read from the tree itself."""

import ast
import inspect
import itertools
import typing
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import msgspec.inspect
from msgspec import Struct

from service.settings import tree
from service.settings.tree import Section, Settings

NAME = "<name>"
"""Stands for a name that the settings file chooses."""


class SettingDoc(Struct, frozen=True, kw_only=True):
    """One setting, as its documentation says it."""

    path: tuple[str, ...]
    """Such as ``("server", "port")`` or ``("deployments", "<name>", "model")``."""
    kind: str
    """What it may be, with its limits."""
    default: Any
    """UNSET where there is none: it has to be given."""
    text: str
    variable: str | None
    """The environment variable that sets it, where one can."""


class SectionDoc(Struct, frozen=True, kw_only=True):
    """A table of the settings file."""

    path: tuple[str, ...]
    text: str
    settings: tuple[SettingDoc, ...]


@cache
def sections() -> tuple[SectionDoc, ...]:
    """All tables in the order of the tree; what stands in none comes first."""
    return (_section((), Settings), *_inner((), Settings))


def documentation_of(path: tuple[str, ...]) -> SettingDoc | None:
    """Of one setting, under whatever name its table is."""
    for section in sections():
        for setting in section.settings:
            if len(setting.path) == len(path) and all(
                ours in (theirs, NAME) for ours, theirs in zip(setting.path, path, strict=True)
            ):
                return setting
    return None


def table_type(field_type: Any) -> tuple[type[Section], tuple[str, ...]] | None:
    """The tables that a setting holds, and what comes before their keys; None if it holds none."""
    if isinstance(field_type, type) and issubclass(field_type, Section):
        return field_type, ()
    origin, arguments = typing.get_origin(field_type), typing.get_args(field_type)
    if origin in {dict, tuple} and isinstance(arguments[-1 if origin is dict else 0], type):
        inner = arguments[-1] if origin is dict else arguments[0]
        if issubclass(inner, Section):
            return inner, (NAME,) if origin is dict else ()
    return None


def _inner(path: tuple[str, ...], struct: type[Section]) -> Iterator[SectionDoc]:
    for field in msgspec.structs.fields(struct):
        held = table_type(field.type)
        if held is not None:
            inner, name = held
            below = (*path, field.name, *name)
            yield _section(below, inner)
            yield from _inner(below, inner)


def _section(path: tuple[str, ...], struct: type[Section]) -> SectionDoc:
    words = _words(struct.__name__)
    settings = tuple(
        _setting((*path, field.name), field, words.get(field.name, ""))
        for field in msgspec.structs.fields(struct)
        if table_type(field.type) is None
    )
    return SectionDoc(path=path, text=inspect.cleandoc(struct.__doc__ or ""), settings=settings)


def _setting(path: tuple[str, ...], field: Any, text: str) -> SettingDoc:
    nested = len(path) > 2 or "auth" in path
    return SettingDoc(
        path=path,
        kind=kind_words(msgspec.inspect.type_info(field.type)),
        default=_default(field),
        text=text,
        variable=None if nested else "PODIUM_" + "__".join(path).upper(),
    )


def _default(field: Any) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default)
    if field.default_factory is not msgspec.NODEFAULT:
        return msgspec.to_builtins(field.default_factory())
    return msgspec.UNSET


@cache
def _words(struct: str) -> dict[str, str]:
    """Field to what the tree says under it, on one line."""
    source = ast.parse(inspect.getsource(tree))
    (body,) = (n.body for n in source.body if isinstance(n, ast.ClassDef) and n.name == struct)
    found: dict[str, str] = {}
    for field, after in itertools.pairwise(body):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(after.value.value).split())
    return found


def kind_words(kind: Any) -> str:
    """A type in words, such as "whole number from 0 to 65535"."""
    words = "text"
    match kind:
        case msgspec.inspect.Metadata(type=inner):
            words = kind_words(inner)
        case msgspec.inspect.UnionType(types=types):
            some = [kind_words(t) for t in types if not isinstance(t, msgspec.inspect.NoneType)]
            words = f"{' or '.join(some)}, or not set"
        case msgspec.inspect.BoolType():
            words = "true or false"
        case msgspec.inspect.IntType():
            words = f"whole number{_range(kind)}"
        case msgspec.inspect.FloatType():
            words = f"number{_range(kind)}"
        case msgspec.inspect.LiteralType(values=values):
            words = "one of " + ", ".join(f'"{value}"' for value in values)
        case msgspec.inspect.VarTupleType(item_type=item):
            least = ", at least one" if kind.min_length else ""
            words = f"list{least}, each {kind_words(item)}"
        case msgspec.inspect.DictType(value_type=value):
            words = f"table of name = {kind_words(value)}"
        case msgspec.inspect.StrType(pattern=pattern) if pattern:
            words = f"text of the form `{pattern}`"
    return words


def _range(kind: Any) -> str:
    low = (
        f" above {kind.gt:g}"
        if kind.gt is not None
        else f" from {kind.ge:,}"
        if kind.ge is not None
        else ""
    )
    if kind.le is None:
        return low
    return f"{low} {'to' if kind.ge is not None else 'and at most'} {kind.le:,}"
