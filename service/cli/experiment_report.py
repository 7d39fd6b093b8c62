"""``podium experiment report``: on the terminal, as a page, as JSON, or as a notebook."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.calls import call


def report(
    key: Annotated[str, typer.Argument(help="The experiment's key.")],
    html: Annotated[
        Path | None, typer.Option(help="Write it as one page that needs nothing else.")
    ] = None,
    notebook: Annotated[
        Path | None,
        typer.Option(help="Write a notebook (.ipynb) that computes its figures again."),
    ] = None,
    url: Annotated[
        str, typer.Option(help="Where the service listens.", metavar="URL")
    ] = "http://127.0.0.1:8080",
    api_key: Annotated[
        str | None, typer.Option(envvar="PODIUM_API_KEY", help="API key with the scope `read`.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The service's JSON answer as it is.")
    ] = False,
) -> None:
    """The verdict on an experiment, and all that it rests on: CTR, latency, split, decisions.

    Examples: podium experiment report demo-ranker

    podium experiment report demo-ranker --html report.html
    """
    from urllib.parse import quote

    from experiments import report as reports

    if (html is not None) + (notebook is not None) + as_json > 1:
        raise typer.BadParameter("give one of --html, --notebook and --json")
    path = f"/v1/experiments/{quote(key, safe='')}/report?format=json"
    body, found = call(url, path, api_key, reports.Report)
    if html is not None:
        return _written(html, reports.render_html(found))
    if notebook is not None:
        sums = f"{path}&statistics=true"
        return _written(notebook, reports.notebook(found, url=url, path=sums))
    return print(body if as_json else reports.render_text(found))


def _written(file: Path, text: str) -> None:
    from ranking_models.errors import InputError

    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    print(f"wrote {file}")
