"""What each variant added up to by now: for the metrics, read by the one process that leads."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from msgspec import Struct

from experiments.definition import Experiment
from experiments.stats import NotEnoughData
from experiments.stats.srm import check_split
from service.errors import ReportUnavailable
from service.events.statistics import ReadStatistics
from service.rollouts.live import LiveExperiments

READ_S = 5.0
"""Between two reads, each of a few numbers per variant."""
_COUNTED = ("running", "aa")


class Totals(Struct, frozen=True):
    """Of the present phase of every experiment that counts units."""

    by_variant: Mapping[tuple[str, str], Mapping[str, int]]
    """Experiment and variant to ``users``, ``impressions`` and ``clicks``."""
    split_p: Mapping[str, float]
    """Experiment to the chance of so uneven a split; absent while too few units are counted."""
    backlog: int
    """Entries of the event stream that are not in these figures yet."""


class ReadTotals:
    """Keeps the totals while this process leads. For one event loop; `start`, then `stop`.

    Args:
        live: The experiments in force.
        statistics: The sums.
        leads: Whether this process is the one of all replicas that judges rollouts.
    """

    def __init__(
        self, live: LiveExperiments, statistics: ReadStatistics, leads: Callable[[], bool]
    ) -> None:
        self._live, self._statistics, self._leads = live, statistics, leads
        self._totals: Totals | None = None
        self._worker: asyncio.Task[None] | None = None

    @property
    def newest(self) -> Totals | None:
        """None where another process leads, or the event server does not answer."""
        return self._totals if self._leads() else None

    async def start(self) -> None:
        self._worker = asyncio.create_task(self._work(), name="experiment-totals")

    async def stop(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker

    async def read(self) -> None:
        """Read once."""
        try:
            self._totals = await self._look() if self._leads() else None
        except ReportUnavailable:
            self._totals = None  # health tells that the event server is away

    async def _work(self) -> None:
        while True:
            await self.read()
            await asyncio.sleep(READ_S)

    async def _look(self) -> Totals:
        in_force = self._live.current().experiments
        counted = [experiment for experiment in in_force if experiment.state in _COUNTED]
        by_variant = await self._statistics.totals(counted) if counted else {}
        checks = {e.key: _split_p(e, by_variant) for e in counted}
        return Totals(
            by_variant=by_variant,
            split_p={key: p for key, p in checks.items() if p is not None},
            backlog=await self._statistics.backlog(),
        )


def _split_p(
    experiment: Experiment, by_variant: Mapping[tuple[str, str], Mapping[str, int]]
) -> float | None:
    units = [by_variant[experiment.key, v.name]["users"] for v in experiment.variants]
    try:
        return check_split(units, [v.share_bp for v in experiment.variants]).p_value
    except NotEnoughData:
        return None
