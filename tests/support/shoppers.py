"""Simulated shoppers whose true CTR is known: heavy-tailed activity, and a taste of their own.

Clicks of one user resemble each other (beta-binomial) and a few users have most
impressions (log-normal rates), which is what makes a CTR hard to judge.
"""

from math import sqrt
from typing import Literal

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from experiments.stats.ratio import RatioSample
from experiments.variant_statistics import CELLS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

Arrival = Literal["new users only", "all users return", "users join and stay", "heavier later"]
ARRIVALS: tuple[Arrival, ...] = (
    "new users only",
    "all users return",
    "users join and stay",
    "heavier later",
)


class Shoppers(Struct, frozen=True, kw_only=True):
    """Users of one variant."""

    rate: Floats
    """Impressions per period, shape ``[users]``."""
    taste: Floats
    """Click probability of each user."""
    cell: Ints

    def period(self, rng: np.random.Generator, active: Floats | float = 1.0) -> RatioSample:
        """What they see and click in one period, by cell; rates are multiplied by ``active``."""
        impressions = rng.poisson(self.rate * active)
        clicks = rng.binomial(impressions, self.taste)
        return RatioSample(
            np.bincount(self.cell, clicks, CELLS), np.bincount(self.cell, impressions, CELLS)
        )


def shoppers(
    rng: np.random.Generator,
    users: int,
    ctr: float,
    *,
    per_period: float = 10.0,
    heavy: float = 1.0,
    alike: float = 20.0,
) -> Shoppers:
    """Draw users.

    Args:
        ctr: Expected clicks per impression.
        per_period: Impressions of a user and period on average.
        heavy: Standard deviation of the logarithm of the rates.
        alike: Concentration of the tastes; the less, the more users differ.
    """
    return Shoppers(
        rate=rng.lognormal(np.log(per_period) - heavy**2 / 2, heavy, users),
        taste=rng.beta(ctr * alike, (1 - ctr) * alike, users),
        cell=rng.integers(0, CELLS, users),
    )


def activity(arrival: Arrival, users: int, periods: int) -> Floats:
    """By how much users are active in each period, shape ``[periods, users]``."""
    joins = np.arange(users) * periods // users
    now = np.arange(periods)[:, None]
    if arrival == "new users only":
        return (joins == now).astype(np.float64)
    if arrival == "all users return":
        return np.ones((periods, users))
    if arrival == "users join and stay":
        return (joins <= now).astype(np.float64)
    return (joins == now) * np.linspace(0.3, 3.0, periods)[:, None]


def looks(
    rng: np.random.Generator, who: Shoppers, arrival: Arrival, periods: int
) -> list[RatioSample]:
    """The totals by cell after each period."""
    sums = RatioSample(np.zeros(CELLS, np.int64), np.zeros(CELLS, np.int64))
    seen = []
    for active in activity(arrival, len(who.rate), periods):
        new = who.period(rng, active)
        sums = RatioSample(sums.numerator + new.numerator, sums.denominator + new.denominator)
        seen.append(sums)
    return seen


def slack(share: float, runs: int) -> float:
    """Three standard errors of a simulated share."""
    return 3 * sqrt(share * (1 - share) / runs)
