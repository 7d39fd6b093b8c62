"""``podium bench``: what a bundle costs on this machine, and which settings suit it."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from service.cli.answers import AsJson, print_json_text

if TYPE_CHECKING:
    from service.profiling import Asked

ENGINES = ("onnxruntime-cpu", "openvino", "tensorrt", "onnxruntime-cuda", "triton")
ROWS = (10, 50, 100, 200, 400, 800, 1600)
MOST_ROWS = 100_000
MOST_THREADS = 1_024


class Split(StrEnum):
    """Which forms of the fp32 graph."""

    ON = "on"
    OFF = "off"
    BOTH = "both"


def bench(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Argument(
            help="A name, or name@version. `marketplace` is the demonstration, unless --bundles is "
            "given or the folder `bundles` has a model of that name. Without it: the only model in "
            "--bundles.",
            metavar="MODEL[@VERSION]",
        ),
    ] = None,
    bundles: Annotated[
        Path | None,
        typer.Option(
            help='Folder in which names are looked up. Default: "bundles"; without MODEL: '
            "the demonstration, and with --story its own ranker.",
            metavar="DIR",
        ),
    ] = None,
    engines: Annotated[
        str, typer.Option(help="Engines to compare.", metavar="NAME,...")
    ] = ",".join(ENGINES),
    precisions: Annotated[
        str | None,
        typer.Option(help="Precisions to compare. Default: all of the bundle.", metavar="NAME,..."),
    ] = None,
    rows: Annotated[str, typer.Option(help="Rows of a call.", metavar="N,...")] = ",".join(
        map(str, ROWS)
    ),
    threads: Annotated[
        str | None,
        typer.Option(
            help="Threads of a call, on the CPU. Default: 1, 2, 4, 8, up to the cores.",
            metavar="N,...",
        ),
    ] = None,
    split: Annotated[
        Split, typer.Option(help="The exact split on onnxruntime-cpu, the whole graph, or both.")
    ] = Split.BOTH,
    seconds: Annotated[
        float, typer.Option(help="Time for measuring; loading comes on top.", min=0.1, max=86_400)
    ] = 30.0,
    price: Annotated[
        float | None,
        typer.Option(
            help="Of this machine for an hour, in any currency: adds the cost of a million rows, "
            "or of a million rankings.",
            min=0.0,
            max=1e9,
        ),
    ] = None,
    device: Annotated[int, typer.Option(help="The GPU, in CUDA's order.", min=0, max=1_023)] = 0,
    triton_url: Annotated[
        str | None,
        typer.Option(help="A Triton server, for the engine triton.", metavar="HOST:PORT"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write all figures as JSON.", metavar="FILE")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the figures.", metavar="FILE.svg")] = None,
    story: Annotated[
        bool,
        typer.Option(
            "--story",
            help="The same traffic against PyTorch behind FastAPI, ONNX Runtime, batching, "
            "reduced precision, and the cache; about five minutes. Without MODEL and --bundles of "
            "a ranker of its own, made the first time: about a minute more.",
        ),
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="The story in about a minute: a first look.")
    ] = False,
    peer_python: Annotated[
        Path | None,
        typer.Option(
            help="The interpreter of the story's steps without Podium, with podium[train] and "
            "FastAPI. Default: this one.",
            metavar="PYTHON",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes of every step of the story. Default: the cores, at most 8.",
            min=1,
            max=64,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a bundle on this machine's engines and recommend settings.

    Every engine first has to give the golden scores, then all are timed in interleaved rounds
    on users and items of the bundle. With --story whole servers are compared instead.

    Example: podium bench movielens --threads 1,2 --price 0.10 --out b.json --plot b.svg
    """
    from ranking_models.bundle import Bundle
    from ranking_models.report_files import check_writable, write_whole
    from service.cli.bench_progress import drawn_progress
    from service.cli.bench_story import bench_story, refuse_foreign
    from service.clock import SystemClock
    from service.profiling import ProfileOptions, encode_profile, profile_bundle
    from service.profiling.drawing import draw_profile
    from service.profiling.text import render_profile
    from service.settings import EngineSettings, default_state_directory

    refuse_foreign(context, story=story)
    asked = _asked(engines, precisions, threads, split)
    sizes = _numbers("--rows", rows, MOST_ROWS)
    files = _files(out, plot)
    for path in files:
        check_writable(path)
    chosen = _chosen(model, bundles)
    if story:
        return bench_story(
            chosen.path,
            named=model is not None or bundles is not None,
            quick=quick,
            peer_python=peer_python,
            workers=workers,
            price=price,
            out=out,
            plot=plot,
            as_json=as_json,
        )
    options = ProfileOptions(
        asked=asked,
        rows=sizes,
        seconds=seconds,
        price_per_hour=price,
        model=chosen.model,
        directory=chosen.directory,
        plans=default_state_directory() / "plans",
        engine=EngineSettings(device=device, triton_url=triton_url),
    )
    with drawn_progress(sys.stderr) as progress:
        found = profile_bundle(
            Bundle.open(chosen.path), options, progress=progress, clock=SystemClock()
        )
    if plot is not None:
        write_whole(plot, draw_profile(found).encode())
    if out is not None:
        write_whole(out, encode_profile(found))
    if as_json:
        return print_json_text(encode_profile(found))
    typer.echo(render_profile(found), nl=False)
    for path in files:
        typer.echo(f"wrote {path}", err=True)
    return None


