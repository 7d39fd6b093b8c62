"""The ``podium`` command: one file per verb, no logic of its own.

Every failure that a person can cause is one line on standard error; with ``--json`` it is a
document on standard output besides. `exit_codes` has the exit codes.
"""

import os
import sys
from functools import lru_cache
from typing import Annotated, Any

import typer

from service.cli import (
    bench,
    bundle,
    cache,
    capacity,
    config,
    data,
    demo,
    demo_bundle,
    distil,
    doctor,
    evaluate,
    experiment,
    experiment_import,
    experiment_replay,
    export,
    prune,
    quantise,
    serve,
    simulate,
    train,
)
from service.cli import compile as compile_verb
from service.cli.ending import Commands, Interrupted, PipeClosed, failure_of, say_failed
from service.cli.exit_codes import EPILOG, ExitCode
from service.cli.finite import finite

app = typer.Typer(
    name="podium",
    cls=Commands,
    help="A recommendation ranking service: ordered slates inside a deadline.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("simulate")(simulate.simulate)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.command("prune")(prune.prune)
app.command("distil")(distil.distil)
app.command("quantise")(quantise.quantise)
app.command("bench")(bench.bench)
app.command("capacity")(capacity.capacity)
app.command("doctor")(doctor.doctor)
app.command("compile")(compile_verb.compile)
app.command("demo-bundle")(demo_bundle.demo_bundle)

app.add_typer(data.app, name="data")
app.add_typer(bundle.app, name="bundle")
app.add_typer(cache.app, name="cache")
experiment.app.command("import-flagd")(experiment_import.import_flagd)
experiment.app.command("replay")(experiment_replay.replay)
app.add_typer(experiment.app, name="experiment")
app.add_typer(config.app, name="config")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"podium {version('podium')}")
        raise typer.Exit


@app.callback()
def podium(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """A recommendation ranking service: ordered slates inside a deadline."""


def main() -> None:
    """Run the command line and turn failures into one line and an exit code."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A file's name can hold bytes that are no text: shown, and nothing fails.
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    if code == ExitCode.PIPE_CLOSED:
        # Else the interpreter tries to write what is left, and complains.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _open_closed_streams() -> None:
    """A shell's ``>&-``: else the next file that is opened would be standard output."""
    for number, mode in ((0, "r"), (1, "w"), (2, "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, this one
            setattr(sys, ("stdin", "stdout", "stderr")[number], os.fdopen(number, mode))


def run(arguments: list[str]) -> int:
    """The exit code of one command."""
    try:
        code = command()(arguments, prog_name="podium", standalone_mode=False)
        sys.stdout.flush()
    except (typer.Abort, Interrupted, KeyboardInterrupt):
        return say_failed(arguments, "interrupted", ExitCode.INTERRUPTED)
    except (PipeClosed, BrokenPipeError):
        return ExitCode.PIPE_CLOSED
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        return say_failed(arguments, *failure)
    return code if isinstance(code, int) else ExitCode.DONE


@lru_cache
def command() -> Any:
    """The whole tree of commands; each says in its help how it ends."""
    root: Any = typer.main.get_command(app)
    _complete(root)
    return root


def _complete(command: Any) -> None:
    """What holds for every command, whoever wrote it."""
    command.epilog = EPILOG
    for parameter in command.params:
        parameter.callback = parameter.callback or finite
    for inner in getattr(command, "commands", {}).values():
        _complete(inner)
