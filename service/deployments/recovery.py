"""Asks engines that failed whether they are well again, when nobody else does.

Only a call shows that an engine is well again, and a server that says that it
is not ready gets no calls: it would stay so until somebody restarts it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from service.clock import Clock
from service.deployments.deployment import Deployment, Deployments
from service.errors import DeadlineExpired, EngineFailed, RankingError

PROBE_S = 1.0
_log = logging.getLogger(__name__)


def can_score(deployment: Deployment) -> bool:
    """Whether the last call of some engine gave scores."""
    states = (state for chain in deployment.chains for state in chain.states())
    return any(state.failures_in_a_row == 0 for state in states)


@contextlib.asynccontextmanager
async def looked_after(
    deployments: Deployments, clock: Clock, *, stop_limit_s: float
) -> AsyncIterator[None]:
    """Engines that failed are asked again meanwhile; in the end, batches under way are finished.

    Args:
        deployments: Theirs.
        clock: The batchers'.
        stop_limit_s: An engine that takes longer is left alone; its thread ends
            with the process.
    """
    recovery = EngineRecovery(deployments, clock)
    await recovery.start()
    try:
        yield
    finally:
        try:
            async with asyncio.timeout(stop_limit_s):
                await recovery.stop()
                await deployments.stop()
        except TimeoutError:
            _log.error("an engine hangs and is left alone after %g s", stop_limit_s)


class EngineRecovery:
    """For one event loop; `start` before, `stop` before the batchers do."""

    def __init__(self, deployments: Deployments, clock: Clock, *, probe_s: float = PROBE_S) -> None:
        self._deployments = deployments
        self._clock = clock
        self._probe_s = probe_s
        self._stopping = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._worker = asyncio.create_task(self._work(), name="engine-recovery")

    async def stop(self) -> None:
        """Wait for the probe under way, which takes a moment at most."""
        self._stopping.set()
        if self._worker is not None:
            await self._worker

    async def _work(self) -> None:
        while not self._stopping.is_set():
            for deployment in self._deployments.values():
                await self._probe(deployment)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._probe_s)

    async def _probe(self, deployment: Deployment) -> None:
        if deployment.batcher is None or can_score(deployment):
            return
        golden, _ = deployment.bundle.golden
        # The chain notes how it went. Refused means busy, so others ask already.
        with contextlib.suppress(EngineFailed, DeadlineExpired, RankingError):
            await deployment.batcher.score(
                golden.take(slice(0, 1)),
                deadline=self._clock.now() + self._probe_s,
                priority="low",
            )
