"""Where in a settings file a setting is: its line.

TOML's parser gives values without lines. A file is a row of statements, headers and assignments,
each of which is TOML by itself; so the parser itself says where one ends, and what it sets.
"""

import tomllib
from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any

Path = tuple[str | int, ...]
"""Keys of tables and numbers of lists, such as ``("auth", "keys", 0, "name")``."""


def lines_of(text: str) -> dict[Path, int]:
    """The line, from 1, of every table and key that a TOML text sets.

    Args:
        text: TOML that parses.
    """
    lines: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    table: Path = ()
    for line, statement, values in _statements(text):
        if statement.lstrip().startswith("["):
            table = _table(values, counts)
            _note(lines, table, line)
        for path in paths_in(values) if not statement.lstrip().startswith("[") else ():
            _note(lines, table + path, line)
    return lines


def line_of(lines: Mapping[Path, int], path: Path) -> int | None:
    """The line of a setting, or of the closest table around it that has one."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def _note(lines: dict[Path, int], path: Path, line: int) -> None:
    """The line, also of tables around it that have no line of their own."""
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], line)
    lines[path] = line


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """First line, text and values of each; a value may go over several lines."""
    begun, first = "", 1
    for number, line in enumerate(StringIO(text), start=1):
        if not begun:
            first = number
        begun += line
        try:
            values = tomllib.loads(begun)
        except tomllib.TOMLDecodeError:
            continue
        if values:
            yield first, begun, values
        begun = ""


def _table(values: dict[str, Any], counts: dict[Path, int]) -> Path:
    """What a header opens; each ``[[a.b]]`` opens the next of its list."""
    path: Path = ()
    here: Any = values
    while here:
        if isinstance(here, list):
            counts[path] = counts.get(path, -1) + 1
            path += (counts[path],)
            here = here[0]
            continue
        (key,) = here
        path += (key,)
        here = here[key]
        if path in counts and isinstance(here, dict):
            path += (counts[path],)
    return path


def paths_in(value: Any) -> Iterator[Path]:
    """Of everything in a value, itself first."""
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, found in inner:
        yield (key,)
        for path in paths_in(found):
            yield (key, *path)
