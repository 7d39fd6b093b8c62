"""The examples of the help texts, as the commands that they are."""

import re
import shlex
from collections.abc import Iterator
from typing import Any


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, by its words."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield path, command
        return
    for name, found in inner.items():
        yield from leaves(found, (*path, name))


def split_help(text: str) -> tuple[str, list[str]]:
    """What a help text says, and the commands of its examples.

    An example begins with "Example: podium" or "Examples: podium", a further one is a paragraph
    that begins with "podium".
    """
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    is_example = re.compile(r"(Examples?: )?podium |Examples?:$")
    said = [p for p in paragraphs if p and not is_example.match(p)]
    shown = [re.sub(r"^Examples?: ?", "", p) for p in paragraphs if p not in said]
    return "\n\n".join(said), [example for example in shown if example]


def arguments_of(example: str) -> list[list[str]]:
    """What each ``podium`` of an example is called with."""
    parts = re.split(r"\s+&&\s+", example)
    return [shlex.split(part)[1:] for part in parts]
