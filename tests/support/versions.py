"""A service's models without the service: two versions of a tiny bundle, and a state directory."""

from pathlib import Path
from typing import Any

from ranking_models.schema import Float32
from service.cache.rows import RowLevels
from service.deployments import Deployment, DeploymentLoader, Models
from service.messages import RankRequest
from service.settings import (
    BatchPolicy,
    DeploymentSettings,
    EngineSettings,
    LoadedSettings,
    ModelSettings,
    Settings,
)
from service.testing import FakeClock, MemoryScoreCache, MemoryStore
from tests.support.bundles import write_tiny_bundle
from tests.support.rankers import quiet_telemetry

REQUEST = RankRequest(candidates=("i1", "i2", "i3"))


class Home:
    """Bundles, a state directory, and the models of a service that runs from them."""

    def __init__(self, directory: Path, clock: FakeClock) -> None:
        self.directory, self.clock = directory, clock
        self.engine = EngineSettings(calibrate=False)
        self.batching = BatchPolicy()
        bundles = directory / "bundles"
        self.paths = {p.name: p for p in (write_tiny_bundle(bundles, seed=n) for n in (0, 1))}

    def models(self, **deployments: dict[str, Any]) -> Models:
        settings = Settings(
            deployments={
                name: DeploymentSettings(**{"model": "tiny", "cache": "off", **fields})
                for name, fields in deployments.items()
            },
            models=ModelSettings(directory="bundles"),
            engine=self.engine,
            batching=self.batching,
        )
        loader = DeploymentLoader(
            LoadedSettings(settings=settings, directory=self.directory),
            self.directory,
            cache=MemoryScoreCache(self.clock),
            rows=RowLevels.over(MemoryStore(self.clock), settings.cache, self.clock),
            telemetry=quiet_telemetry(self.clock),
            clock=self.clock,
        )
        return Models(loader, settings.deployments)

    def other(self, version: str) -> str:
        (other,) = self.paths.keys() - {version}
        return other


async def score(deployment: Deployment, clock: FakeClock) -> Float32:
    """The scores of one request."""
    assert deployment.batcher is not None
    rows = deployment.features.rows(deployment.features.encode(REQUEST))
    return (await deployment.batcher.score(rows, deadline=clock.now() + 60)).scores
