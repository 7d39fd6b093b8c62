"""``podium simulate``: a marketplace with known click probabilities, as files or as shoppers."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.answers import AsJson, print_json, print_lines

if TYPE_CHECKING:
    from ranking_models.marketplace import Marketplace, MarketplaceSpec

PLAYED_SESSIONS = 2_000
CONCURRENCY = 8

_DEFAULT = "Default: the demonstration's."


def simulate(
    *,
    out: Annotated[
        Path | None, typer.Option(help="Write a click log into this directory.", metavar="DIR")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Play shoppers against a service, http://host:port.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help=f"Of the marketplace. {_DEFAULT}")] = None,
    items: Annotated[int | None, typer.Option(help=f"Items of the marketplace. {_DEFAULT}")] = None,
    users: Annotated[int | None, typer.Option(help=f"Users of the marketplace. {_DEFAULT}")] = None,
    sessions: Annotated[
        int | None,
        typer.Option(
            help="Default: those of the demonstration's log with --out, "
            f"{PLAYED_SESSIONS:,} with --url.",
            min=1,
            max=1_000_000,
        ),
    ] = None,
    demand_seed: Annotated[
        int | None,
        typer.Option(
            help="Of who comes when. Without it shoppers are other sessions than the log's.",
            min=0,
        ),
    ] = None,
    with_truth: Annotated[
        bool, typer.Option(help="With --out: add the true click probability as a column.")
    ] = False,
    concurrency: Annotated[
        int | None,
        typer.Option(
            help=f"With --url: shoppers at a time. Default {CONCURRENCY}.", min=1, max=256
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            envvar="PODIUM_API_KEY",
            help="With --url: API key with the scopes `rank` and `events`, where keys are needed.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Simulate a marketplace: write its click log, or play its shoppers against a service.

    Examples: podium simulate --out data/market && podium train --data data/market

    podium simulate --url http://127.0.0.1:8080 --sessions 500
    """
    from ranking_models.marketplace import Marketplace
    from ranking_models.marketplace.spec import LOG_SEED, LOG_SESSIONS, SHOPPERS_SEED

    if (out is None) == (url is None):
        raise typer.BadParameter("give either --out DIR or --url URL")
    if out is None and with_truth:
        raise typer.BadParameter("--with-truth goes with --out")
    if url is None and concurrency is not None:
        raise typer.BadParameter("--concurrency goes with --url")
    marketplace = Marketplace.generate(_spec(seed=seed, items=items, users=users))
    if out is not None:
        demand = LOG_SEED if demand_seed is None else demand_seed
        sessions = sessions or LOG_SESSIONS
        return _write(
            marketplace, out, sessions, seed=demand, with_truth=with_truth, as_json=as_json
        )
    assert url is not None
    return _play(
        marketplace,
        url,
        sessions or PLAYED_SESSIONS,
        seed=SHOPPERS_SEED if demand_seed is None else demand_seed,
        concurrency=concurrency or CONCURRENCY,
        api_key=api_key,
        as_json=as_json,
    )


def _spec(**sizes: int | None) -> "MarketplaceSpec":
    """The demonstration's marketplace but for the sizes that are given."""
    import msgspec

    from ranking_models.marketplace import MarketplaceSpec

    given = {name: value for name, value in sizes.items() if value is not None}
    try:
        return msgspec.convert(given, MarketplaceSpec)
    except msgspec.ValidationError as error:
        reason, _, name = str(error).rstrip("`").partition(" - at `$.")
        raise typer.BadParameter(reason, param_hint=f"--{name}") from None


def _write(
    marketplace: "Marketplace",
    out: Path,
    sessions: int,
    *,
    seed: int,
    with_truth: bool,
    as_json: bool,
) -> int:
    from ranking_models.marketplace.files import write_files

    log = marketplace.log(sessions=sessions, seed=seed)
    files = list(write_files(marketplace.population, log, out, with_truth=with_truth))
    impressions, clicks = len(log), int(log.clicked.sum())
    if as_json:
        print_json({"files": files, "impressions": impressions, "clicks": clicks})
    else:
        print_lines([*map(str, files), f"{impressions:,} impressions, {clicks:,} clicks"])
    return 0


def _play(
    marketplace: "Marketplace",
    url: str,
    sessions: int,
    *,
    seed: int,
    concurrency: int,
    api_key: str | None,
    as_json: bool,
) -> int:
    import asyncio

    from service.cli.drawing import draws
    from service.loadgen.outcome import plain_outcome, render_outcome
    from service.loadgen.shoppers import play_shoppers

    with typer.progressbar(
        length=sessions, label="shoppers", file=sys.stderr, hidden=not draws(sys.stderr)
    ) as progress:
        outcome = asyncio.run(
            play_shoppers(
                marketplace,
                url,
                sessions=sessions,
                seed=seed,
                concurrency=concurrency,
                api_key=api_key,
                done=progress.update,
            )
        )
    print_json(plain_outcome(outcome)) if as_json else print(render_outcome(outcome))
    return 1 if outcome.failures else 0
