"""``podium quantise``: a bundle gets INT8 graphs."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.answers import AsJson, print_json, print_lines
from service.cli.bundle_location import written_bundle

if TYPE_CHECKING:
    from ranking_models.bundle import Bundle
    from ranking_models.export.variants import Precision
    from ranking_models.manifest import Variant
    from ranking_models.quantisation.of_bundle import Material


def quantise(
    bundle: Annotated[str, typer.Option(help="A model, or model@version.", metavar="NAME")],
    bundles: Annotated[
        Path, typer.Option("--bundles", help="Folder of all bundles.", metavar="DIR")
    ] = Path("bundles"),
    run: Annotated[
        Path | None,
        typer.Option(
            help="The run that was exported: it has rows set apart for this.", metavar="DIR"
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Without a run: a click log that the model was not trained on.", metavar="DIR"
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(help="Comma-separated: cpu (ONNX Runtime), trt (TensorRT).", metavar="NAMES"),
    ] = "cpu,trt",
    out: Annotated[
        Path | None,
        typer.Option(help="Write the new version here. Default: --bundles.", metavar="DIR"),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write what fails its gate too; the manifest will say so."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Quantise a bundle's model to INT8 and write a new version that has it besides.

    The layers that it would harm most stay in higher precision.

    Example: podium quantise --bundle movielens --run runs/movielens
    """
    from datetime import UTC, datetime

    from ranking_models.bundle import Bundle, find_bundle, write_bundle
    from ranking_models.quantisation.of_bundle import with_variants
    from service.cli.export_progress import drawn_export
    from service.clock import SystemClock

    if (run is None) == (data is None):
        raise typer.BadParameter("name rows to calibrate on: either --run DIR or --data DIR")
    precisions = _precisions(target)
    opened = Bundle.open(find_bundle(bundles, bundle))
    material = material_for(opened, run, data)
    with drawn_export(sys.stderr) as progress:
        contents = with_variants(
            opened,
            material,
            precisions,
            created=datetime.fromtimestamp(SystemClock().wall(), UTC),
            force=force,
            progress=progress,
        )
    path = write_bundle(out or bundles, contents)
    written = Bundle.open(path).manifest.precisions
    if as_json:
        made = {precision: written[precision] for precision in precisions}
        return print_json({**written_bundle(path), "precisions": made})
    for precision in precisions:
        print_lines(_lines(precision, written[precision]))
    return print(f"wrote {path}; serve it as {path.parent.name}@{path.name}")


def _precisions(target: str) -> "tuple[Precision, ...]":
    known: dict[str, Precision] = {"cpu": "int8-cpu", "trt": "int8-trt"}
    names = [name.strip() for name in target.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise typer.BadParameter(f"--target {unknown[0]!r}: there are cpu and trt")
    return tuple(precision for name, precision in known.items() if name in names)


def material_for(bundle: "Bundle", run: Path | None, data: Path | None) -> "Material":
    """Rows to calibrate and measure a bundle's graphs on: of its run, or of a log."""
    from ranking_models.quantisation.of_bundle import material_of_log, material_of_run

    if run is not None:
        from ranking_models.run import load_run

        return material_of_run(load_run(run), bundle)
    from ranking_models.logs import log_files_in, read_logs

    return material_of_log(read_logs(log_files_in(Path(str(data)))), bundle)


def _lines(precision: str, variant: "Variant") -> Iterator[str]:
    """How the graph came about, layer by layer, and what the gate says."""
    from service.cli.gate_lines import key_figures, verdict

    made, gate = variant.quantisation, variant.gate
    if made is None or gate is None:  # every new INT8 graph has both
        return
    yield (
        f"{precision}: {made.activations} activations, ranges by {made.calibration} "
        f"of {made.calibration_rows:,} rows"
    )
    width = max(len(layer.layer) for layer in made.layers)
    for layer in made.layers:
        how = made.kept_precision if layer.kept else "int8"
        alone = f"alone in int8 {layer.mean_difference:.1e} mean score difference"
        yield f"  {layer.layer.ljust(width)}  {how}  {alone}"
    yield f"  gate {verdict(gate)}: {key_figures(gate)}"
    for failure in gate.failures:
        yield f"  failed: {failure}"
