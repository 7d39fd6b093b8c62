"""How a command ends that did not go well: one line, an exit code, and no traceback.

A fault of Podium itself keeps its traceback: whoever mends it needs that.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer
from typer.core import TyperGroup

from experiments.source import ExperimentInvalid
from ranking_models.errors import InputError
from service.cli.answers import Failure, FailureDocument, print_json, wants_json
from service.cli.exit_codes import ExitCode
from service.errors import StartupError

_NO_ARGUMENTS = "NoArgsIsHelpError"
"""Typer's, which it does not export."""


class Interrupted(Exception):
    """Ctrl-C."""


class PipeClosed(Exception):
    """Nobody reads standard output any more."""


class Commands(TyperGroup):
    """The commands, ended by Ctrl-C or a closed pipe in our words and not in Typer's."""

    def make_context(self, *arguments: Any, **named: Any) -> Any:
        with _our_words():
            return super().make_context(*arguments, **named)

    def invoke(self, ctx: Any) -> Any:
        with _our_words():
            return super().invoke(ctx)


@contextmanager
def _our_words() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None
    except BrokenPipeError:
        raise PipeClosed from None


def failure_of(error: Exception) -> tuple[str, ExitCode] | None:
    """What to tell a person, and the exit code; None for a fault of our own."""
    failure: tuple[str, ExitCode] | None = None
    match error:
        case typer.TyperException():
            failure = _usage(error), ExitCode.USAGE
        case StartupError() | ExperimentInvalid():
            failure = str(error), ExitCode.USAGE
        case InputError():
            failure = str(error), ExitCode.FAILED
        case UnicodeEncodeError():
            failure = "an argument has bytes that are no text in UTF-8", ExitCode.USAGE
        case ModuleNotFoundError(name=name):
            # Verbs import what they need when called; serving has no training stack.
            what = (
                f"this needs the Python package {name!r}, which is not installed: "
                "`make test` makes an environment with everything, `podium[train]` names it"
            )
            failure = what, ExitCode.FAILED
        case OSError(filename=file, strerror=reason):
            where = "" if file is None else f"{file}: "
            failure = f"{where}{reason or error}", ExitCode.FAILED
    return failure


def say_failed(arguments: list[str], message: str, code: ExitCode) -> int:
    """The line for a person, and for a program the document; the code to end with."""
    text = message.encode("utf-8", "backslashreplace").decode()  # a file's name may be no text
    line = " ".join(text.split())
    with suppress(OSError):  # nobody can be told; the code is the same
        print(f"podium: {line}", file=sys.stderr)
    if wants_json(arguments):
        with suppress(OSError):
            print_json(FailureDocument(error=Failure(exit_code=int(code), message=line)))
            sys.stdout.flush()
    return int(code)


def _usage(error: Any) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context else ""
    if type(error).__name__ == _NO_ARGUMENTS:
        print(error.format_message(), file=sys.stderr)
        return f"name a command{hint}"
    return f"{error.format_message()}{hint}"
