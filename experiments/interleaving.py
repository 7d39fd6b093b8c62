"""Two rankers on one slate: who places which item, and what the clicks say of the two.

Every user sees both rankers at once, so what differs between users cancels out, and a
preference shows with far fewer slates than an A/B test needs. What it cannot tell is how
large the difference would be in CTR, nor anything of latency: each slate waits for both.

An item that both rank alike is placed by either with the same probability, so rankers
that are the same get the same credit on average. Clicks on positions are not corrected
for: both teams place at the top equally often.

Source:
    Radlinski, Kurup, Joachims (2008), "How does clickthrough data reflect retrieval
    quality?", CIKM (team draft). Chapelle, Joachims, Radlinski, Yue (2012),
    "Large-scale validation and analysis of interleaved search evaluation", ACM TOIS 30
    (credit, its test, its sensitivity).
"""

from collections.abc import Sequence
from hashlib import shake_128
from math import sqrt

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from scipy import special

from experiments.stats import Interval, NotEnoughData

FEWEST_CLUSTERS = 10.0
"""Effective slates or units with clicks that a test needs."""

Ranking = npt.NDArray[np.intp]
Clicks = npt.NDArray[np.int64]


class Draft(Struct, frozen=True):
    """An interleaved slate."""

    order: tuple[int, ...]
    """Candidates by position, as the rankings name them."""
    teams: tuple[int, ...]
    """0 or 1 for each: whose pick it was."""


class Preference(Struct, frozen=True, kw_only=True):
    """What users prefer. Positive is for the second ranker, the treatment."""

    delta: Interval
    """Clicks credited to the treatment less those to the control, over all: -1 to 1."""
    p_value: float
    """Two-sided, of delta = 0: below ``1 - confidence`` if and only if `delta` excludes 0."""
    wins: int
    losses: int
    ties: int
    """Clusters (slates, units, or cells of units) in which the treatment got more clicks, fewer,
    or as many; those without clicks are not among them."""
    sign_p_value: float
    """Two-sided binomial test of wins against losses: as if each cluster had one vote."""
    clicks: int


def coins(slate_id: str, salt: str, n: int) -> tuple[int, ...]:
    """``n`` fair coins of a slate: always the same for the same id and salt, so that a draft can
    be done again by whoever audits it.

    They are the bits of SHAKE-128 of ``<salt>/<slate id>``, the lowest of each byte first.
    """
    bits = int.from_bytes(shake_128(f"{salt}/{slate_id}".encode()).digest((n + 7) // 8), "little")
    return tuple(bits >> at & 1 for at in range(n))


def team_draft(first: Sequence[int], second: Sequence[int], k: int, flips: Sequence[int]) -> Draft:
    """Pick a slate in turns: in each round a coin says who is first, and each team then takes the
    best item of its ranking that is not taken.

    Args:
        first: The control's ranking, best first, without repeats.
        second: The treatment's, of the same candidates.
        k: Length of the slate; more than there are candidates gives all of them.
        flips: One coin per round, at least ``(k + 1) // 2``; 0 lets the control go first.
    """
    k = min(k, len(first))
    rankings, place = (first, second), [0, 0]
    order: list[int] = []
    teams: list[int] = []
    taken: set[int] = set()
    while len(order) < k:
        begins = flips[len(order) // 2]
        team = begins if len(order) % 2 == 0 else 1 - begins
        ranking = rankings[team]
        while ranking[place[team]] in taken:
            place[team] += 1
        pick = ranking[place[team]]
        taken.add(pick)
        order.append(pick)
        teams.append(team)
    return Draft(tuple(order), tuple(teams))


def preference(control: Clicks, treatment: Clicks, *, confidence: float = 0.95) -> Preference:
    """Which ranker the clicks prefer.

    Clusters are the random units: slates if every slate is another user's, else units, or
    cells of units (`experiments.variant_statistics.VariantStatistics.team_wins`).

    Args:
        control: Clicks credited to the control, shape ``[clusters]``.
        treatment: The same for the treatment.
        confidence: Two-sided coverage, in ``(0, 1)``.

    Raises:
        NotEnoughData: too few clusters have clicks, or all of them are ties.
    """
    clicked = (control + treatment) > 0
    a, b = control[clicked].astype(np.float64), treatment[clicked].astype(np.float64)
    total = float((a + b).sum())
    weight = (a + b) / total if total else a
    effective = 1 / float(np.sum(weight**2)) if total else 0.0
    if effective < FEWEST_CLUSTERS:
        raise NotEnoughData(
            f"{effective:.1f} of {FEWEST_CLUSTERS:.0f} effective slates or units with clicks"
        )
    delta, error = float((b - a).sum()) / total, _error(a, b)
    reach = float(special.stdtrit(effective - 1, (1 + confidence) / 2)) * error
    wins, losses = int((b > a).sum()), int((b < a).sum())
    return Preference(
        delta=Interval(delta, max(-1.0, delta - reach), min(1.0, delta + reach)),
        p_value=float(2 * special.stdtr(effective - 1, -abs(delta) / error)),
        wins=wins,
        losses=losses,
        ties=len(a) - wins - losses,
        sign_p_value=sign_test(wins, losses),
        clicks=int(total),
    )


def sign_test(wins: int, losses: int) -> float:
    """Two-sided probability of a split at least as uneven, if each side were as likely."""
    n = wins + losses
    return min(1.0, 2 * float(special.bdtr(min(wins, losses), n, 0.5))) if n else 1.0


def _error(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Of delta, between clusters, as it would be with no preference.

    Then the coins make the sign of every cluster's difference as likely as the other, so the
    mean is known to be 0 and nothing is fitted; with a preference it is a little too large.
    """
    error = sqrt(float(((b - a) ** 2).sum())) / float((a + b).sum())
    if error == 0:
        raise NotEnoughData("every slate with clicks is a tie so far")
    return error
