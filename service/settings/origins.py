"""The settings in effect, one by one, and where each comes from."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from service.settings.loading import load_settings, overrides_of, read_settings
from service.settings.places import Path as KeyPath
from service.settings.places import line_of, lines_of, paths_in
from service.settings.tree import Section

DEFAULT = "default"


class EffectiveSetting(Struct, frozen=True, kw_only=True):
    """One setting as it is in effect."""

    path: tuple[str | int, ...]
    value: Any
    source: str
    """``default``, ``podium.toml:12``, an environment variable, or a flag."""


def effective_settings(
    file: Path,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[tuple[str, ...], object] | None = None,
    flag_names: Mapping[tuple[str, ...], str] | None = None,
) -> tuple[EffectiveSetting, ...]:
    """Every setting in the order of the tree.

    Args:
        file, environ, flags: As for `load_settings`.
        flag_names: What the flag of a setting is called.

    Raises:
        StartupError: the settings cannot be used.
    """
    text = read_settings(file)
    loaded = load_settings(file, text=text, environ=environ, flags=flags)
    lines = lines_of(text)
    sources: dict[KeyPath, str] = {
        path: override.source
        for override in overrides_of(os.environ if environ is None else environ, {})
        for path in (override.path, *(override.path + inner for inner in paths_in(override.value)))
    }
    sources |= {path: (flag_names or {}).get(path, "flag") for path in flags or {}}
    return tuple(
        EffectiveSetting(path=path, value=value, source=_source(path, sources, lines, file))
        for path, value in _leaves(loaded.settings, ())
    )


def _leaves(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Every setting; an empty table or list is one as well."""
    if isinstance(value, Section):
        for field in msgspec.structs.fields(value):
            yield from _leaves(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(value, tuple) and value and isinstance(value[0], Section):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*path, number))
    else:
        yield path, msgspec.to_builtins(value)


def _source(
    path: KeyPath, sources: Mapping[KeyPath, str], lines: Mapping[KeyPath, int], file: Path
) -> str:
    if path in sources:
        return sources[path]
    if any(path[:length] in sources for length in range(1, len(path))):
        return DEFAULT  # a variable replaces its whole table, and does not say this key
    # A key of a table in the file is by default unless it stands there itself.
    line = line_of(lines, path) if path in lines else None
    return DEFAULT if line is None else f"{file}:{line}"