class _Chosen(NamedTuple):
    """A bundle, and what settings call it."""

    path: Path
    model: str
    directory: Path | None
    """None for the demonstration."""


def _chosen(model: str | None, bundles: Path | None) -> _Chosen:
    from ranking_models.bundle import find_bundle, list_bundles
    from ranking_models.errors import InputError
    from service.deployments import bundle_directory
    from service.settings import demo_settings_file, load_settings

    root = Path("bundles") if bundles is None else bundles
    if bundles is None:
        demonstrations = bundle_directory(load_settings(demo_settings_file(), environ={}))
        (demonstration,) = list_bundles(demonstrations)
        name = demonstration.name
        hidden = name in {found.name for found in list_bundles(root)}
        named = model in (name, f"{name}@{demonstration.version}")
        if model is None or (named and not hidden):
            return _Chosen(demonstration.path, name, None)
    if model is None:
        names = sorted({found.name for found in list_bundles(root)})
        if len(names) != 1:
            there = f"there are {', '.join(names)}" if names else "there is none"
            raise InputError(f"{root}: name a model, {there}")
        (model,) = names
    return _Chosen(find_bundle(root, model), model, root.absolute())


def _asked(engines: str, precisions: str | None, threads: str | None, split: Split) -> "Asked":
    from service.processes.plan import usable_cores
    from service.profiling import Asked

    splits = {Split.ON: (True,), Split.OFF: (False,), Split.BOTH: (False, True)}
    cores = usable_cores()
    return Asked(
        engines=_names("--engines", engines, ENGINES),
        precisions=() if precisions is None else _names("--precisions", precisions),
        threads=_numbers("--threads", threads, MOST_THREADS)
        if threads is not None
        else tuple(number for number in (1, 2, 4, 8) if number <= cores),
        splits=splits[split],
    )


def _names(option: str, text: str, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if not name or (known and name not in known):
            what = f"takes {', '.join(known)}" if known else "takes names"
            raise typer.BadParameter(f"{option} {what}, separated by commas; got {text!r}")
    return names


def _numbers(option: str, text: str, most: int) -> tuple[int, ...]:
    """Rising."""
    try:
        numbers = sorted({int(number) for number in text.split(",")})
    except ValueError:
        numbers = []
    if not numbers or numbers[0] < 1 or numbers[-1] > most:
        raise typer.BadParameter(
            f"{option} takes whole numbers from 1 to {most:,}, separated by commas; got {text!r}"
        )
    return tuple(numbers)


def _files(out: Path | None, plot: Path | None) -> list[Path]:
    if plot is not None and plot.suffix.lower() != ".svg":
        raise typer.BadParameter(f"--plot draws SVG: name a file that ends in .svg, not {plot}")
    files = [path for path in (out, plot) if path is not None]
    if len({path.resolve() for path in files}) < len(files):
        raise typer.BadParameter(f"--out and --plot are both {plot}; name two files")
    return files
