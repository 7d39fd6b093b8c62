"""What a command prints for programs: one JSON document on standard output, and nothing else.

With ``--json`` a failure is a document too, ``{"error": {"exit_code": 2, "message": "..."}}``,
besides the line on standard error that there is in any case.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from msgspec import Struct

JSON = "--json"

AsJson = Annotated[
    bool, typer.Option(JSON, help="Print one JSON document in place of text for people.")
]


class Failure(Struct, frozen=True, kw_only=True):
    """How a command failed."""

    exit_code: int
    message: str


class FailureDocument(Struct, frozen=True, kw_only=True):
    """What stands in place of an answer."""

    error: Failure


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether a program reads the answer, by the arguments as they are: also of wrong ones."""
    ours = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return JSON in ours


def print_json(answer: object) -> None:
    """The whole answer of a command."""
    print_json_text(msgspec.json.format(msgspec.json.encode(answer, enc_hook=_plain), indent=2))


def print_json_text(document: bytes) -> None:
    """An answer that is JSON already, as it is."""
    sys.stdout.write(document.decode().rstrip() + "\n")


def print_lines(lines: Iterable[str]) -> None:
    """The same for people."""
    for line in lines:
        print(line)


def _plain(value: object) -> object:
    """Paths as text; of other things that are no JSON none is ever answered."""
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")
