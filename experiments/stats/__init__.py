"""Estimates with intervals, from constant-size sufficient statistics.

Two steps, and every test is one of each. What happened becomes an `Estimate`: a CTR
(`ratio`), a change of it (`ratio.log_change`, `delta`), one adjusted by what went
before (`cuped`) or put together from several phases (`stratified`). An estimate is
then read: once (`estimate`), again and again while data arrive (`sequential`), or
against a margin (`inferiority`). Beside these stand the checks that data are fit to be
read (`srm`, `crossover`), corrections for many tests (`corrections`) and planning (`power`).

Relative changes are estimated on the logarithm: ``log(treatment / control)``;
`estimate.relative` turns an interval back into a relative change.

Distributions come from `scipy.special`: `scipy.stats` is slow to import and to call, and the
service starts and reports with this. The tests compare with `scipy.stats`.
"""

from math import inf, isfinite

from msgspec import Struct

ROUNDING = 1e-9
"""A relative standard error below this is what rounding has left of none."""


class NotEnoughData(ValueError):
    """The sample cannot carry the statement; the text says what is missing."""


class Interval(Struct, frozen=True):
    """An estimate and the range that covers the truth with the stated confidence."""

    value: float
    low: float
    high: float


class Estimate(Struct, frozen=True, kw_only=True):
    """A figure with its standard error, before anybody has chosen a confidence."""

    value: float
    error: float
    """Standard error, above 0."""
    freedom: float = inf
    """Degrees of freedom of the standard error: Student's t with these, the normal for `inf`."""
    size: float
    """How many independent observations carry it, so that ``error * sqrt(size)`` stays about
    the same while data arrive: the clock of `sequential`. For a logarithm from
    `sequential.effective_size`, for a mean the number of units."""

    def __post_init__(self) -> None:
        if not isfinite(self.value):
            raise ValueError(f"an estimate must be finite, got {self.value}")
        for what, number in (("error", self.error), ("size", self.size)):
            if not (isfinite(number) and number > 0):
                raise ValueError(f"the {what} of an estimate must be above 0, got {number}")
        if not self.freedom > 0:
            raise ValueError(f"degrees of freedom must be above 0, got {self.freedom}")
