"""``podium cache evaluate``: what the segment modes cost in quality, and save in rows."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranking_models.errors import InputError
from service.cli.answers import AsJson, print_json_text
from service.cli.bundle_location import Root, demonstration, located

if TYPE_CHECKING:
    from ranking_models.bundle import Bundle, SegmentArrays
    from ranking_models.cache_evaluation.lists import CacheEvidence
    from ranking_models.manifest import ModelManifest
    from ranking_models.parity import Scorer
    from ranking_models.split import SplitName

MODES = ("segment", "segment_rescore")


def evaluate(
    bundle: Annotated[
        str,
        typer.Option(help="A bundle's folder, or name or name@version.", metavar="BUNDLE"),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with a click log, as for train: of it the rows that are held out by the "
            "bundle's own split. Without --data and --run a bundle of the "
            "simulated marketplace, such as the demonstration, is measured on the rows of that "
            "simulation, made anew, that its training held out.",
            metavar="DIR",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="A run: the rows that it held out, instead of a log.", metavar="DIR"),
    ] = None,
    modes: Annotated[
        str, typer.Option(help="Modes to measure, with commas between them.")
    ] = ",".join(MODES),
    segments: Annotated[
        str | None,
        typer.Option(
            help="Numbers of segments, with commas between them: the users are grouped afresh for "
            "each. Without it: the bundle's own segments."
        ),
    ] = None,
    top: Annotated[
        str,
        typer.Option(
            help="With segment_rescore: how many are scored exactly, with commas; never fewer "
            "than --k, as in the service."
        ),
    ] = "10,20,30,50",
    candidates: Annotated[
        int, typer.Option(help="Candidates of a request.", min=2, max=1000)
    ] = 100,
    k: Annotated[int, typer.Option("--k", help="Length of a list's top.", min=1, max=100)] = 10,
    precision: Annotated[str, typer.Option(help="Which graph of the bundle.")] = "fp32",
    resamples: Annotated[
        int, typer.Option(help="Bootstrap resamples of users.", min=100, max=100_000)
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Of the lists and the resamples.", min=0)] = 0,
    save: Annotated[
        bool | None,
        typer.Option(
            "--save/--no-save",
            help="Keep the figures beside the bundle, where `bundle inspect` and the service's "
            "/v1/models show them. Without --segments only. Default: --save, but for the bundle "
            "that ships with Podium, whose manifest has them.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the figures as JSON.", metavar="FILE")
    ] = None,
    bundles: Root = None,
    as_json: AsJson = False,
) -> None:
    """Measure what each cache mode costs in quality and saves in rows, with 95 % intervals.

    Examples: podium cache evaluate --bundle marketplace

    podium cache evaluate --bundle movielens --data data/movielens-100k
    """
    from ranking_models import cache_evaluation
    from ranking_models.bundle import Bundle
    from ranking_models.cache_evaluation.measure import CacheOptions, evaluate_modes
    from ranking_models.cache_evaluation.text import render_text
    from ranking_models.onnx_runtime import onnx_runtime_scorer
    from ranking_models.parity import in_batches
    from ranking_models.report_files import check_writable, write_whole

    if data is not None and run is not None:
        raise typer.BadParameter("name the rows: either --data DIR or --run DIR")
    options = CacheOptions(
        modes=_modes(modes),
        top=_numbers(top, "--top"),
        candidates=candidates,
        k=k,
        resamples=resamples,
        seed=seed,
    )
    counts = None if segments is None else _numbers(segments, "--segments")
    if save and counts is not None:
        raise typer.BadParameter("--save is for the bundle's own segments: leave --segments out")
    opened = Bundle.open(located(bundles, bundle))
    if save is None:
        save = counts is None and not opened.path.resolve().is_relative_to(demonstration())
    if save:
        try:
            check_writable(cache_evaluation.side_file(opened.path))
        except InputError as error:
            raise InputError(f"{error}; --no-save measures all the same") from None
    if out is not None:
        check_writable(out)
    graph = onnx_runtime_scorer(opened.graph(precision))
    scorer = in_batches(graph, opened.manifest.max_batch_rows)
    found = evaluate_modes(
        scorer,
        _evidence(opened, data, run),
        _segmentations(opened, scorer, counts),
        model=f"{opened.manifest.name}@{opened.manifest.version}",
        precision=precision,
        options=options,
        progress=_progress,
    )
    if out is not None:
        write_whole(out, cache_evaluation.encode_evaluation(found))
    kept = cache_evaluation.write_beside(opened.path, found) if save else None
    if as_json:
        return print_json_text(cache_evaluation.encode_evaluation(found))
    typer.echo(render_text(found), nl=False)
    for path in (out, kept):
        if path is not None:
            typer.echo(f"wrote {path}")
    return None


def _modes(given: str) -> tuple[str, ...]:
    modes = tuple(mode.strip() for mode in given.split(",") if mode.strip())
    for mode in modes:
        if mode not in MODES:
            raise typer.BadParameter(f"--modes {mode!r}: there are {', '.join(MODES)}")
    if not modes:
        raise typer.BadParameter(f"--modes names none; there are {', '.join(MODES)}")
    return modes


def _numbers(given: str, option: str) -> tuple[int, ...]:
    try:
        numbers = tuple(dict.fromkeys(int(number) for number in given.split(",")))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1 or max(numbers) > 1_000:
        raise typer.BadParameter(f"{option} {given!r}: numbers of 1 to 1000, commas between them")
    return numbers


def _segmentations(
    bundle: "Bundle", scorer: "Scorer", counts: Sequence[int] | None
) -> "list[SegmentArrays]":
    from ranking_models.segments import segments_of

    if counts is None:
        if bundle.segments is None:
            raise InputError(
                f"{bundle.path}: has no segments; --segments 16 groups its users for the occasion"
            )
        return [bundle.segments]
    return [
        segments_of(
            scorer,
            bundle.schema,
            bundle.users,
            bundle.items,
            popularity=bundle.popularity,
            count=count,
        )
        for count in counts
    ]


def _evidence(bundle: "Bundle", data: Path | None, run: Path | None) -> "CacheEvidence":
    if data is not None:
        return _from_log(data, bundle)
    return _simulated(bundle) if run is None else _from_run(run, bundle)


def _simulated(bundle: "Bundle") -> "CacheEvidence":
    from ranking_models.cache_evaluation.simulated import (
        NotSimulated,
        simulated_evidence,
        simulation_of,
    )
    from service.cli.drawing import draws

    manifest = bundle.manifest
    try:
        simulation = simulation_of(manifest)
    except NotSimulated as why:
        raise typer.BadParameter(
            f"name the rows: either --data DIR or --run DIR; {manifest.name}@{manifest.version} "
            f"cannot do without: {why}"
        ) from None
    if draws(sys.stderr):
        rows = f"{manifest.data.interactions:,}"
        print(f"simulating the {rows} rows of the log anew", file=sys.stderr, flush=True)
    return simulated_evidence(bundle, simulation)


def _from_log(data: Path, bundle: "Bundle") -> "CacheEvidence":
    from ranking_models.cache_evaluation.lists import CacheEvidence
    from ranking_models.evaluation import encoded_rows, rows_of_log
    from ranking_models.logs import log_files_in, read_logs

    logs = read_logs(log_files_in(data))
    split, seen = _split_of(bundle.manifest)
    chosen = rows_of_log(logs, rows="test", split=split)
    return CacheEvidence(
        schema=bundle.schema,
        users=bundle.users,
        items=bundle.items,
        rows=encoded_rows(logs, bundle.schema, chosen.rows),
        labels=chosen.labels,
        units=chosen.units,
        words=f"{chosen.evidence}{seen}",
    )


def _split_of(manifest: "ModelManifest") -> "tuple[SplitName, str]":
    """As the training split its log, so that its rows are not measured on; and whether it saw all.

    Where the manifest tells no split, such as that of an imported graph, each user's last rows.
    """
    from ranking_models.split import SPLIT_WORDS

    told = manifest.quality.split
    for name, words in SPLIT_WORDS.items():
        if told.startswith(words):
            seen = "" if told == words else f"; its own log's were learned from too ({told})"
            return name, seen
    return "user", ""


def _from_run(directory: Path, bundle: "Bundle") -> "CacheEvidence":
    from ranking_models.cache_evaluation.lists import CacheEvidence
    from ranking_models.evaluation import rows_of_run
    from ranking_models.run import load_run

    run = load_run(directory)
    if bundle.schema != run.schema:
        raise InputError(
            f"{bundle.path}: takes other features than the run {directory} holds out; "
            "evaluate with --data DIR, which encodes the log for the bundle"
        )
    chosen = rows_of_run(run)
    return CacheEvidence(
        schema=bundle.schema,
        users=bundle.users,
        items=bundle.items,
        rows=run.held_out,
        labels=chosen.labels,
        units=chosen.units,
        words=chosen.evidence,
    )


def _progress(done: int, total: int) -> None:
    from service.cli.drawing import draws

    if draws(sys.stderr):
        end = "\r" if done < total else "\n"
        print(f"scored {done:,} of {total:,} rows", end=end, file=sys.stderr, flush=True)
