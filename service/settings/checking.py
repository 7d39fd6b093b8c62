"""Everything that is wrong with settings, not only what is found first.

`load_settings` decodes the whole tree at once and stops at the first fault; here each setting is
decoded alone. Both read the same types, so a tree without problems loads.
"""

import difflib
import os
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect
from msgspec import Struct
from msgspec.structs import replace

from service.errors import StartupError
from service.settings.loading import (
    Override,
    choices,
    lay_over,
    overrides_of,
    parse_settings,
    reference_problems,
    variables_of,
)
from service.settings.places import Path as KeyPath
from service.settings.places import line_of, lines_of
from service.settings.tree import Settings


class SettingProblem(Struct, frozen=True, kw_only=True):
    """One thing that keeps settings from being used."""

    where: str
    """The file and line, environment variable or flag."""
    setting: str
    """Such as ``auth.keys[0].scopes``; empty if it is not about one."""
    reason: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.setting, self.reason) if part)


class CheckedSettings(Struct, frozen=True, kw_only=True):
    """What settings say, and what is wrong with it; without problems `load_settings` takes them."""

    file: Path
    tree: dict[str, Any]
    """As far as it could be read, unchecked: with the environment and the flags laid over."""
    lines: Mapping[KeyPath, int]
    overrides: tuple[Override, ...]
    problems: tuple[SettingProblem, ...]

    def where(self, path: KeyPath) -> str:
        """What set it: the override that holds it, else the line of the file."""
        for override in reversed(self.overrides):
            if path[: len(override.path)] == override.path:
                return override.source
        return place_of(self.file, self.lines, path)


def check_settings(
    file: Path,
    text: str,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[tuple[str, ...], object] | None = None,
) -> CheckedSettings:
    """Find everything that is wrong.

    Args:
        file, text, environ, flags: As for `load_settings`.
    """
    overrides, found = _overrides(environ, flags)
    checked = CheckedSettings(
        file=file, tree={}, lines={}, overrides=tuple(overrides), problems=tuple(found)
    )
    try:
        tree = parse_settings(file, text)
        for override in overrides:
            lay_over(tree, override, file)
    except StartupError as error:
        return replace(checked, problems=(*found, problem_of(error)))
    checked = replace(checked, tree=tree, lines=lines_of(text))
    found += [
        SettingProblem(where=checked.where(path), setting=words(path), reason=why)
        for path, why in problems_of(tree, Settings)
    ]
    if not found:
        found += [
            SettingProblem(where=str(file), setting="", reason=reason)
            for reason in reference_problems(msgspec.convert(tree, Settings))
        ]
    return replace(checked, problems=tuple(found))


def problem_of(error: Exception) -> SettingProblem:
    """One whose message says where it is."""
    return SettingProblem(where="", setting="", reason=str(error))


def place_of(file: Path, lines: Mapping[KeyPath, int], path: KeyPath) -> str:
    """The file and the line of a setting, or of the closest table around it."""
    line = line_of(lines, path)
    return str(file) if line is None else f"{file}:{line}"


def words(path: KeyPath) -> str:
    """Such as ``auth.keys[0].name``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def _overrides(
    environ: Mapping[str, str] | None, flags: Mapping[tuple[str, ...], object] | None
) -> tuple[list[Override], list[SettingProblem]]:
    """One at a time: one that is wrong must not hide the next."""
    ours = variables_of(os.environ if environ is None else environ)
    parts = [overrides_of({name: text}, {}) for name, text in ours.items()]
    parts += [overrides_of({}, {path: value}) for path, value in (flags or {}).items()]
    overrides, found = list[Override](), list[SettingProblem]()
    for part in parts:
        try:
            overrides.extend(part)
        except StartupError as error:
            source, _, reason = str(error).partition(": ")
            found.append(SettingProblem(where=source, setting="", reason=reason))
    return overrides, found


def problems_of(value: Any, kind: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Each place in a value where it is not what a type says, and why.

    Args:
        value: As a TOML file says it.
        kind: A struct, or what a field of one may be.
        path: Where the value is.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield from _struct(value, kind, path)
    elif origin in {types.UnionType, typing.Union} and value is not None:
        given = [one for one in arguments if one is not types.NoneType]
        yield from (
            problems_of(value, given[0], path) if len(given) == 1 else _alone(value, kind, path)
        )
    elif origin is dict and isinstance(value, dict):
        for name, inner in value.items():
            yield from problems_of(inner, arguments[1], (*path, name))
    elif origin is tuple and isinstance(value, list) and arguments[-1] is Ellipsis:
        for number, inner in enumerate(value):
            yield from problems_of(inner, arguments[0], (*path, number))
    else:
        yield from _alone(value, kind, path)


def _struct(value: Any, struct: type[Struct], path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Problems of a table: of its keys, or if those are fine of them together."""
    if not isinstance(value, dict):
        yield path, f"is a table of settings, [{words(path)}], not a value"
        return
    fields = {field.name: field for field in msgspec.structs.fields(struct)}
    found = [((*path, key), _unknown(key, fields)) for key in value if key not in fields]
    for name, field in fields.items():
        if name in value:
            found += problems_of(value[name], field.type, (*path, name))
        elif field.required:
            found.append(((*path, name), "is missing"))
    yield from found
    if not found:
        yield from _alone(value, struct, path)


def _alone(value: Any, kind: Any, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        text, _, place = str(error).partition(" - at `$")
        yield path, text + choices(kind, place)


def _unknown(key: str, fields: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(key, fields, n=1)
    return f"there is no such setting; {f'did you mean {near[0]}?' if near else _known(fields)}"


def _known(fields: Mapping[str, Any]) -> str:
    return f"there are {', '.join(fields)}"
