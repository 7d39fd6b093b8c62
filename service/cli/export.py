"""``podium export``: a trained run becomes a bundle."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Option(help="A run that podium train left.", metavar="DIR")],
    out: Annotated[Path, typer.Option(help="Folder of all bundles.", metavar="DIR")] = Path(
        "bundles"
    ),
    name: Annotated[
        str | None, typer.Option(help="The model's name. Without it: the run's.")
    ] = None,
) -> None:
    """Export a run to ONNX, prove it against PyTorch, and write its bundle.

    Example: podium export --run runs/movielens --name movielens
    """
    from datetime import UTC, datetime

    from ranking_models.export.to_bundle import export_run
    from ranking_models.run import load_run
    from service.clock import SystemClock

    trained = load_run(run)
    created = datetime.fromtimestamp(SystemClock().wall(), UTC)
    path = export_run(trained, out, name=name or trained.name, created=created)
    typer.echo(f"wrote {path}, proven against PyTorch; serve it as {path.parent.name}@{path.name}")
