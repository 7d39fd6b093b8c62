"""``podium experiment import-flagd``: flag definitions of flagd as experiments."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.answers import AsJson, print_json

if TYPE_CHECKING:
    from experiments.definition import Experiment


class FlagdHash(StrEnum):
    """How a flagd splits."""

    v2 = "flagd-v2"
    v3 = "flagd-v3"


def import_flagd(
    file: Annotated[Path, typer.Argument(help="flagd's JSON.", show_default=False)],
    hash_id: Annotated[
        FlagdHash,
        typer.Option(
            "--hash",
            help="How your flagd splits: v2 hashes text, v3 its CBOR. They disagree.",
            show_default=False,
        ),
    ],
    flag: Annotated[
        list[str] | None, typer.Option(help="Only this flag; may be repeated.", metavar="KEY")
    ] = None,
    unit: Annotated[
        str, typer.Option(help="The flagd variable that Podium gets as user id.", metavar="NAME")
    ] = "targetingKey",
    out: Annotated[
        Path | None, typer.Option(help="A new file; standard output without it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Writes experiments that give every unit the variant that flagd gives it.

    If one of the flags cannot be said exactly, nothing is written, and each
    such flag is named with the place and the reason.

    Example: podium experiment import-flagd flags.json --hash flagd-v2 --flag new-ranker
    """
    from experiments.flagd import Refused
    from experiments.flagd import import_flagd as imported
    from ranking_models.errors import InputError

    try:
        text = file.read_text(encoding="utf-8")
        found = imported(text, hash_id=hash_id.value, unit=unit, keys=flag or ())
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    except (UnicodeDecodeError, Refused) as error:
        raise InputError(f"{file}: {error}") from None
    if found.refused:
        for refusal in found.refused:
            typer.echo(f"{file}: {refusal}", err=True)
        raise InputError(
            f"{len(found.refused)} of {len(found.refused) + len(found.experiments)} flags of "
            f"{file} cannot be said exactly; name the others with --flag"
        )
    written = _checked(found.experiments, file)
    if out is not None:
        try:
            with out.open("x", encoding="utf-8") as lines:
                lines.write(written)
        except OSError as error:
            raise InputError(f"{out}: {error.strerror}") from None
    if as_json:
        keys = [experiment.key for experiment in found.experiments]
        print_json({"experiments": keys, "toml": written, "written": out})
    elif out is None:
        print(written, end="")


def _checked(experiments: "tuple[Experiment, ...]", file: Path) -> str:
    """The text, once it reads back as the very same experiments."""
    from experiments.source import ExperimentInvalid, parse_experiments
    from experiments.writing import to_toml
    from ranking_models.errors import InputError

    text = to_toml(experiments)
    try:
        read = parse_experiments(text, where=str(file))
    except ExperimentInvalid as error:  # alone they are valid, together they are not
        raise InputError(str(error)) from None
    assert read == experiments, "what is written reads back as it was"
    return text
