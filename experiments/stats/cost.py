"""What rankings and predictions cost in engine time.

The cost is that of the time in which engines worked for a variant: each slate's share of
the calls that scored its rows, priced at what an hour of one engine costs. It answers
"what would this variant cost more or less at full load", and two variants of one
experiment share the price, so their ratio does not depend on it.

It is not the bill. Not in it are the hours in which engines idle (at 40 % use a machine
costs 2.5 times as much per ranking), what the service does beside the engines (decoding,
features, cache, Redis: the same for all variants), and engine time of slates that came
too late and were replaced. Where engine calls run side by side on one machine, the hour
of one engine is that machine's price over how many run at a time.
"""

from math import isfinite

from msgspec import Struct

from experiments.stats import NotEnoughData

_SECONDS_PER_HOUR = 3600
_MILLION = 1_000_000


class Cost(Struct, frozen=True, kw_only=True):
    """In the currency of the price."""

    per_million_rankings: float
    """Of all slates: what the cache answers costs no engine time."""
    per_million_predictions: float | None
    """Of rows that an engine scored; None if none was."""
    engine_ms_per_ranking: float
    """Engine time of a slate, on average: what the cost follows from."""


def cost(*, compute_us: int, rankings: int, predictions: int, price_per_hour: float) -> Cost:
    """The cost of a variant's rankings.

    Args:
        compute_us: Engine time that they took, in microseconds.
        rankings: How many slates.
        predictions: Rows that engines scored for them.
        price_per_hour: What runs one engine call at a time, per hour.

    Raises:
        NotEnoughData: there were no rankings.
        ValueError: the price is no finite number of at least 0.
    """
    if not isfinite(price_per_hour) or price_per_hour < 0:
        raise ValueError(f"a price must be a finite number >= 0, got {price_per_hour}")
    if rankings == 0:
        raise NotEnoughData("no rankings yet")
    spent = compute_us / 1e6 * price_per_hour / _SECONDS_PER_HOUR
    return Cost(
        per_million_rankings=spent / rankings * _MILLION,
        per_million_predictions=spent / predictions * _MILLION if predictions else None,
        engine_ms_per_ranking=compute_us / 1000 / rankings,
    )
