"""Figures with their intervals, or with what is missing to have one."""

from collections.abc import Callable
from typing import Literal

from experiments.report.inputs import CONFIDENCE
from experiments.report.values import MarginCheck, Measure, Reading
from experiments.rollout_plan import Rollout
from experiments.stats import Estimate, Interval, NotEnoughData
from experiments.stats.estimate import interval as interval_once
from experiments.stats.estimate import p_value, relative
from experiments.stats.inferiority import non_inferior_always
from experiments.stats.sequential import always_valid_interval, always_valid_p

Estimating = Callable[[], Estimate]

DEFAULTS = Rollout()
"""What an experiment without a rollout is held to."""


def measure(interval: Interval) -> Measure:
    return Measure(value=interval.value, low=interval.low, high=interval.high)


def measured(work: Callable[[], Interval], value: float | None = None) -> Measure:
    """What `work` gives; where it cannot, `value` alone and the reason."""
    try:
        return measure(work())
    except NotEnoughData as reason:
        return Measure(value=value, missing=str(reason))


def share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def reading(estimating: Estimating) -> Reading:
    """A logarithm of treatment over control as a relative change, read in both ways."""
    try:
        change = estimating()
        once = measured(lambda: relative(interval_once(change, confidence=CONFIDENCE)))
    except NotEnoughData as reason:
        return unread(str(reason))
    always = measured(
        lambda: relative(always_valid_interval(change, confidence=CONFIDENCE)),
        once.value,
    )
    return Reading(
        once=once,
        always=always,
        p_once=None if once.missing else p_value(change),
        p_always=None if always.missing else always_valid_p(change, confidence=CONFIDENCE),
    )


def unread(why: str) -> Reading:
    return Reading(once=Measure(missing=why), always=Measure(missing=why))


def margin_check(
    estimating: Estimating, margin: float, *, better: Literal["higher", "lower"]
) -> MarginCheck:
    """Whether it is shown, at every look, to be within a margin; unclear without data."""
    if not 0 < margin < 1:
        what = "none" if margin == 0 else "100 % or more, which is not tested"
        return MarginCheck(
            margin=margin, verdict="unclear", missing=f"the definition allows {what}"
        )
    try:
        # One-sided with half the error: it then says the same as the two-sided interval.
        found = non_inferior_always(
            estimating(), margin, better=better, confidence=(1 + CONFIDENCE) / 2
        )
    except NotEnoughData as reason:
        return MarginCheck(margin=margin, verdict="unclear", missing=str(reason))
    return MarginCheck(
        margin=margin, verdict=found.verdict, worst=found.worst, p_value=found.p_value
    )
