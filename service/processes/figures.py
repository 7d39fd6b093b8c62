"""The figures of workers in the parent's hands, so that none is lost with its worker.

The parent notes what each worker told it last: about once a second, and
whenever a page is made. So no total that a page has shown ever falls, and a
worker that is killed takes the counts of about a second with it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

from service.telemetry.merging import FamilySnapshot, Totals, encode_snapshot
from service.telemetry.parent import ParentMetrics

FIGURES: Final = "metrics"
"""The command that asks for the figures of a worker."""
FIGURES_LIMIT_S: Final = 1.0
"""A worker that takes longer is represented by what it told last."""
TELL_S: Final = 1.0
"""Between two reports of a worker."""
_SHARE: Final = 0.005
"""Of a worker's time that reports may take; with very many series they come more rarely."""


class Figures:
    """What all workers counted, those that ended included."""

    def __init__(self, parent: ParentMetrics | None = None) -> None:
        """Prepare; `parent` has the parent's own figures, none of its own by default."""
        self._last: dict[object, bytes] = {}
        self._ended = Totals()
        self.parent = ParentMetrics() if parent is None else parent

    def told(self, worker: object, figures: bytes | None) -> None:
        """A worker told its figures; None if it did not after all."""
        if figures is not None and worker in self._last:
            self._last[worker] = figures

    def begun(self, worker: object) -> None:
        self._last[worker] = b""

    def ended(self, worker: object) -> None:
        """Keep what a worker counted, for good."""
        figures = self._last.pop(worker)
        if figures:
            self._ended.keep_counts_of(figures)

    def of(self, workers: Iterable[object]) -> list[bytes]:
        """What these workers told last."""
        return [figures for worker in workers if (figures := self._last.get(worker))]

    def own(self) -> bytes:
        """Of the workers that ended, and of the parent itself."""
        together = Totals()
        together.add(self._ended.snapshot())
        together.add(encode_snapshot(list(self.parent.families())))
        return together.snapshot()


class Reporter:
    """A worker's figures on their way to the parent. For one event loop."""

    def __init__(self, families: Callable[[], Iterable[FamilySnapshot]]) -> None:
        """Prepare.

        Args:
            families: The figures, metric by metric, each as it is when its turn comes.
        """
        self._families = families
        self._one_at_a_time = asyncio.Lock()

    async def figures(self) -> bytes:
        """The figures of this process, gathered while requests go on in between.

        To be sent at once: what is sent later must not be older.
        """
        async with self._one_at_a_time:
            families: list[FamilySnapshot] = []
            for family in self._families():
                families.append(family)
                await asyncio.sleep(0)
            return encode_snapshot(families)

    async def answer(self, _: bytes) -> bytes:
        """The figures, for a fleet that asks."""
        return await self.figures()

    async def keep_telling(self, tell: Callable[[bytes], None]) -> None:
        """Tell the figures about once a second, until cancelled."""
        while True:
            began = time.monotonic()
            tell(await self.figures())
            await asyncio.sleep(max(TELL_S, (time.monotonic() - began) / _SHARE))
