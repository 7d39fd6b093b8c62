"""``podium demo``: the service, shoppers, and the experiment's report beside the truth."""

import contextlib
import signal
import sys
import tempfile
from typing import Annotated

import typer

from service.cli.answers import AsJson, print_json

CONCURRENCY = 8
START_S = 60.0


def demo(
    sessions: Annotated[int, typer.Option(help="Shoppers' sessions.", min=1, max=1_000_000)] = 2000,
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.", min=0, max=65_535)] = 0,
    keep_serving: Annotated[
        bool, typer.Option(help="Go on serving after the report, until Ctrl-C.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Serve the demonstration, let simulated shoppers shop, and report on the experiment.

    State is kept in a temporary directory and removed at the end.

    Example: podium demo --sessions 500
    """
    from service.loadgen.process import serving
    from service.settings import demo_settings_file

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the service must not outlive us
    with tempfile.TemporaryDirectory(prefix="podium-demo-") as state:
        options = {
            "--config": str(demo_settings_file()),
            "--port": str(port),
            "--state-directory": state,
        }
        with serving([part for option in options.items() for part in option]) as service:
            url = service.url(longest_s=START_S)
            print(f"serving at {url}", file=sys.stderr)
            code = _shop(url, sessions, as_json=as_json)
            if keep_serving:
                print(f"\nstill serving at {url}; Ctrl-C stops", file=sys.stderr)
                with contextlib.suppress(KeyboardInterrupt):
                    service.wait()
            return code


def _shop(url: str, sessions: int, *, as_json: bool) -> int:
    import asyncio

    import msgspec

    from ranking_models.marketplace import Marketplace, MarketplaceSpec
    from ranking_models.marketplace.spec import SHOPPERS_SEED
    from service.cli.drawing import draws
    from service.demo.run import demonstrate, render_demonstration
    from service.loadgen.outcome import plain_outcome

    with typer.progressbar(
        length=sessions, label="shoppers", file=sys.stderr, hidden=not draws(sys.stderr)
    ) as progress:
        found = asyncio.run(
            demonstrate(
                url,
                Marketplace.generate(MarketplaceSpec()),
                sessions=sessions,
                seed=SHOPPERS_SEED,
                concurrency=CONCURRENCY,
                done=progress.update,
            )
        )
    if as_json:
        print_json(msgspec.structs.asdict(found) | {"outcome": plain_outcome(found.outcome)})
    else:
        print(render_demonstration(found))
    sys.stdout.flush()  # before it goes on serving
    return 1 if found.faults else 0
