"""Scores copies one at a time, and only while the engines have nothing else to do."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from experiments.agreement import agreement
from experiments.comparison import Comparison
from service.batching.records import ScoredRows
from service.clock import Clock
from service.deployments import Deployments
from service.errors import (
    DeadlineExpired,
    DeadlineUnreachable,
    EngineFailed,
    QueueFull,
    RankingError,
)
from service.shadow.sampling import Copy, Pair, Sampler
from service.telemetry.metrics import Metrics

MAX_COPIES = 64
"""Copies that wait; some 10 kB each."""
LONGEST_WAIT_S = 0.1
"""A copy is given up that no engine has scored by then. Batchers refuse at their door what they
predict to wait longer."""
_QUEUE = "shadow"
"""Stands for all deployments in the batchers: copies share with nobody, and nobody's order of
answers waits for them."""

_log = logging.getLogger(__name__)


class ShadowCounts(Struct):
    """What became of the copies since the start, one for each variant that was to score one."""

    compared: int = 0
    shed_busy: int = 0
    """Real requests waited, or were just being scored."""
    shed_full: int = 0
    """Too many copies waited."""
    shed_stopping: int = 0
    failed: int = 0
    """The variant has no engine of its own that could score the copy."""


class ShadowScorer:
    """Has copies scored and tells how the scores compare. For one event loop; `start` before,
    `stop` after use."""

    def __init__(
        self,
        deployments: Deployments,
        clock: Clock,
        metrics: Metrics,
        tell: Callable[[Comparison], None],
        *,
        max_copies: int = MAX_COPIES,
    ) -> None:
        """Prepare.

        Args:
            deployments: All that serve.
            clock: The batchers'.
            metrics: Shown every comparison.
            tell: Given every comparison, as an exposure sink takes it.
            max_copies: More than these do not wait.
        """
        self.counts = ShadowCounts()
        self.copy_of = Sampler().copy_of
        """The copy of a request that is to be offered after its reply, if any."""
        self._deployments, self._clock, self._metrics = deployments, clock, metrics
        self._tell = tell
        self._max_copies = max_copies
        self._copies: deque[Copy] = deque()
        self._arrived = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    def offer(self, copy: Copy) -> None:
        """Take a copy, or drop it; never blocks and never raises."""
        if self._worker is None:
            self.counts.shed_stopping += len(copy.pairs)
        elif self._is_busy():
            self.counts.shed_busy += len(copy.pairs)
        elif len(self._copies) >= self._max_copies:
            self.counts.shed_full += len(copy.pairs)
        else:
            self._copies.append(copy)
            self._arrived.set()

    async def start(self) -> None:
        self._worker = asyncio.create_task(self._work(), name="shadow")

    async def stop(self) -> None:
        """Drop what waits: a shutdown waits for no copy."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        worker.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await worker
        self.counts.shed_stopping += sum(len(copy.pairs) for copy in self._copies)
        self._copies.clear()

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._copies:
                copy = self._copies.popleft()
                for pair in copy.pairs:
                    await self._compare(copy, pair)

    async def _compare(self, copy: Copy, pair: Pair) -> None:
        if self._is_busy():
            self.counts.shed_busy += 1
            return
        try:
            scored = await self._scored(copy, pair)
            if scored is None:
                self.counts.failed += 1
            else:
                self._tell_of(self._compared(copy, pair, scored))
        except (QueueFull, DeadlineUnreachable, DeadlineExpired):
            self.counts.shed_busy += 1
        except (EngineFailed, RankingError):
            self.counts.failed += 1
        except Exception:
            # A defect in a copy is no reason to end the copies, and none to hide it.
            _log.exception("a copy for %s:%s failed", pair.experiment, pair.variant)
            self.counts.failed += 1

    def _tell_of(self, comparison: Comparison) -> None:
        self._tell(comparison)
        self._metrics.compared(
            f"{comparison.experiment}:{comparison.variant}",
            overlap=comparison.overlap,
            kendall_tau=comparison.kendall_tau,
            drift_max=comparison.drift_max,
        )
        self.counts.compared += 1

    async def _scored(self, copy: Copy, pair: Pair) -> ScoredRows | None:
        """The variant's own scores; None if it has none: popularity ranks, or a fallback does."""
        deployment = self._deployments[pair.deployment]
        if deployment.batcher is None:
            return None
        rows = deployment.features.encode(copy.request)
        scored = await deployment.batcher.score(
            deployment.features.rows(rows),
            deadline=self._clock.now() + LONGEST_WAIT_S,
            priority="low",
            deployment=_QUEUE,
        )
        return None if scored.fallback else scored

    def _compared(self, copy: Copy, pair: Pair, scored: ScoredRows) -> Comparison:
        found = agreement(copy.scores, scored.scores, copy.request.k)
        return Comparison(
            experiment=pair.experiment,
            phase=pair.phase,
            variant=pair.variant,
            reference=pair.reference,
            at=self._clock.wall(),
            overlap=found.overlap,
            kendall_tau=found.kendall_tau,
            drift_max=found.drift_max,
            drift_mean=found.drift_mean,
            latency_ms=scored.engine_s * 1000,
            reference_latency_ms=None if copy.engine_s is None else copy.engine_s * 1000,
            unit=pair.unit,
        )

    def _is_busy(self) -> bool:
        # Copies go last, but what joins a batch makes it longer, and a batch that has left is not
        # called back: so they are not offered at all unless every engine would stand still.
        return not all(batcher.is_idle for batcher in self._deployments.batchers)
