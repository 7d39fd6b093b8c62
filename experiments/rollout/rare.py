"""Failures and clicks that are few: bounds that need no large sample.

Failures are rare, come in clumps, and must be noticed early, and an interval from variances
knows nothing before a dozen units have failed (or clicked). Here the first
failure of each cell of units is an event of its own, and what follows in that cell counts
for nothing: a single client that tries again a thousand times is one event. If each request
fails with probability ``p`` at most, whatever happened before, then after ``n`` requests with
``x`` such events the average over ``d`` of

    (1 + d)^x * exp(-d * p * n)

is a test supermartingale: it starts at 1 and ever reaches ``1 / alpha`` with probability
``alpha`` at most. So it may be read at every look, and it is exact, not asymptotic. Clicks that
stop are found the same way, by whose cells click for the first time.

Source:
    Ville (1939), "Étude critique de la notion de collectif" (the inequality); Howard,
    Ramdas, McAuliffe, Sekhon (2020), "Time-uniform Chernoff bounds via nonnegative
    supermartingales", Probability Surveys 17; arXiv:1808.03204 (counting processes).
"""

from math import exp, inf, log, log1p

from experiments.variant_statistics import CELLS

_EXCESSES = (0.5, 1.0, 3.0, 9.0, 30.0)
"""``d``: by how much the rate exceeds the limit, relative to it. Small ones find small
excesses late, large ones large excesses early; their average does both."""

_FRACTIONS = (0.0, 0.03, 0.1, 0.3, 0.6)
"""``c``: how much of its share of clicks a treatment may have kept; the first is silence."""

_HIGHEST = 100.0
"""Of ratios that are looked for."""

_STEPS = 60
"""Of halving a range of rates: to within rounding."""


def evidence_above(rate: float, events: int, requests: int) -> float:
    """How strongly the events speak for a rate above ``rate``, as a logarithm.

    At ``log(1 / alpha)`` or more the rate is above, with error ``alpha`` over all looks.

    Args:
        rate: Per request, to be exceeded.
        events: Cells with at least one failure.
        requests: Of all cells.
    """
    if events == 0:
        return -inf
    terms = [events * log1p(d) - d * rate * requests for d in _EXCESSES]
    top = max(terms)
    return top + log(sum(exp(term - top) for term in terms) / len(terms))


def lower_bound(events: int, requests: int, *, confidence: float) -> float:
    """The rate that the truth is above at every look at once; 0 where nothing is shown."""
    needed = -log(1 - confidence)
    if requests == 0 or evidence_above(0.0, events, requests) < needed:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if evidence_above(middle, events, requests) >= needed:
            low = middle
        else:
            high = middle
    return low


def evidence_below(ratio: float, clicking: int, others: int, share: float) -> float:
    """How strongly first clicks speak for a ratio of CTRs below ``ratio``, as a logarithm.

    If treatment over control is ``ratio``, the next cell of units to click for the first time is
    the treatment's with probability ``q = ratio * share / (ratio * share + 1 - share)`` at
    least: the more have clicked, the fewer are left to. Against each smaller ``c * q`` the
    likelihood of who clicked is a test supermartingale, and so is its average over ``c``.

    Args:
        ratio: Above zero.
        clicking: Cells of the treatment's units with a click.
        others: The same of the control's.
        share: The treatment's share of the impressions of both, in (0, 1).
    """
    left = share * (1 - clicking / CELLS)
    q = ratio * left / (ratio * left + 1 - share)
    terms = [
        (clicking * log(c) if clicking else 0.0) + others * log((1 - c * q) / (1 - q))
        for c in _FRACTIONS
        if c or not clicking
    ]
    top = max(terms)
    return top + log(sum(exp(term - top) for term in terms) / len(_FRACTIONS))


def highest_ratio(clicking: int, others: int, share: float, *, confidence: float) -> float:
    """The largest ratio of CTRs, treatment over control, that few or no clicks leave possible.

    For a treatment that shows the same to the same kind of units and loses clicks: an interval
    from variances is blind to it, however many impressions follow.

    Args:
        clicking: Cells of the treatment's units with a click; few of all cells.
        others: The same of the control's.
        share: The treatment's share of the impressions of both, in (0, 1).
        confidence: That the truth is not above, at every look at once.

    Returns:
        A ratio; infinite where nothing below `_HIGHEST` is excluded.
    """
    needed = -log(1 - confidence)
    if evidence_below(_HIGHEST, clicking, others, share) < needed:
        return inf
    low, high = 0.0, _HIGHEST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if evidence_below(middle, clicking, others, share) >= needed:
            high = middle
        else:
            low = middle
    return high
