"""Replicas of one service as far as experiments go: own file, own state, one event server."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from msgspec import Struct

from service.definitions import load_experiments
from service.deployments import Deployment
from service.rollouts.changes import Author, ExperimentChanges
from service.rollouts.copy import StandingCopy
from service.rollouts.fitness import Fitness
from service.rollouts.last_good import LastGood
from service.rollouts.live import LiveExperiments
from service.rollouts.store import StandingStore
from service.rollouts.watch import FileWatch
from service.settings import EventSettings, RedisSettings
from service.stores import events_client
from service.testing import FakeClock

ALICE = Author(by="key:alice", reason="because")


class Replica(Struct, frozen=True, kw_only=True):
    """What one worker has; `home` holds its file and its copy of the standings."""

    home: Path
    live: LiveExperiments
    changes: ExperimentChanges
    store: StandingStore
    clock: FakeClock

    def write(self, text: str) -> None:
        file = self.home / "experiments.toml"
        unfinished = file.with_suffix(".new")
        unfinished.write_text(text)
        unfinished.replace(file)

    async def reread(self, text: str) -> None:
        """The file is written, rests for a look, and is read by the next."""
        self.write(text)
        await self.live.look()
        await self.live.look()

    @property
    def in_force(self) -> dict[str, tuple[str, int]]:
        """Experiment to state and phase."""
        return {e.key: (e.state, e.phase) for e in self.live.current().experiments}


@asynccontextmanager
async def replica(
    home: Path,
    url: str,
    text: str | None = None,
    *,
    deployments: Mapping[str, Deployment] | None = None,
    timeout_s: float = 2.0,
    service: str | None = None,
) -> AsyncIterator[Replica]:
    """A replica that has looked once, and looks again when told.

    Args:
        home: Of its file and its copy; of an earlier one for a restart.
        url: The event server.
        text: The file's; None for what is there.
        deployments: What variants may name.
        timeout_s: Of one call to the event server.
        service: The name of a service of several processes.
    """
    file, by_name, clock = _file(home, text), deployments or {}, FakeClock()
    settings = EventSettings(timeout_s=timeout_s)
    async with events_client(url, RedisSettings(), settings) as client:
        store = StandingStore(client, settings)
        live = LiveExperiments(
            FileWatch(file),
            lambda: load_experiments(file, by_name).experiments,
            Fitness(by_name),
            store=store,
            copy=StandingCopy(home),
            clock=clock,
            last_good=None if service is None else LastGood(home, service),
        )
        await live.look()
        changes = ExperimentChanges(live, store, clock)
        yield Replica(home=home, live=live, changes=changes, store=store, clock=clock)


def _file(home: Path, text: str | None) -> Path:
    home.mkdir(exist_ok=True)
    file = home / "experiments.toml"
    if text is not None:
        file.write_text(text)
    return file
