"""Estimates with intervals, from constant-size sufficient statistics.

Distributions come from `scipy.special`: `scipy.stats` is slow to import and to call, and the
service starts and reports with this. The tests compare with `scipy.stats`.
"""

from msgspec import Struct


class NotEnoughData(ValueError):
    """The sample cannot carry the statement; the text says what is missing."""


class Interval(Struct, frozen=True):
    """An estimate and the range that covers the truth with the stated confidence."""

    value: float
    low: float
    high: float
