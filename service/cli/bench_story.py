"""``podium bench --story``: from PyTorch behind a web framework to a warm cache, step by step."""

import signal
import sys
from pathlib import Path

import typer

from service.cli.answers import print_json_text

OWN = ("quick", "peer_python", "workers")
"""Options of the story alone."""
SHARED = ("model", "bundles", "price", "out", "plot", "as_json", "story")


def refuse_foreign(context: typer.Context, *, story: bool) -> None:
    """Refuse options that the other of the two measurements takes."""
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        given = source is not None and source.name != "DEFAULT"
        foreign = name not in OWN + SHARED if story else name in OWN
        if given and foreign:
            option = max(parameter.opts, key=len)
            says = "does not take" if story else "is needed for"
            raise typer.BadParameter(f"--story {says} {option}")


def bench_story(
    bundle: Path,
    *,
    named: bool,
    quick: bool,
    peer_python: Path | None,
    workers: int | None,
    price: float | None,
    out: Path | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Tell the story of a bundle; files are known to be writable.

    Args:
        bundle: The model that was named; else the demonstration, if there can be no other.
        named: Whether a model was named.
        quick: A first look.
        peer_python: The interpreter of the steps without Podium.
        workers: Processes of every step.
        price: Of this machine for an hour.
        out: A file for the JSON.
        plot: A file for the picture.
        as_json: Whether standard output is the JSON.
    """
    from ranking_models.bundle import Bundle
    from ranking_models.report_files import write_whole
    from service.cli.bench_progress import drawn_progress
    from service.cli.story_bundle import KEPT, Told, storys_bundle
    from service.clock import SystemClock
    from service.processes.plan import MOST_WORKERS, usable_cores
    from service.profiling.story import FULL, QUICK, StoryOptions, encode_story, tell_story
    from service.profiling.story.drawing import draw_story
    from service.profiling.story.steps import peer_of
    from service.profiling.story.telling import need_linux
    from service.profiling.story.text import render_story
    from service.settings import default_state_directory

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the steps must not outlive us
    need_linux()
    peer = peer_of(peer_python or Path(sys.executable))
    state = default_state_directory()
    told = Told(bundle, "") if named else storys_bundle(bundle, state / KEPT)
    options = StoryOptions(
        plan=QUICK if quick else FULL,
        workers=workers or min(usable_cores(), MOST_WORKERS),
        peer=peer,
        price_per_hour=price,
        plans=state / "plans",
        note=told.note,
    )
    with drawn_progress(sys.stderr) as progress:
        story = tell_story(Bundle.open(told.path), options, progress=progress, clock=SystemClock())
    if plot is not None:
        write_whole(plot, draw_story(story).encode())
    if out is not None:
        write_whole(out, encode_story(story))
    if as_json:
        return print_json_text(encode_story(story))
    typer.echo(render_story(story), nl=False)
    for path in (out, plot):
        if path is not None:
            typer.echo(f"wrote {path}", err=True)
    return None
