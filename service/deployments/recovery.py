"""Asks engines for golden scores when users should not be the test: are they well, or well again?

An engine that is left alone gets calls again only after it gave the golden
scores, and one whose server was away is loaded when that is back. One in use is
asked as well, now and then: silent corruption shows in no other way, and a
server that says that it is not ready gets no calls that would show that it is.
What an engine has stored that is found wrong is purged from the cache.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable

from service.batching.instance import Instance
from service.clock import Clock
from service.deployments.deployment import Deployment, Deployments
from service.engines.check import Check
from service.engines.golden import Golden
from service.engines.link import EngineLink
from service.errors import CacheUnavailable

LOOK_S = 0.1
"""Between two looks at the state of all engines; a look costs some microseconds."""
GOLDEN_CHECK_S = 60.0
"""How often an engine in use is asked for the golden scores; it takes about as long as a batch."""
PURGE_AGAIN_S = 1.0
"""After a purge that nobody knows of whether it was one."""
_log = logging.getLogger(__name__)

Purge = Callable[[], Awaitable[object]]
"""Has every entry of the cache forgotten, everywhere; raises if that is not sure."""


def can_score(deployment: Deployment) -> bool:
    """Whether some engine gets calls, and its last one gave scores."""
    return any(state.is_well for chain in deployment.chains for state in chain.states())


@contextlib.asynccontextmanager
async def looked_after(
    deployments: Deployments, clock: Clock, *, stop_limit_s: float, purge: Purge | None = None
) -> AsyncIterator[None]:
    """Engines are asked for golden scores meanwhile; in the end, batches under way are finished.

    Args:
        deployments: Theirs.
        clock: The batchers'.
        stop_limit_s: An engine that takes longer is left alone; its thread ends
            with the process.
        purge: Called when scores that are in the cache may be wrong; None where there is no cache.
    """
    recovery = EngineRecovery(deployments, clock, purge=purge)
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

    def __init__(
        self,
        deployments: Deployments,
        clock: Clock,
        *,
        look_s: float = LOOK_S,
        purge: Purge | None = None,
    ) -> None:
        self._deployments = deployments
        self._clock = clock
        self._look_s = look_s
        self._purge = purge
        self._found_wrong: dict[EngineLink, int] = {}
        self._must_purge = False
        self._purging: asyncio.Task[None] | None = None
        self._probes: list[_Probe] = []
        self._stopping = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._worker = asyncio.create_task(self._work(), name="engine-recovery")

    async def stop(self) -> None:
        """Ask no more; what is being asked answers to nobody."""
        self._stopping.set()
        if self._worker is not None:
            await self._worker
        if self._purging is not None:
            self._purging.cancel()
            await asyncio.gather(self._purging, return_exceptions=True)

    def look(self) -> None:
        """Ask every engine for which it is time."""
        self._probes = [probe for probe in self._probes if probe.goes_on(self._clock.now())]
        batched = {id(d.batcher): d for d in self._deployments.values()}  # each batcher once
        for deployment in batched.values():
            if deployment.batcher is None:
                continue
            if deployment.loaded is not None:
                deployment.loaded.look_again()
            for instance in deployment.batcher.instances:
                for link in instance.chain.links:
                    self._look_after(deployment, instance, link)
        self._purge_what_is_wrong()

    async def _work(self) -> None:
        while not self._stopping.is_set():
            self.look()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._look_s)

    def _look_after(self, deployment: Deployment, instance: Instance, link: EngineLink) -> None:
        now, settings = self._clock.now(), instance.chain.settings
        if link.probe_is_due(now):
            check = Check(link, _golden(deployment, link), self._clock)
            self._probes.append(_Probe(check, settings.max_execution_s))
        elif link.serves:
            due_s = GOLDEN_CHECK_S if link.status == "ready" else settings.breaker_probe_s
            if now - link.checked_at >= due_s:
                link.checked_at = now
                instance.check(Check(link, _golden(deployment, link), self._clock))

    def _purge_what_is_wrong(self) -> None:
        links = [
            link
            for deployment in self._deployments.values()
            if deployment.cache is not None and deployment.batcher is not None
            for instance in deployment.batcher.instances
            for link in instance.chain.links
        ]
        before, self._found_wrong = self._found_wrong, {link: link.found_wrong for link in links}
        wrong = [link for link in links if link.found_wrong > before.get(link, 0)]
        if not wrong or self._purge is None:
            return
        name = wrong[0].info.name
        _log.warning("engine %s scored golden rows wrong: what is in the cache is purged", name)
        self._must_purge = True
        if self._purging is None or self._purging.done():
            self._purging = asyncio.create_task(self._purged(self._purge), name="cache-purge")

    async def _purged(self, purge: Purge) -> None:
        """Purge until it is sure: what is left could be given out for as long as it lives."""
        while self._must_purge:
            self._must_purge = False  # what is found wrong meanwhile is purged after this
            try:
                await purge()
            except CacheUnavailable as problem:
                self._must_purge = True
                _log.warning("the cache could not be purged, which is tried again: %s", problem)
                await asyncio.sleep(PURGE_AGAIN_S)


class _Probe:
    """Golden rows for an engine that is left alone, on a thread of their own.

    No batch has to wait for it, however long a dead device takes to say so.
    """

    def __init__(self, check: Check, max_execution_s: float) -> None:
        self._check, self._max_execution_s = check, max_execution_s
        self._thread = threading.Thread(target=check.proceed, name="podium-probe", daemon=True)
        self._thread.start()

    def goes_on(self, now: float) -> bool:
        """Whether there is still something to expect of it; one that takes too long hangs."""
        call = self._check.call
        if call is not None and now - call.started_at > self._max_execution_s:
            return not self._check.give_up(call, now)
        return self._thread.is_alive()


def _golden(deployment: Deployment, link: EngineLink) -> Golden:
    if link.golden is not None:
        return link.golden
    rows, _ = deployment.bundle.golden
    return Golden(rows=rows, scores=None, tolerance=0.0)
