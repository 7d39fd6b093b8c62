"""``podium bundle with-catalogue``: the same model with a new catalogue."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.answers import AsJson, print_json
from service.cli.bundle_location import locate, written_bundle


def with_catalogue(
    bundle: Annotated[
        str,
        typer.Option(help="A bundle's folder, or name or name@version.", metavar="BUNDLE"),
    ],
    items: Annotated[
        Path, typer.Option(help="The new catalogue: one row per item.", metavar="FILE")
    ],
    schema: Annotated[
        Path, typer.Option(help="schema.toml: what the columns mean.", metavar="FILE")
    ],
    bundles: Annotated[
        Path, typer.Option("--bundles", help="Folder of all bundles.", metavar="DIR")
    ] = Path("bundles"),
    as_json: AsJson = False,
) -> None:
    """Write a new version of a bundle with other items, without training.

    The file is the whole catalogue: items that it leaves out are removed.

    Example: podium bundle with-catalogue --bundle movielens --items items.parquet
    --schema schema.toml
    """
    from datetime import UTC, datetime

    from ranking_models.bundle import Bundle, write_bundle
    from ranking_models.onnx_runtime import onnx_runtime_scorer
    from ranking_models.with_catalogue import read_encoded
    from ranking_models.with_catalogue import with_catalogue as refreshed
    from service.clock import SystemClock

    opened = Bundle.open(locate(bundles, bundle))
    contents = refreshed(
        opened,
        read_encoded(items, schema, opened.schema, "item"),
        onnx_runtime_scorer(opened.graph("fp32")),
        created=datetime.fromtimestamp(SystemClock().wall(), UTC),
    )
    path = write_bundle(bundles, contents)
    counts = contents.lineage.options if contents.lineage else {}
    if as_json:
        return print_json({**written_bundle(path), "counts": counts})
    listed = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    return print(f"wrote {path}: {listed}; serve it as {path.parent.name}@{path.name}")
