"""Whose item pages, on the command line: ``--surface item --context device=ios``."""

from typing import Annotated

import typer

Surface = Annotated[
    str | None, typer.Option(help="The surface, as requests give it.", metavar="NAME")
]
Context = Annotated[
    list[str] | None,
    typer.Option(
        "--context",
        help="A context feature, as requests give it; repeatable.",
        metavar="NAME=VALUE",
    ),
]
Variant = Annotated[
    list[str] | None,
    typer.Option(
        "--variant",
        help="A variant of an experiment, instead of --deployment: the pages that it serves, and "
        "its own entries where the experiment isolates them; repeatable.",
        metavar="EXPERIMENT=NAME",
    ),
]


def query_of(surface: str | None, pairs: list[str] | None) -> dict[str, str]:
    """The context as text by name.

    Raises:
        BadParameter: not a pair, or a name that is there twice.
    """
    return _added(
        {} if surface is None else {"surface": surface}, pairs, "--context takes NAME=VALUE"
    )


def forced_by(pairs: list[str] | None) -> dict[str, str]:
    """Experiment key to variant.

    Raises:
        BadParameter: not a pair, or an experiment that is there twice.
    """
    return _added({}, pairs, "--variant takes EXPERIMENT=NAME")


def _added(found: dict[str, str], pairs: list[str] | None, takes: str) -> dict[str, str]:
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"{takes}, got {pair!r}")
        if name in found:
            raise typer.BadParameter(f"{name} is there twice")
        found[name] = value
    return found
