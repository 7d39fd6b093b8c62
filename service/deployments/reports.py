"""What is loaded, over all workers: each tells of its own engines, a reader wants the sum."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from service.deployments.models import Models
from service.engines.state import WORST_LAST
from service.fleet import Fleet
from service.messages import DeploymentReport, EngineReport, ModelsReply

DESCRIBE = "models.describe"
DESCRIBE_LIMIT_S = 1.0
"""A worker that takes longer is left out of the sums."""


class ModelReports:
    """Tells of the models of all workers. For one event loop.

    Args:
        models: This worker's.
        surfaces: Surface to deployment, from the settings.
        fleet: All workers; ours answers from now on as well.
    """

    def __init__(self, models: Models, surfaces: Mapping[str, str], fleet: Fleet) -> None:
        self._models, self._surfaces, self._fleet = models, surfaces, fleet
        fleet.on(DESCRIBE, self._answer)

    async def read(self) -> ModelsReply:
        """Everything that is loaded, added up."""
        answers = await self._fleet.ask(DESCRIBE, limit_s=DESCRIBE_LIMIT_S)
        return added_up([msgspec.json.decode(answer, type=ModelsReply) for answer in answers])

    async def _answer(self, _: bytes) -> bytes:
        return msgspec.json.encode(self._models.describe(self._surfaces))


def added_up(workers: Sequence[ModelsReply]) -> ModelsReply:
    """The replies of several workers as one, with the first one's view of what serves.

    Counts are sums over the workers that serve the same; an engine is as its worst one is.
    """
    first, others = workers[0], workers[1:]
    return replace(
        first,
        deployments=tuple(
            _deployment(report, [_same(report, other) for other in others])
            for report in first.deployments
        ),
    )


def _same(report: DeploymentReport, worker: ModelsReply) -> DeploymentReport | None:
    """Another worker's deployment of this name, unless another version serves there by now."""
    found = (other for other in worker.deployments if other.name == report.name)
    return next((other for other in found if other.model == report.model), None)


def _deployment(
    report: DeploymentReport, others: Sequence[DeploymentReport | None]
) -> DeploymentReport:
    same = [report, *(other for other in others if other is not None)]
    engines = zip(*(one.engines for one in same), strict=True)
    return replace(
        report,
        queue_rows=sum(one.queue_rows for one in same),
        engines=tuple(_engine(engine) for engine in engines),
    )


def _engine(same: tuple[EngineReport, ...]) -> EngineReport:
    worst = max(same, key=lambda engine: WORST_LAST.index(engine.status))
    return replace(
        worst,
        predicted_bytes=_memory(worst, [engine.predicted_bytes for engine in same]),
        used_bytes=_memory(worst, [engine.used_bytes for engine in same]),
        opened=sum(engine.opened for engine in same),
        calls=sum(engine.calls for engine in same),
        rows=sum(engine.rows for engine in same),
        failed_calls=sum(engine.failed_calls for engine in same),
        invalid_rows=sum(engine.invalid_rows for engine in same),
        last_error=worst.last_error
        or next((engine.last_error for engine in same if engine.last_error), None),
    )


def _memory(engine: EngineReport, of_each: list[int]) -> int:
    """Of the device: all workers tell of the same memory where they share an engine."""
    return max(of_each) if engine.shared else sum(of_each)
