"""``podium cache warm``: item pages into the cache of a running service, before anybody asks."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from service.cli.answers import print_json
from service.cli.calls import call
from service.cli.given_context import Context, Surface, Variant, forced_by, query_of
from service.cli.running_service import Admin, AsJson, Config, Url, address

if TYPE_CHECKING:
    from service.warming.values import WarmReply, WarmRequest

DEFAULT_RATE = 1_000.0
_AT_ONCE_S = 1.0
_MOST_AT_ONCE = 1_000


def warm(
    top: Annotated[int, typer.Option(help="How many items, the most popular.", min=1)] = 100_000,
    surface: Surface = None,
    context: Context = None,
    user_id: Annotated[
        str | None, typer.Option(help="Whose pages; nobody known without it.")
    ] = None,
    deployment: Annotated[
        str | None, typer.Option(help="What serves them; the surface's own without it.")
    ] = None,
    variant: Variant = None,
    rate: Annotated[
        float,
        typer.Option(help="The most pages per second; live requests go first anyway.", min=0.001),
    ] = DEFAULT_RATE,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the last warming of such pages has ended.")
    ] = False,
    engine: Annotated[
        Literal["service", "ray"],
        typer.Option(
            help="What computes: the running service, or processes of a Ray cluster with the "
            "models of --config, which put them into its redis.url. Ray pays on several machines; "
            "on one the service is quicker."
        ),
    ] = "service",
    workers: Annotated[
        int | None,
        typer.Option(help="With --engine ray: processes. One per core without it.", min=1),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS",
            help="With --engine ray: the cluster, such as ray-head:6379. Without it, one is "
            "started on this machine.",
        ),
    ] = None,
    url: Url = None,
    config: Config = None,
    api_key: Admin = None,
    as_json: AsJson = False,
) -> None:
    """Compute and keep the pages of the most popular items, through the running service.

    Pages that are kept already are passed by. Interrupted, or ended by a failure, it goes on
    with --resume: the place is noted in the cache server itself, so that it is gone when the
    pages are, after a flush or with another model.

    Examples:

    podium cache warm --top 100000 --surface item --rate 2000

    podium cache warm --engine ray --config podium.toml --top 5000000 --rate 50000
    """
    import msgspec

    from service.warming.values import WarmReply, WarmRequest

    if engine == "service" and workers is not None:
        raise typer.BadParameter("--workers goes with --engine ray")
    if engine == "ray" and (config is None or url is not None):
        raise typer.BadParameter("--engine ray asks no service: it needs --config, and no --url")
    if engine == "ray" and variant:
        raise typer.BadParameter("--variant needs the running service, which knows the experiments")
    if variant and deployment:
        raise typer.BadParameter("--variant and --deployment exclude each other")
    wanted = WarmRequest(
        context=dict(query_of(surface, context)),
        user_id=user_id,
        deployment=deployment,
        force=forced_by(variant),
        top=top,
        first=None if resume else 0,
        pages=max(1, min(_MOST_AT_ONCE, round(rate * _AT_ONCE_S))),
        rate_per_s=rate,
    )

    def ask(wanted: WarmRequest) -> WarmReply:
        return call(address(url, config), "/v1/cache/warm", api_key, WarmReply, body=wanted)[1]

    began = time.monotonic()
    with _drawn(sys.stderr) as draw:
        if engine == "ray":
            assert config is not None, "it was looked at"
            done = _spread(config, wanted, workers, ray_address, draw)
        else:
            done = warmed(wanted, ask, draw)
    took_s = time.monotonic() - began
    report = msgspec.structs.asdict(done) | {"took_s": round(took_s, 3)}
    print_json(report) if as_json else print(_words(done, took_s))
    if done.failed:
        raise typer.Exit(1)


def _spread(
    config: Path,
    wanted: "WarmRequest",
    workers: int | None,
    ray_address: str | None,
    draw: "Callable[[WarmReply], None]",
) -> "WarmReply":
    from ranking_models.errors import InputError
    from service.bulk.spread import spread
    from service.errors import RankingError
    from service.settings import load_settings

    try:
        # Ray tells of processes that died on standard output, which is for the report alone.
        with redirect_stdout(sys.stderr):
            return spread(
                load_settings(config), wanted, workers=workers, address=ray_address, draw=draw
            )
    except RankingError as refusal:
        raise InputError(str(refusal)) from None


def warmed(
    wanted: "WarmRequest",
    ask: "Callable[[WarmRequest], WarmReply]",
    draw: "Callable[[WarmReply], None]",
) -> "WarmReply":
    """All calls, one after the other, as one.

    Args:
        wanted: The first.
        ask: The service.
        draw: Shown how far it has got.

    Raises:
        InputError: the cache was flushed or another model serves: what was warmed is of no use.
    """
    from msgspec.structs import replace

    from ranking_models.errors import InputError

    all_done = ask(wanted)
    draw(all_done)
    while not all_done.is_done:
        more = ask(replace(wanted, first=all_done.next))
        if (more.epoch, more.model) != (all_done.epoch, all_done.model):
            what = "the cache was purged" if more.epoch != all_done.epoch else "the model changed"
            raise InputError(f"{what} at page {more.first:,}: begin again, without --resume")
        all_done = replace(
            more,
            first=all_done.first,
            computed=all_done.computed + more.computed,
            cached=all_done.cached + more.cached,
            empty=all_done.empty + more.empty,
            failed=all_done.failed + more.failed,
            waited_s=all_done.waited_s + more.waited_s,
        )
        draw(all_done)
    return all_done


@contextmanager
def _drawn(stream: TextIO) -> "Iterator[Callable[[WarmReply], None]]":
    """A bar on a terminal, and nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from service.cli.drawing import drawn

    columns = (
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(compact=True),
    )
    with drawn(stream, *columns, transient=True) as progress:
        task = progress.add_task("pages", total=None)

        def draw(done: "WarmReply") -> None:
            progress.update(
                task,
                total=done.top,
                completed=done.next,
                description=f"{done.computed:,} computed, {done.cached:,} cached already",
            )

        yield draw


def _words(done: "WarmReply", took_s: float) -> str:
    pages = max(0, done.next - done.first)
    ends = [f"{done.computed:,} computed", f"{done.cached:,} cached already"]
    ends += [f"{done.empty:,} with nothing beside them"] if done.empty else []
    ends += [f"{done.failed:,} not scored"] if done.failed else []
    rate = f"{pages / took_s:,.0f} pages/s" if took_s > 0 else "at once"
    return (
        f"{done.deployment} ({done.model.name}@{done.model.version}): {pages:,} pages in "
        f"{took_s:.1f} s, {rate}: {', '.join(ends)}"
        + (f"; {done.waited_s:.1f} s left to live traffic" if done.waited_s >= 0.05 else "")
    )
