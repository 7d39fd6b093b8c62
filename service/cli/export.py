"""``podium export``: a trained run becomes a bundle, in the precisions asked for."""

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from service.cli.aligned import aligned
from service.cli.answers import AsJson, print_json, print_lines
from service.cli.bundle_location import written_bundle
from service.cli.gate_lines import verdict
from service.cli.triton_repository import (
    Instances,
    NoCache,
    OnGpu,
    PlanFolder,
    Repository,
    SettingsFile,
    documents,
    export_models,
    target_of,
    told,
    write_models,
)

if TYPE_CHECKING:
    from ranking_models.bundle import Graph
    from ranking_models.export.variants import ExportProgress
    from ranking_models.manifest import ExactSplit


def export(
    run: Annotated[
        Path | None, typer.Option(help="A run that podium train left.", metavar="DIR")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of all bundles.", metavar="DIR")] = Path(
        "bundles"
    ),
    name: Annotated[
        str | None, typer.Option(help="The model's name. Without it: the run's.")
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Comma-separated: fp32, fp16, bf16 (fp32 as OpenVINO computes it in bfloat16), "
            "int8 (both of its graphs), int8-cpu, int8-trt. fp32 is always written."
        ),
    ] = "fp32",
    embedding_rows: Annotated[
        str,
        typer.Option(
            help="Besides, fp32 graphs whose embedding rows are kept in fewer bytes: "
            "fp16, int8, or both with a comma.",
        ),
    ] = "",
    bundle: Annotated[
        str | None,
        typer.Option(
            help="Add precisions to this model, or model@version, of --out instead; "
            "measured on its --run, or on --data.",
            metavar="NAME",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            help="With --bundle and without its run: a click log that it was not trained on.",
            metavar="DIR",
        ),
    ] = None,
    split: Annotated[
        bool,
        typer.Option(
            "--split",
            help="Write the exact user/item split too: the fp32 graph in three that give the same "
            "scores, the user's part once per request and the items' ahead. With --run.",
        ),
    ] = False,
    cache_modes: Annotated[
        bool,
        typer.Option(
            "--cache-modes",
            help="Measure on the run's held-out rows what ranking by segment costs, as "
            "`podium cache evaluate` does, and write it into the manifest. With --run.",
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write what fails its gate too; the manifest will say so."),
    ] = False,
    triton_repository: Repository = None,
    triton_settings: SettingsFile = None,
    triton_instances: Instances = None,
    triton_gpu: OnGpu = False,
    triton_plan: PlanFolder = None,
    no_triton_cache: NoCache = False,
    as_json: AsJson = False,
) -> None:
    """Export a run to ONNX, prove every precision, and write its bundle.

    Example: podium export --run runs/movielens --name movielens --precision fp32,fp16
    """
    triton = target_of(
        triton_repository,
        triton_settings,
        triton_instances,
        triton_gpu,
        triton_plan,
        no_triton_cache,
        _listed(precision),
    )
    if triton is not None and bundle is not None and run is None and data is None:
        _refuse_making(name, embedding_rows, split, cache_modes, force)
        return export_models(triton, out, bundle, as_json=as_json)
    from ranking_models.bundle import Bundle
    from ranking_models.bundle.rewriting import contents_of
    from ranking_models.errors import InputError
    from ranking_models.export.variants import VariantsRefused
    from service.cli.export_progress import drawn_export

    if split and bundle is not None:
        raise typer.BadParameter("--split needs the network: use it with --run alone")
    if cache_modes and bundle is not None:
        raise typer.BadParameter(
            "--cache-modes is part of making a bundle: for one that there is, use "
            "podium cache evaluate"
        )
    asked = _Asked(_listed(precision), _listed(embedding_rows), split, cache_modes, force)
    try:
        with drawn_export(sys.stderr) as progress:
            if bundle is not None:
                if name is not None or (run is None) == (data is None):
                    raise typer.BadParameter(
                        "--bundle goes with rows to measure on, either --run or --data, "
                        "and keeps its name"
                    )
                path = _add_to_bundle(bundle, out, run, data, asked, progress)
            elif run is not None and data is None:
                path = _export_run(run, out, name, asked, progress)
            else:
                raise typer.BadParameter("name what to export: --run alone, or --bundle")
    except VariantsRefused as refused:
        if not as_json:
            _show(refused.graphs)
        for failure in refused.failures:
            typer.echo(f"  {failure}", err=True)
        count = len(refused.failures)
        raise InputError(
            f"{count} threshold{'s are' if count > 1 else ' is'} broken and nothing was written: "
            "leave that precision out, or --force writes it and says so in the manifest"
        ) from None
    written = Bundle.open(path)
    models = () if triton is None else write_models(triton, written)
    if as_json:
        precisions = written.manifest.precisions
        answer = {**written_bundle(path), "precisions": precisions}
        return print_json(answer | ({"triton": documents(models)} if models else {}))
    _show(contents_of(written).graphs)
    if written.manifest.split is not None:
        typer.echo(_split_line(written.manifest.split))
    print_lines(told(models))
    against = "PyTorch" if bundle is None else "fp32"
    return print(
        f"wrote {path}, proven against {against}; serve it as {path.parent.name}@{path.name}"
    )


