"""Not worse by more than a margin: what a rollout has to show of what should not change.

"No significant difference" is no proof of anything: a test without data finds none. A
non-inferiority test turns the burden around. It promotes when the worst change that
the data still allow is smaller than the margin, which needs data.

Margins are relative and positive: 0.02 allows the treatment to be 2 % worse. Changes are
logarithms of treatment over control, as `ratio.log_change` gives them, so that
the margin needs no correction for the control's own error.

Source:
    Piaggio et al. (2012), "Reporting of Noninferiority and Equivalence Randomized
    Trials: Extension of the CONSORT 2010 Statement", JAMA 308.
    Schultzberg, Ankargren, Frånberg (2024), "Risk-aware product decisions in A/B tests
    with multiple metrics", arXiv:2402.11609 (non-inferiority for guardrails).
"""

from math import log1p
from typing import Literal

from msgspec import Struct

from experiments.stats import Estimate
from experiments.stats.estimate import lower_bound, one_sided_p, relative_change, turned
from experiments.stats.sequential import (
    TUNING,
    always_valid_lower_bound,
    always_valid_one_sided_p,
)

Better = Literal["higher", "lower"]
"""What is good: a CTR is better when higher, a latency when lower."""

Verdict = Literal["non_inferior", "inferior", "unclear"]


class NonInferiority(Struct, frozen=True, kw_only=True):
    """Whether a treatment is worse than the control by more than a margin."""

    worst: float
    """Relative change (-0.01 is one percent less) than which the truth is not worse,
    one-sided with the stated confidence."""
    best: float
    """Relative change than which the truth is not better, likewise."""
    limit: float
    """The margin as a relative change: -margin if higher is better, margin if lower is."""
    p_value: float
    """One-sided, of "worse by the margin or more": below ``1 - confidence`` if and only if
    the verdict is ``non_inferior``."""
    verdict: Verdict
    """``inferior``: even the best change is worse than the limit. ``unclear``: more data."""


def non_inferior(
    change: Estimate, margin: float, *, better: Better = "higher", confidence: float = 0.95
) -> NonInferiority:
    """Read once: is the treatment at most ``margin`` worse?

    Args:
        change: Logarithm of treatment over control.
        margin: Relative, in ``(0, 1)``.
        better: Which direction is good.
        confidence: One-sided, above 0.5.

    Raises:
        NotEnoughData: the change could still be a billionfold.
    """
    gain, null = _gain(change, better), _limit(margin, better)
    return _verdict(
        lower_bound(gain, confidence=confidence),
        -lower_bound(turned(gain), confidence=confidence),
        null,
        one_sided_p(gain, null=null),
        better,
    )


def non_inferior_always(
    change: Estimate,
    margin: float,
    *,
    better: Better = "higher",
    confidence: float = 0.95,
    tuning: float = TUNING,
) -> NonInferiority:
    """The same, to be read at any time: see `experiments.stats.sequential`.

    Each of `worst` and `best` holds at all times with the stated confidence.

    Raises:
        NotEnoughData: far too early; there is no finite bound.
    """
    gain, null = _gain(change, better), _limit(margin, better)
    return _verdict(
        always_valid_lower_bound(gain, confidence=confidence, tuning=tuning),
        -always_valid_lower_bound(turned(gain), confidence=confidence, tuning=tuning),
        null,
        always_valid_one_sided_p(gain, null=null, confidence=confidence, tuning=tuning),
        better,
    )


def _gain(change: Estimate, better: Better) -> Estimate:
    """The change with "more" meaning "better"."""
    return change if better == "higher" else turned(change)


def _limit(margin: float, better: Better) -> float:
    """The margin as a gain on the logarithm, below 0."""
    if not 0 < margin < 1:
        raise ValueError(f"a margin must be in (0, 1), got {margin}")
    return log1p(-margin) if better == "higher" else -log1p(margin)


def _verdict(
    worst: float, best: float, null: float, p_value: float, better: Better
) -> NonInferiority:
    """From gains on the logarithm back to relative changes."""
    sign = 1 if better == "higher" else -1
    verdict: Verdict = "unclear"
    if worst > null:
        verdict = "non_inferior"
    elif best < null:
        verdict = "inferior"
    return NonInferiority(
        worst=relative_change(sign * worst),
        best=relative_change(sign * best),
        limit=relative_change(sign * null),
        p_value=p_value,
        verdict=verdict,
    )
