"""Context features on the command line: ``--surface item --context device=ios``."""

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


def query_of(surface: str | None, pairs: list[str] | None) -> dict[str, str]:
    """The context as text by name.

    Raises:
        BadParameter: not a pair, or a name that is there twice.
    """
    found = {} if surface is None else {"surface": surface}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"--context takes NAME=VALUE, got {pair!r}")
        if name in found:
            raise typer.BadParameter(f"{name} is there twice")
        found[name] = value
    return found