def _refuse_making(*asked: object) -> None:
    """Options that make a bundle, where there is only one to be read."""
    if any(asked):
        raise typer.BadParameter(
            "--bundle and --triton-repository write what the bundle has: with them go --out, "
            "--precision and the --triton options, and --run or --data to add precisions first"
        )


class _Asked(NamedTuple):
    precisions: tuple[str, ...]
    rows: tuple[str, ...]
    split: bool
    cache_modes: bool
    force: bool


def _export_run(
    run: Path, out: Path, name: str | None, asked: _Asked, progress: "ExportProgress"
) -> Path:
    from ranking_models.export.to_bundle import export_run
    from ranking_models.run import load_run

    trained = load_run(run)
    return export_run(
        trained,
        out,
        name=name or trained.name,
        created=_now(),
        precisions=asked.precisions,
        embedding_rows=asked.rows,
        split=asked.split,
        cache_modes=asked.cache_modes,
        force=asked.force,
        progress=progress,
    )


def _add_to_bundle(
    reference: str,
    out: Path,
    run: Path | None,
    data: Path | None,
    asked: _Asked,
    progress: "ExportProgress",
) -> Path:
    from ranking_models.bundle import Bundle, find_bundle, write_bundle
    from ranking_models.export.variants import precisions_of
    from ranking_models.quantisation.of_bundle import with_variants
    from service.cli.quantise import material_for

    wanted = precisions_of(asked.precisions, asked.rows)
    opened = Bundle.open(find_bundle(out, reference))
    contents = with_variants(
        opened,
        material_for(opened, run, data),
        wanted,
        created=_now(),
        force=asked.force,
        progress=progress,
    )
    return write_bundle(out, contents)


def _now() -> datetime:
    from service.clock import SystemClock

    return datetime.fromtimestamp(SystemClock().wall(), UTC)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _split_line(split: "ExactSplit") -> str:
    """Which layers came apart, and how well the parts agree with the whole."""
    return (
        f"exact split: {', '.join(split.factored)} taken apart, "
        f"{', '.join(split.whole) or 'nothing'} left whole; {split.user_width} numbers per user, "
        f"{split.item_width} per item, scores within {split.parity:.1e}"
    )


_HEADINGS = ("precision", "bytes", "AUC change", "largest difference", "top 10", "worst 5 %", "tau")


def _show(graphs: "Mapping[str, Graph]") -> None:
    """Each precision held against fp32; nothing where there is only fp32."""
    if len(graphs) == 1:
        return
    rows = [(*_HEADINGS, "gate"), *_figures(graphs)]
    for line in aligned(rows):
        typer.echo(line)


def _figures(graphs: "Mapping[str, Graph]") -> Iterator[tuple[str, ...]]:
    for precision, graph in sorted(graphs.items(), key=lambda item: (item[0] != "fp32", item[0])):
        size = f"{len(graph.onnx):,}"
        if graph.gate is None:
            yield precision, size, "", f"{graph.parity:.1e}", "", "", "", "reference"
            continue
        figures = graph.gate.figures
        yield (
            precision,
            size,
            f"{figures.auc_change.value:+.4%}",
            f"{figures.max_difference:.1e}",
            f"{figures.top10_overlap:.4f}",
            f"{figures.top10_overlap_worst:.3f}",
            f"{figures.kendall_tau:.4f}",
            verdict(graph.gate),
        )
