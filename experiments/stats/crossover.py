"""Units that were in two variants of one phase: the split leaked.

A unit that changes variants takes its habits along and dilutes every difference. A
sound split has none at all; they come from ids that change, two systems that decide,
or a definition edited without a new phase.

Source:
    Wilson (1927), "Probable inference, the law of succession, and statistical
    inference", JASA 22 (interval of a share that covers also for none and for few).
"""

from typing import Literal

from msgspec import Struct

from experiments.stats import Interval, NotEnoughData
from experiments.stats.rates import wilson

LIMIT = 0.01
"""Share of crossing units beyond which a comparison is not to be trusted."""


class CrossoverCheck(Struct, frozen=True):
    """Which share of the units was in more than one variant."""

    share: Interval
    limit: float
    verdict: Literal["ok", "exceeded", "unclear"]
    """The whole interval is at or below the limit, the whole is above it, or neither."""


def check_crossovers(
    crossovers: int, units: int, *, limit: float = LIMIT, confidence: float = 0.95
) -> CrossoverCheck:
    """Compare the share of units that crossed over with a limit.

    Args:
        crossovers: Distinct units that were seen in a second variant.
        units: Distinct units of all variants.
        limit: The largest share that is fine.
        confidence: Two-sided, of the interval.

    Raises:
        NotEnoughData: no units yet.
        ValueError: more crossovers than units.
    """
    share = wilson_interval(crossovers, units, confidence=confidence)
    if share.high <= limit:
        return CrossoverCheck(share, limit, "ok")
    return CrossoverCheck(share, limit, "exceeded" if share.low > limit else "unclear")


def wilson_interval(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """A share of independent trials with its score interval.

    Raises:
        NotEnoughData: no trials yet.
        ValueError: the counts are impossible.
    """
    if trials == 0:
        raise NotEnoughData("no units yet")
    if not 0 <= successes <= trials:
        raise ValueError(f"{successes} of {trials} is no share")
    return wilson(successes / trials, trials, confidence=confidence)
