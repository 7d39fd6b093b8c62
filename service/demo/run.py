"""Let shoppers shop, wait until the service has counted them, and hold its report to the truth."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping

import httpx
import msgspec
from msgspec import Struct

from experiments.report import Report, render_text
from ranking_models.errors import InputError
from ranking_models.marketplace import Marketplace
from service.loadgen.outcome import Outcome, Tally, render_outcome
from service.loadgen.shoppers import play_shoppers

EXPERIMENT = "demo-ranker"
POLL_S = 0.2
PATIENCE_S = 20.0
"""Longest time without progress in the report before the wait is given up."""


class Comparison(Struct, frozen=True, kw_only=True):
    """A variant's reported CTR beside the true one."""

    variant: str
    low: float
    high: float
    reported: float
    true_ctr: float

    @property
    def within(self) -> bool:
        """Whether the reported interval holds the truth."""
        return self.low <= self.true_ctr <= self.high


class Demonstration(Struct, frozen=True, kw_only=True):
    """What a run found."""

    outcome: Outcome
    report: Report
    comparisons: tuple[Comparison, ...]
    faults: tuple[str, ...]
    """What must not happen in a demonstration, in words."""


async def demonstrate(
    url: str,
    marketplace: Marketplace,
    *,
    sessions: int,
    seed: int,
    concurrency: int,
    done: Callable[[int], object],
) -> Demonstration:
    """Play shoppers against a service with the demonstration's settings.

    Args:
        url: ``http://host:port``, with fresh state: what others have shown
            would be counted as well.
        marketplace: The one that its model was trained on.
        sessions, seed, concurrency, done: As for `play_shoppers`.

    Raises:
        InputError: the service went away.
    """
    outcome = await play_shoppers(
        marketplace, url, sessions=sessions, seed=seed, concurrency=concurrency, done=done
    )
    tallies = {v: tally for (key, v), tally in outcome.variants.items() if key == EXPERIMENT}
    report, faults = await _settled_report(url, tallies)
    faults += [f"{what}: {count} times" for what, count in outcome.failures.items()]
    return Demonstration(
        outcome=outcome,
        report=report,
        comparisons=compare(report, tallies),
        faults=tuple(faults),
    )


async def _settled_report(url: str, tallies: Mapping[str, Tally]) -> tuple[Report, list[str]]:
    """The report, once it holds everything that the shoppers did or stops growing."""
    async with httpx.AsyncClient(base_url=url, timeout=10.0, trust_env=False) as client:
        last_missing: list[str] = []
        progress_at = time.monotonic()
        while True:
            report = await _read_report(client)
            missing = uncounted(report, tallies)
            if missing != last_missing:
                last_missing, progress_at = missing, time.monotonic()
            if not missing or time.monotonic() - progress_at > PATIENCE_S:
                return report, missing
            await asyncio.sleep(POLL_S)


async def _read_report(client: httpx.AsyncClient) -> Report:
    path = f"/v1/experiments/{EXPERIMENT}/report"
    try:
        response = await client.get(path)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise InputError(f"{client.base_url}: the report cannot be read: {error}") from None
    return msgspec.json.decode(response.content, type=Report)


def uncounted(report: Report, tallies: Mapping[str, Tally]) -> list[str]:
    """How the report's counts differ from what the shoppers saw and did, in words."""
    counted = {v.name: (v.exposures, v.impressions, v.clicks) for v in report.variants}
    seen = {v: (t.slates, t.impressions, t.clicks) for v, t in tallies.items()}
    return [
        f"{variant}: the report has {found[at]} {what}, the shoppers {expected[at]}"
        for variant, expected in seen.items()
        if (found := counted.get(variant, (0, 0, 0)))
        for at, what in enumerate(("exposures", "impressions", "clicks"))
        if found[at] != expected[at]
    ]


def compare(report: Report, tallies: Mapping[str, Tally]) -> tuple[Comparison, ...]:
    """Every variant's reported CTR and interval beside the truth; NaN where there is none."""
    return tuple(
        Comparison(
            variant=variant.name,
            reported=_number(variant.ctr.value),
            low=_number(variant.ctr.low),
            high=_number(variant.ctr.high),
            true_ctr=tallies.get(variant.name, Tally()).true_ctr,
        )
        for variant in report.variants
    )


def render_demonstration(found: Demonstration) -> str:
    """The whole demonstration as text for a terminal."""
    rows = [("", "CTR reported", "95 % interval", "true CTR", "within the interval")]
    rows += [
        (
            c.variant,
            _percent(c.reported),
            f"{_percent(c.low)} to {_percent(c.high)}",
            _percent(c.true_ctr),
            "yes" if c.within else "no",
        )
        for c in found.comparisons
    ]
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(
        [
            render_outcome(found.outcome),
            "",
            render_text(found.report).rstrip("\n"),
            "",
            "The simulation knows every true click probability:",
            *table,
            *(f"FAULT: {fault}" for fault in found.faults),
        ]
    )


def _percent(fraction: float) -> str:
    return "-" if math.isnan(fraction) else f"{fraction:.2%}"


def _number(value: float | None) -> float:
    return math.nan if value is None else value
