"""What a million rankings and a million predictions cost, and what the cache saves."""

from expressions import Query, of, per_second, ratio, workers
from grafana_foundation_sdk.models.dashboard import Dashboard
from layout import Section, board
from panels import Panel, figure, lines

ANSWERED = per_second("podium_requests_total", 'outcome=~"ok|degraded"')
SCORED = per_second("podium_rows_scored_total")
CPU = per_second("process_cpu_seconds_total")
ENGINE = per_second("podium_engine_seconds_sum")
SPENT = (
    f"sum({per_second('podium_engine_seconds_sum', by='job, instance')} "
    f"* on (job, instance) {of('podium_price_per_hour')}) / 3600"
)
"""Price of the engine time of a second; instances may have prices of their own."""
CANDIDATES = "podium_cache_candidates_total"
MONEY = "short"


def cost() -> Dashboard:
    return board(
        "podium-cost",
        "Podium / Cost",
        "What engine time costs, as the reports of experiments count it, in the currency of "
        "`experiments.price_per_hour`, the price of an hour of one engine; without it the panels "
        "about money are empty. A ranking is one request, a prediction one scored row.",
        (
            Section("Price", _price()),
            Section("Against the budget", _budget()),
            Section("Where it goes", _shares()),
        ),
    )


def _million(done: str) -> str:
    return f"{SPENT} / ({done} > 0) * 1e6"


def _price() -> tuple[Panel, ...]:
    return (
        figure(
            "A million rankings",
            "Engine time at the present rate, by rankings that were answered; those that the cache "
            "answers cost none.",
            MONEY,
            Query(_million(ANSWERED), "price"),
            width=6,
        ),
        figure(
            "A million predictions",
            "Engine time at the present rate, by rows that engines scored.",
            MONEY,
            Query(_million(SCORED), "price"),
            width=6,
        ),
        figure(
            "An hour",
            "Engine time of an hour at the present rate.",
            MONEY,
            Query(f"{SPENT} * 3600", "price"),
            width=6,
        ),
        figure(
            "Engine use",
            "Engines at work per worker, where each worker has one engine. Hours in which engines "
            "idle are paid as well: the bill is about the price divided by this.",
            "percentunit",
            Query(ratio(ENGINE, workers()), "used"),
            width=6,
        ),
    )


def _budget() -> tuple[Panel, ...]:
    where = (
        "Mean of an hour, of the whole job, and its budget in deploy/prometheus/rules/targets.yml."
    )
    return (
        lines(
            "A million rankings",
            where,
            MONEY,
            Query('job:podium_million_rankings:price_rate1h{job="$job"}', "price"),
            Query("podium:budget:million_rankings", "budget"),
            width=12,
        ),
        lines(
            "A million predictions",
            where,
            MONEY,
            Query('job:podium_million_predictions:price_rate1h{job="$job"}', "price"),
            Query("podium:budget:million_predictions", "budget"),
            width=12,
        ),
    )


def _shares() -> tuple[Panel, ...]:
    known = per_second(CANDIDATES, 'result="hit"')
    return (
        lines(
            "Done an hour",
            "Rankings answered, and rows scored for them.",
            "short",
            Query(f"{ANSWERED} * 3600", "rankings"),
            Query(f"{SCORED} * 3600", "predictions"),
        ),
        lines(
            "Rows scored per ranking",
            "What a ranking asks of the engines; the cache and smaller slates make it less.",
            "none",
            Query(ratio(SCORED, ANSWERED), "rows"),
        ),
        lines(
            "Spared by the cache",
            "Of candidates asked of the cache, the share that no engine had to score.",
            "percentunit",
            Query(ratio(known, per_second(CANDIDATES)), "spared"),
            most=1,
        ),
        lines(
            "CPU time per ranking",
            "Of all processes of the service, its Redis servers not counted.",
            "s",
            Query(ratio(CPU, ANSWERED), "CPU"),
        ),
        lines(
            "Engine time per ranking",
            "On average, with those that the cache answered.",
            "s",
            Query(ratio(ENGINE, ANSWERED), "engine"),
        ),
        lines(
            "Engine time by engine",
            "Seconds a second: how many engines are at work on average.",
            "none",
            Query(per_second("podium_engine_seconds_sum", by="engine"), "{{engine}}"),
            stacked=True,
        ),
    )
