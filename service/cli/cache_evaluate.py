"""``podium cache evaluate``: what the segment modes cost in quality, and save in rows."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranking_models.errors import InputError
from service.cli.answers import AsJson, print_json_text

if TYPE_CHECKING:
    from ranking_models.bundle import Bundle, SegmentArrays
    from ranking_models.cache_evaluation.measure import CacheEvidence
    from ranking_models.parity import Scorer

MODES = ("segment", "segment_rescore")


def evaluate(
    bundle: Annotated[
        str,
        typer.Option(help="A bundle's folder, or name or name@version.", metavar="BUNDLE"),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder with a click log, as for train.", metavar="DIR")
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
        typer.Option(help="With segment_rescore: how many are scored exactly, with commas."),
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
        bool,
        typer.Option(
            "--save/--no-save",
            help="Keep the figures beside the bundle, where `bundle inspect` and the service's "
            "/v1/models show them. Without --segments only.",
        ),
    ] = True,
    out: Annotated[
        Path | None, typer.Option(help="Write the figures as JSON.", metavar="FILE")
    ] = None,
    bundles: Annotated[
        Path, typer.Option("--bundles", help="Folder in which names are looked up.", metavar="DIR")
    ] = Path("bundles"),
    as_json: AsJson = False,
) -> None:
    """Measure what each cache mode costs in quality and saves in rows, with 95 % intervals.

    Example: podium cache evaluate --bundle movielens --data data/movielens-100k
    """
    from ranking_models import cache_evaluation
    from ranking_models.bundle import Bundle
    from ranking_models.cache_evaluation.measure import CacheOptions, evaluate_modes
    from ranking_models.cache_evaluation.text import render_text
    from ranking_models.evaluation import in_batches
    from ranking_models.onnx_runtime import onnx_runtime_scorer
    from ranking_models.report_files import check_writable, write_whole
    from service.cli.bundle_location import locate

    if (data is None) == (run is None):
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
    opened = Bundle.open(locate(bundles, bundle))
    keeps = save and counts is None
    for file in [cache_evaluation.side_file(opened.path)] if keeps else []:
        check_writable(file)
    if out is not None:
        check_writable(out)
    scorer = in_batches(
        onnx_runtime_scorer(opened.graph(precision)), opened.manifest.max_batch_rows
    )
    evidence = _from_log(data, opened) if data is not None else _from_run(Path(str(run)), opened)
    found = evaluate_modes(
        scorer,
        evidence,
        _segmentations(opened, scorer, counts),
        model=f"{opened.manifest.name}@{opened.manifest.version}",
        precision=precision,
        options=options,
        progress=_progress,
    )
    if out is not None:
        write_whole(out, cache_evaluation.encode_evaluation(found))
    kept = cache_evaluation.write_beside(opened.path, found) if keeps else None
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


def _from_log(data: Path, bundle: "Bundle") -> "CacheEvidence":
    from ranking_models.cache_evaluation.measure import CacheEvidence
    from ranking_models.evaluation import encoded_rows, rows_of_log
    from ranking_models.logs import log_files_in, read_logs

    logs = read_logs(log_files_in(data))
    chosen = rows_of_log(logs, rows="test", split="user")
    return CacheEvidence(
        schema=bundle.schema,
        users=bundle.users,
        items=bundle.items,
        rows=encoded_rows(logs, bundle.schema, chosen.rows),
        labels=chosen.labels,
        units=chosen.units,
        words=chosen.evidence,
    )


def _from_run(directory: Path, bundle: "Bundle") -> "CacheEvidence":
    from ranking_models.cache_evaluation.measure import CacheEvidence
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
