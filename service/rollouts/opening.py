"""Experiments that follow their file and the event server: their parts, built and started."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import Struct

from experiments.definition import Experiment
from service.clock import Clock
from service.definitions import load_experiments
from service.deployments import Deployments
from service.events.statistics import ReadStatistics
from service.rollouts.changes import ExperimentChanges
from service.rollouts.controller import RolloutController
from service.rollouts.copy import StandingCopy
from service.rollouts.fitness import Fitness
from service.rollouts.last_good import LastGood
from service.rollouts.lease import Lease
from service.rollouts.live import LiveExperiments
from service.rollouts.store import StandingStore
from service.rollouts.totals import ReadTotals
from service.rollouts.watch import FileWatch
from service.settings import LoadedSettings
from service.stores import events_client

_SHORTEST_LEASE_S = 5.0
"""Above the time-outs of the calls in a round of judging."""


class Rollouts(Struct, frozen=True, kw_only=True):
    """Running experiments, and the way to change them."""

    live: LiveExperiments
    changes: ExperimentChanges
    totals: ReadTotals


@asynccontextmanager
async def open_rollouts(
    loaded: LoadedSettings,
    url: str,
    deployments: Deployments,
    clock: Clock,
    *,
    service: str | None = None,
) -> AsyncIterator[Rollouts]:
    """The experiments of the settings, followed meanwhile.

    Without a file of experiments nothing is connected and nothing runs.

    Args:
        loaded: The settings.
        url: The event server.
        deployments: Those that variants may name.
        clock: The service's.
        service: The name of this run of it, if it has other processes.

    Raises:
        StartupError, ExperimentInvalid: the definitions cannot be used, or the URL cannot.
    """
    settings = loaded.settings
    name = settings.experiments.file
    file = None if name is None else loaded.path(name)

    def read() -> tuple[Experiment, ...]:
        if file is None:
            return ()
        return load_experiments(file, settings.deployments).experiments

    async with events_client(url, settings.redis, settings.events) as client:
        store = StandingStore(client, settings.events)
        live = LiveExperiments(
            None if file is None else FileWatch(file),
            read,
            Fitness(deployments),
            store=store,
            copy=StandingCopy(loaded.state_directory),
            clock=clock,
            last_good=None if service is None else LastGood(loaded.state_directory, service),
        )
        changes = ExperimentChanges(live, store, clock)
        statistics = ReadStatistics(client, settings.events)
        every_s = settings.experiments.judge_every_s
        controller = RolloutController(
            live,
            changes,
            statistics,
            Lease(client, lasts_s=max(_SHORTEST_LEASE_S, 3 * every_s)),
            clock,
            every_s=every_s,
        )
        totals = ReadTotals(live, statistics, lambda: controller.leads)
        await live.start()
        try:
            if file is not None:
                await controller.start()
                await totals.start()
            yield Rollouts(live=live, changes=changes, totals=totals)
        finally:
            await totals.stop()
            await controller.stop()
            await live.stop()
