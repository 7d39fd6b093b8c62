"""The ``podium`` command: one file per verb, no logic of its own.

Exit codes: 0 done; 1 failed; 2 wrong usage or settings; 130 interrupted.
Every failure that a person can cause is one line on standard error.
"""

import sys

import typer

from experiments.source import ExperimentInvalid
from ranking_models.errors import InputError
from service.cli import (
    bench,
    bundle,
    cache,
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
from service.errors import StartupError

app = typer.Typer(
    name="podium",
    help="A recommendation ranking service: ordered slates inside a deadline.",
    no_args_is_help=True,
    add_completion=False,
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
app.command("doctor")(doctor.doctor)
app.command("compile")(compile_verb.compile)
app.command("demo-bundle")(demo_bundle.demo_bundle)

app.add_typer(data.app, name="data")
app.add_typer(bundle.app, name="bundle")
app.add_typer(cache.app, name="cache")
experiment.app.command("import-flagd")(experiment_import.import_flagd)
experiment.app.command("replay")(experiment_replay.replay)
app.add_typer(experiment.app, name="experiment")


def main() -> None:
    """Run the command line and turn failures into one line and an exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of one command."""
    try:
        code = app(arguments, prog_name="podium", standalone_mode=False)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)  # of usage errors
        hint = f" (see {context.command_path} --help)" if context else ""
        return _fail(f"{error.format_message()}{hint}", error.exit_code)
    except (StartupError, ExperimentInvalid) as error:
        return _fail(str(error), 2)
    except InputError as error:
        return _fail(str(error), 1)
    except ModuleNotFoundError as error:
        # Verbs import what they need when called; serving has no training stack.
        return _fail(
            f"this needs the Python package {error.name!r}, which is not installed: "
            "`make test` makes an environment with everything, `podium[train]` names it",
            1,
        )
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print("podium: " + " ".join(message.split()), file=sys.stderr)
    return code
