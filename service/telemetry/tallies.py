"""Counts and durations that every request pays for, as cheap as Python has them.

The client library locks for every addition and looks for the bucket of every
duration one by one: a tenth of what a ranking of ten candidates costs. These
belong to the event loop's thread, which also makes the page of them.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from math import inf
from typing import Generic, TypeVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector, CollectorRegistry
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

Child = TypeVar("Child")
_Bucket = tuple[str, float] | tuple[str, float, Exemplar]


class Tally:
    """A number that is counted up, and down if it is a gauge's."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, by: float = 1.0) -> None:
        self.value += by

    def dec(self) -> None:
        self.value -= 1.0


class Spread:
    """How many values fell into which bucket, with the newest exemplar of each."""

    __slots__ = ("_bounds", "counts", "exemplars", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.exemplars: dict[int, Exemplar] = {}
        self.total = 0.0

    def observe(self, value: float, exemplar: dict[str, str] | None = None) -> None:
        bucket = bisect_left(self._bounds, value)
        self.counts[bucket] += 1
        self.total += value
        if exemplar is not None:
            self.exemplars[bucket] = Exemplar(exemplar, value, time.time())

    def observe_all(self, values: Iterable[float]) -> None:
        """Several at once, none of which has an exemplar."""
        bounds, counts = self._bounds, self.counts
        for value in values:
            counts[bisect_left(bounds, value)] += 1
            self.total += value


class Children(dict[tuple[str, ...], Child], Generic[Child]):
    """The children of a metric by label values; one that is asked for is there from then on."""

    def __init__(self, make: Callable[[], Child]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, values: tuple[str, ...]) -> Child:
        child = self[values] = self._make()
        return child


class _Shown(Collector):
    """A metric that is put together whenever the page is."""

    def __init__(self, family: Callable[[], Metric]) -> None:
        self._family = family

    def collect(self) -> Iterable[Metric]:
        yield self._family()


def counter(registry: CollectorRegistry, name: str, meaning: str, *labels: str) -> Children[Tally]:
    """A counter; without labels its one child is ``()``."""

    def family() -> Metric:
        shown = CounterMetricFamily(name, meaning, labels=labels)
        for values, child in children.items():
            shown.add_metric(values, child.value)
        return shown

    children = Children(Tally)
    registry.register(_Shown(family))
    return children


def gauge(registry: CollectorRegistry, name: str, meaning: str, *labels: str) -> Children[Tally]:
    """A gauge; without labels its one child is ``()``."""

    def family() -> Metric:
        shown = GaugeMetricFamily(name, meaning, labels=labels)
        for values, child in children.items():
            shown.add_metric(values, child.value)
        return shown

    children = Children(Tally)
    registry.register(_Shown(family))
    return children


def histogram(
    registry: CollectorRegistry, name: str, meaning: str, *labels: str, bounds: Sequence[float]
) -> Children[Spread]:
    """A histogram; without labels its one child is ``()``."""

    def family() -> Metric:
        shown = HistogramMetricFamily(name, meaning, labels=labels)
        for values, child in children.items():
            shown.add_metric(values, _buckets(child, told), child.total)
        return shown

    told: list[str] = [
        floatToGoString(bound)  # type: ignore[no-untyped-call]
        for bound in (*bounds, inf)
    ]
    children = Children(lambda: Spread(bounds))
    registry.register(_Shown(family))
    return children


def _buckets(spread: Spread, told: Sequence[str]) -> list[_Bucket]:
    """Prometheus's own form: every bucket counts those below it too."""
    shown: list[_Bucket] = []
    for at, so_far in enumerate(accumulate(spread.counts)):
        exemplar = spread.exemplars.get(at)
        shown.append((told[at], so_far) if exemplar is None else (told[at], so_far, exemplar))
    return shown
