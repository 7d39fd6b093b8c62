"""``podium capacity``: how many replicas and GPUs a load needs, and what they cost."""

from pathlib import Path
from typing import Annotated

import typer

from service.cli.answers import AsJson, print_json

LOADS = "1000,10000,100000,1000000,10000000"
MOST_PER_S = 1e9
MOST_LOADS = 50
MOST_PRICE = 1e6


def capacity(
    rankings_per_s: Annotated[
        str, typer.Option(help="One load or several, at their peak.", metavar="N,...")
    ] = LOADS,
    measured: Annotated[
        Path | None,
        typer.Option(
            help="What `podium bench --out FILE` measured with your model: the work of a row. "
            "Default: the demonstration's, as it ships.",
            metavar="FILE",
        ),
    ] = None,
    story: Annotated[
        Path | None,
        typer.Option(
            help="What `podium bench MODEL --story --out FILE` measured with the same model: the "
            "work of a ranking besides. "
            "Default: the demonstration's, as it ships.",
            metavar="FILE",
        ),
    ] = None,
    candidates: Annotated[int, typer.Option(help="Of a ranking.", min=1, max=1000)] = 100,
    slate: Annotated[int, typer.Option(help="Items of a reply.", min=1, max=1000)] = 20,
    hit_rate: Annotated[
        float, typer.Option(help="Share of rankings that the cache answers.", min=0, max=1)
    ] = 0.85,
    heavier: Annotated[
        float,
        typer.Option(
            help="A row is so many times the work of the measured model's.", min=0.01, max=1e6
        ),
    ] = 1.0,
    utilisation: Annotated[
        float,
        typer.Option(help="Share of what a machine can do that is planned.", min=0.05, max=1),
    ] = 0.6,
    zones: Annotated[
        int, typer.Option(help="One of them may be lost; 1: one replica may.", min=1, max=10)
    ] = 3,
    cores: Annotated[int, typer.Option(help="Of a replica.", min=1, max=256)] = 2,
    replica_gib: Annotated[
        float, typer.Option(help="Memory of a replica.", min=0.5, max=4096)
    ] = 2.0,
    gpu_cores: Annotated[
        float,
        typer.Option(
            help="A GPU scores as many rows as so many cores, unless --measured has one.",
            min=0.1,
            max=1e6,
        ),
    ] = 40.0,
    gpu_left: Annotated[
        float,
        typer.Option(
            help="Share of a measured row's CPU time that stays on the CPU where a GPU scores.",
            min=0,
            max=0.95,
        ),
    ] = 0.2,
    slates: Annotated[
        int, typer.Option(help="Distinct slates that the cache keeps.", min=0, max=10**12)
    ] = 5_000_000,
    slate_bytes: Annotated[
        int,
        typer.Option(
            help="Of a slate in the cache server, as `python -m tests.bench cache-pages` measures.",
            min=1,
            max=10**6,
        ),
    ] = 687,
    cache_server_gib: Annotated[
        float, typer.Option(help="Memory of a cache server.", min=0.1, max=4096)
    ] = 16.0,
    cache_operations: Annotated[
        float, typer.Option(help="That a cache server answers a second.", min=1, max=1e8)
    ] = 50_000.0,
    experiment_share: Annotated[
        float, typer.Option(help="Share of rankings in an experiment.", min=0, max=1)
    ] = 0.1,
    events_per_ranking: Annotated[
        float,
        typer.Option(
            help="Impressions and clicks that come back for a ranking in an experiment.",
            min=0,
            max=2000,
        ),
    ] = 5.0,
    event_us: Annotated[
        float,
        typer.Option(help="CPU time of an impression or click, in us.", min=0, max=1e6),
    ] = 200.0,
    installation_events: Annotated[
        float, typer.Option(help="Events a second that one installation takes.", min=1, max=1e8)
    ] = 10_000.0,
    core_price: Annotated[
        float, typer.Option(help="Of a core for an hour.", min=0, max=MOST_PRICE)
    ] = 0.04,
    gib_price: Annotated[
        float, typer.Option(help="Of a GiB of memory for an hour.", min=0, max=MOST_PRICE)
    ] = 0.005,
    gpu_price: Annotated[
        float,
        typer.Option(help="Of a GPU for an hour, without cores.", min=0, max=MOST_PRICE),
    ] = 0.50,
    as_json: AsJson = False,
) -> None:
    """Say how many replicas, GPUs and cache servers a load needs, and what they cost.

    From CPU time that was measured, and assumptions that are printed; prices are in any currency,
    and none is anybody's offer.

    Example: podium capacity --rankings-per-s 50000 --candidates 200 --hit-rate 0.7 --gpu-price 1.2
    """
    from service.profiling.capacity import Assumptions, read_measured, size
    from service.profiling.capacity.measured import SHIPPED_BENCH, SHIPPED_STORY
    from service.profiling.capacity.text import render_capacity

    given = Assumptions(
        candidates=candidates,
        slate=min(slate, candidates),
        hit_rate=hit_rate,
        events_per_ranking=events_per_ranking,
        experiment_share=experiment_share,
        event_cpu_us=event_us,
        heavier=heavier,
        utilisation=utilisation,
        zones=zones,
        cores=cores,
        replica_gib=replica_gib,
        gpu_cores=gpu_cores,
        gpu_left=gpu_left,
        slates=slates,
        slate_bytes=slate_bytes,
        cache_server_gib=cache_server_gib,
        cache_operations_per_s=cache_operations,
        installation_events_per_s=installation_events,
        core_price=core_price,
        gib_price=gib_price,
        gpu_price=gpu_price,
    )
    found = size(
        read_measured(measured or SHIPPED_BENCH, story or SHIPPED_STORY),
        given,
        _loads(rankings_per_s),
    )
    print_json(found) if as_json else typer.echo(render_capacity(found), nl=False)


def _loads(given: str) -> tuple[float, ...]:
    """Rankings a second.

    Raises:
        BadParameter: something else than numbers above 0, or too many.
    """
    try:
        loads = tuple(float(one) for one in given.split(","))
    except ValueError:
        loads = ()
    if not loads or not all(0 < one <= MOST_PER_S for one in loads) or len(loads) > MOST_LOADS:
        raise typer.BadParameter(
            f"{given!r}: up to {MOST_LOADS} numbers above 0 and at most {MOST_PER_S:,.0f}, "
            "divided by commas",
            param_hint="--rankings-per-s",
        )
    return loads
