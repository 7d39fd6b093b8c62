"""What this worker counted, slot by slot, for whoever opens the live page later.

A slot is two seconds of the wall clock, so the slots of all workers are the same
ones and add up. Only what rose is kept: an idle worker keeps nothing, and a
worker that was restarted begins with small numbers, not with a fall.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Final
from uuid import uuid4

import msgspec
from msgspec import Struct

from service.clock import Clock
from service.telemetry import names
from service.telemetry.merging import FamilySnapshot

_log = logging.getLogger(__name__)

SLOT_S: Final = 2.0
KEPT_SLOTS: Final = 300
"""Ten minutes."""
SAMPLES: Final = "page.samples"
"""The command that asks a worker for its slots."""

_WANTED: Final[Mapping[str, tuple[str, ...]]] = {
    f"{names.M_REQUEST_SECONDS}_bucket": ("variant", "le"),
    f"{names.M_REQUESTS}_total": ("variant", "outcome"),
    f"{names.M_CACHE}_total": ("result",),
    f"{names.M_CACHE_FOUND}_total": ("level",),
    f"{names.M_SHED}_total": ("reason",),
    f"{names.M_DEGRADED}_total": ("reason",),
    f"{names.M_DEADLINE_EXCEEDED}_total": (),
    f"{names.M_BATCH_ROWS}_bucket": ("le",),
    f"{names.M_BATCH_ROWS}_sum": (),
    f"{names.M_QUEUE_SECONDS}_bucket": ("le",),
}
"""Series by the labels that the page tells apart; the others are added up."""
_FAMILIES: Final = frozenset(name.rsplit("_", 1)[0] for name in _WANTED)

Counts = dict[str, dict[tuple[str, ...], float]]
"""Series to label values to a count."""


class Slot(Struct, frozen=True, array_like=True):
    """What rose in a slot."""

    number: int
    """Of the slot: Unix seconds over `SLOT_S`."""
    counts: Counts


class Told(Struct, frozen=True, array_like=True):
    """A worker's answer: its slots after the one that was asked about."""

    worker: str
    since: int
    """The first slot that the worker has seen the whole of, or that it still has."""
    slots: list[Slot]


_ENCODER, _TOLD = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Told)


class Sampler:
    """Keeps the newest slots of this worker. For the event loop's thread.

    Args:
        families: The figures of this process, metric by metric.
        clock: The service's.
    """

    def __init__(self, families: Callable[[], Iterable[FamilySnapshot]], clock: Clock) -> None:
        self._families, self._clock = families, clock
        self._worker = uuid4().hex
        self._since = slot_at(clock.wall())
        self._slots: deque[Slot] = deque(maxlen=KEPT_SLOTS)
        self._before: Counts = {}

    async def run(self) -> None:
        """Look at the end of every slot, until cancelled: some 3 ms of work, in small pieces."""
        while True:
            await asyncio.sleep(SLOT_S - self._clock.wall() % SLOT_S)
            try:
                # A timer may be early by a little: that is the end of the slot all the same.
                await self.look(round(self._clock.wall() / SLOT_S) - 1)
            except Exception:
                # A figure that cannot be read now must not leave the page empty for good.
                _log.exception("what was counted in two seconds is lost to the live page")

    async def look(self, number: int) -> None:
        """Put down what rose since the last look, in a slot that has just ended."""
        found: Counts = {}
        for family in self._families():
            if family.name in _FAMILIES:
                _gather(family, found)
            await asyncio.sleep(0)
        if rose := _risen(self._before, found):
            self._slots.append(Slot(number, rose))
        self._before = found

    async def answer(self, after: bytes) -> bytes:
        """The slots after a number, for a fleet that asks."""
        since = max(self._since, slot_at(self._clock.wall()) - KEPT_SLOTS)
        told = [slot for slot in self._slots if slot.number > int(after)]
        return _ENCODER.encode(Told(self._worker, since, told))


def slot_at(wall: float) -> int:
    """The number of the slot that a moment is in."""
    return int(wall // SLOT_S)


def told(answer: bytes) -> Told:
    """What `Sampler.answer` has encoded."""
    return _TOLD.decode(answer)


def add_up(counts: Iterable[Counts]) -> Counts:
    """Counts of several workers or slots together."""
    together: Counts = {}
    for one in counts:
        for name, series in one.items():
            sums = together.setdefault(name, {})
            for values, count in series.items():
                sums[values] = sums.get(values, 0.0) + count
    return together


def _gather(family: FamilySnapshot, found: Counts) -> None:
    for name, labels, value, *_ in family.samples:
        kept = _WANTED.get(name)
        if kept is not None:
            series, values = found.setdefault(name, {}), tuple(labels[label] for label in kept)
            series[values] = series.get(values, 0.0) + value


def _risen(before: Counts, now: Counts) -> Counts:
    rose: Counts = {}
    for name, series in now.items():
        known = before.get(name, {})
        more = {values: count - known.get(values, 0.0) for values, count in series.items()}
        # Whole series: a bucket that did not rise says where the next one begins.
        if any(more.values()):
            rose[name] = more
    return rose
