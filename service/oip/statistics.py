"""What models have done, in the words of Triton's statistics, over all workers.

``inference_count`` and ``execution_count`` are the rows and the calls of the
model's first engine to last, rankings included, since they share its batches;
``inference_stats`` are the requests of this protocol alone.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from service.fleet import Fleet
from service.oip.models import Served, ServedModels

STATISTICS = "oip.statistics"
STATISTICS_LIMIT_S = 1.0
"""A worker that takes longer is left out of the sums."""


class Duration(Struct):
    """How often something was done, and how long it took altogether."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += round(seconds * 1e9)


class InferenceStats(Struct, kw_only=True):
    """Of the requests of one model."""

    success: Duration = msgspec.field(default_factory=Duration)
    fail: Duration = msgspec.field(default_factory=Duration)
    queue: Duration = msgspec.field(default_factory=Duration)
    compute_input: Duration = msgspec.field(default_factory=Duration)
    """Reading the request."""
    compute_infer: Duration = msgspec.field(default_factory=Duration)
    """From the first row in an engine to the last one scored."""
    compute_output: Duration = msgspec.field(default_factory=Duration)
    """Writing the answer."""
    cache_hit: Duration = msgspec.field(default_factory=Duration)
    """None: these requests ask no cache."""
    cache_miss: Duration = msgspec.field(default_factory=Duration)


class ModelStats(Struct, kw_only=True):
    """One version of a model."""

    name: str
    version: str
    last_inference: int = 0
    """Milliseconds since 1970, 0 for never."""
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: InferenceStats = msgspec.field(default_factory=InferenceStats)
    batch_stats: tuple[()] = ()


_Key = tuple[str, str]


class Statistics:
    """Counts this worker's requests, and adds up those of all. For one event loop.

    Args:
        models: That there are.
        fleet: All workers; ours answers from now on as well.
    """

    def __init__(self, models: ServedModels, fleet: Fleet) -> None:
        self._models, self._fleet = models, fleet
        self._counted: dict[_Key, InferenceStats] = {}
        self._last: dict[_Key, int] = {}
        fleet.on(STATISTICS, self._answer)

    def of(self, served: Served) -> InferenceStats:
        """Where to count a request of a model."""
        return self._counted.setdefault((served.name, served.version), InferenceStats())

    def scored(self, served: Served, wall_s: float) -> None:
        """A model gave scores just now."""
        self._last[served.name, served.version] = round(wall_s * 1000)

    async def read(self, only: Sequence[Served] | None = None) -> list[ModelStats]:
        """The figures of all models, or of some."""
        answers = await self._fleet.ask(STATISTICS, limit_s=STATISTICS_LIMIT_S)
        workers = [msgspec.json.decode(answer, type=list[ModelStats]) for answer in answers]
        together: dict[_Key, ModelStats] = {}
        for worker in workers:
            for stats in worker:
                known = together.setdefault((stats.name, stats.version), stats)
                if known is not stats:
                    _add(known, stats)
        wanted = None if only is None else {(served.name, served.version) for served in only}
        return [stats for key, stats in together.items() if wanted is None or key in wanted]

    async def _answer(self, _: bytes) -> bytes:
        return msgspec.json.encode([self._stats(served) for served in self._models.all()])

    def _stats(self, served: Served) -> ModelStats:
        key, engines = (served.name, served.version), served.deployment.engines
        return ModelStats(
            name=served.name,
            version=served.version,
            last_inference=self._last.get(key, 0),
            inference_count=sum(engine.rows for engine in engines),
            execution_count=sum(engine.calls - engine.failed_calls for engine in engines),
            inference_stats=self._counted.get(key) or InferenceStats(),
        )


def _add(known: ModelStats, other: ModelStats) -> None:
    known.last_inference = max(known.last_inference, other.last_inference)
    known.inference_count += other.inference_count
    known.execution_count += other.execution_count
    for name in InferenceStats.__struct_fields__:
        sums: Duration = getattr(known.inference_stats, name)
        more: Duration = getattr(other.inference_stats, name)
        sums.count += more.count
        sums.ns += more.ns


def as_reply(statistics: Sequence[ModelStats]) -> dict[str, Any]:
    """What the protocol's caller reads."""
    return {"model_stats": statistics}
