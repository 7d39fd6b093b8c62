"""Failures are rare, come in clumps, and must be noticed early: bounds that need no large sample.

An interval from variances knows nothing before a dozen units have failed. Here the first
failure of each cell of units is an event of its own, and what follows in that cell counts
for nothing: a single client that tries again a thousand times is one event. If each request
fails with probability ``p`` at most, whatever happened before, then after ``n`` requests with
``x`` such events the average over ``d`` of

    (1 + d)^x * exp(-d * p * n)

is a test supermartingale: it starts at 1 and ever reaches ``1 / alpha`` with probability
``alpha`` at most. So it may be read at every look, and it is exact, not asymptotic.

Source:
    Ville (1939), "Étude critique de la notion de collectif" (the inequality); Howard,
    Ramdas, McAuliffe, Sekhon (2020), "Time-uniform Chernoff bounds via nonnegative
    supermartingales", Probability Surveys 17; arXiv:1808.03204 (counting processes).
"""

from math import exp, inf, log, log1p

_EXCESSES = (0.5, 1.0, 3.0, 9.0, 30.0)
"""``d``: by how much the rate exceeds the limit, relative to it. Small ones find small
excesses late, large ones large excesses early; their average does both."""

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


def highest_silent_ratio(clicking_cells: int, share: float, *, confidence: float) -> float:
    """The largest ratio of CTRs, treatment over control, that a silent treatment leaves possible.

    If the ratio is ``r``, the next cell to click for the first time is the treatment's with
    probability ``q = r * share / (r * share + 1 - share)`` at least. That it never is has the
    likelihood ``(1 - q)^cells``, whose inverse is a test martingale against silence.

    Args:
        clicking_cells: Cells of the control's units with a click; the treatment has none.
        share: The treatment's share of the impressions of both, in (0, 1).
        confidence: That the truth is not above, at every look at once.
    """
    if clicking_cells == 0:
        return inf
    never = exp(log(1 - confidence) / clicking_cells)  # 1 - q
    return (1 - never) / never * (1 - share) / share
