"""``podium bundle import``: somebody else's ONNX ranker becomes a bundle."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.answers import AsJson, print_json
from service.cli.bundle_location import written_bundle


def import_(
    model: Annotated[Path, typer.Argument(help="The ONNX file.", metavar="FILE")],
    schema: Annotated[
        Path,
        typer.Option(
            help="JSON: the model's features, as `schema` of a bundle's manifest.", metavar="FILE"
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            help="Folder of a labelled log that the model was not trained on, with all items "
            "and users and its schema.toml.",
            metavar="DIR",
        ),
    ],
    name: Annotated[str, typer.Option(help="The model's name.")],
    out: Annotated[Path, typer.Option(help="Folder of all bundles.", metavar="DIR")] = Path(
        "bundles"
    ),
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", help="Their input's name and ours, where they differ.", metavar="THEIRS=OURS"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a ranker from elsewhere, prove it on ONNX Runtime, and write its bundle.

    Example: podium bundle import ranker.onnx --schema features.json --data logs --name ranker
    --input numbers=dense
    """
    from datetime import UTC, datetime

    from ranking_models.bundle import write_bundle
    from ranking_models.logs import log_files_in, read_logs
    from ranking_models.onnx_import import import_ranker, read_schema
    from service.clock import SystemClock

    pairs = [text.partition("=") for text in inputs or []]
    if not all(theirs and ours for theirs, _, ours in pairs):
        raise typer.BadParameter("write --input as theirs=ours, such as numbers=dense")
    contents = import_ranker(
        model,
        read_schema(schema),
        read_logs(log_files_in(data)),
        inputs={theirs: ours for theirs, _, ours in pairs},
        name=name,
        created=datetime.fromtimestamp(SystemClock().wall(), UTC),
    )
    path = write_bundle(out, contents)
    quality = contents.quality
    if as_json:
        return print_json({**written_bundle(path), "quality": quality})
    measured = f"AUC {quality.auc:.4f} and log loss {quality.log_loss:.4f} on {quality.rows:,} rows"
    return print(f"wrote {path}: {measured}; serve it as {path.parent.name}@{path.name}")
