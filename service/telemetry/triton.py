"""Triton's names for what Podium counts, for dashboards and autoscalers that are written for them.

Meanings, units and labels are those of Triton's metrics page. An inference
request is a job of the batch queue, or a slate that the cache had. As a batch
is copied in, scored and copied out in one call, only the time of the whole
call is told, as the time of inference; input and output have no figure.

Source:
    docs/user_guide/metrics.md of triton-inference-server/server.
"""

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from service.messages import RankReply
from service.telemetry import names
from service.telemetry.records import BatchRecord
from service.telemetry.tallies import Children, Tally

MODEL: Final = ("model", "version")
FAILURE: Final = (*MODEL, "reason")
ENGINE_FAILED: Final = "BACKEND"
"""Triton's word for a model that failed; what Podium refuses is in podium_shed_total."""
_MICROSECONDS: Final = 1e6

COUNTERS: Final = {
    names.T_SUCCESS: "Inference requests that were answered, by an engine or the cache",
    names.T_FAILURE: "Inference requests that no engine could answer",
    names.T_COUNT: "Rows scored, without those that the cache knew",
    names.T_EXEC_COUNT: "Batches that an engine scored",
    names.T_REQUEST_US: "Microseconds that inference requests took, the cache's included",
    names.T_QUEUE_US: "Microseconds that inference requests waited for a batch",
    names.T_INFER_US: "Microseconds of engine calls, for each inference request of their batch",
    names.T_CACHE_HITS: "Slates that the cache had",
    names.T_CACHE_MISSES: "Slates that the cache did not have, or not wholly",
}
"""Cumulative, and named without ``_total``, as Triton's server does."""


class Untyped(Collector):
    """A metric whose samples are named as it is, whatever it counts."""

    def __init__(
        self, name: str, meaning: str, labels: tuple[str, ...], children: Children[Tally]
    ) -> None:
        self._name, self._meaning = name, meaning
        self._labels, self._children = labels, children

    def collect(self) -> Iterable[Metric]:
        # The client library gives every counter the suffix that Triton's have not.
        metric = Metric(self._name, self._meaning, "unknown")
        for values, child in self._children.items():
            labels = dict(zip(self._labels, values, strict=True))
            metric.add_sample(self._name, labels, child.value)
        yield metric


class TritonNames:
    """The figures of models. For the event loop's thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._counted = {name: Children(Tally) for name in COUNTERS}
        self._waiting: dict[tuple[str, str, str], Callable[[], float]] = {}
        for name, meaning in COUNTERS.items():
            labels = FAILURE if name == names.T_FAILURE else MODEL
            registry.register(Untyped(name, meaning, labels, self._counted[name]))
        registry.register(_Pending(self._waiting))

    def batch(self, batch: BatchRecord) -> None:
        """A batch was scored, or failed."""
        counted, model = self._counted, (batch.model, batch.version)
        jobs = len(batch.members)
        if batch.error_type is not None:
            counted[names.T_FAILURE][*model, ENGINE_FAILED].inc(jobs)
            return
        scored = [call for call in batch.calls if call.error_type is None]
        took_s = sum(call.finished_at - call.started_at for call in scored)
        arrived = [member.arrived_at for member in batch.members]
        for name, by in (
            (names.T_SUCCESS, jobs),
            (names.T_COUNT, sum(call.rows for call in scored)),
            (names.T_EXEC_COUNT, len(scored)),
            (names.T_INFER_US, took_s * jobs * _MICROSECONDS),
            (names.T_QUEUE_US, sum(batch.taken_at - at for at in arrived) * _MICROSECONDS),
            (names.T_REQUEST_US, sum(batch.finished_at - at for at in arrived) * _MICROSECONDS),
        ):
            counted[name][model].inc(by)

    def answered(self, reply: RankReply) -> None:
        """A ranking was answered, perhaps by the cache."""
        counted, model = self._counted, (reply.model.name, reply.model.version)
        if reply.cache.result in ("hit", "stale"):
            counted[names.T_CACHE_HITS][model].inc()
            counted[names.T_SUCCESS][model].inc()
            counted[names.T_REQUEST_US][model].inc(reply.timing_ms.total * 1000)
        elif reply.cache.result in ("miss", "partial"):
            counted[names.T_CACHE_MISSES][model].inc()

    def watch_queue(self, model: str, precision: str, waiting_jobs: Callable[[], float]) -> None:
        """Show how many inference requests wait; asked with the page."""
        self._waiting[(*_model_of(model), precision)] = waiting_jobs

    def forget_models(self) -> None:
        """Show no queue: others are there now."""
        self._waiting.clear()


class _Pending(Collector):
    """Inference requests that wait, of all queues of a model."""

    def __init__(self, waiting: dict[tuple[str, str, str], Callable[[], float]]) -> None:
        self._waiting = waiting

    def collect(self) -> Iterable[Metric]:
        jobs = Children(Tally)
        for (model, version, _), waiting_jobs in self._waiting.items():
            jobs[model, version].inc(waiting_jobs())
        metric = Metric(names.T_PENDING, "Inference requests that wait for a batch", "gauge")
        for values, child in jobs.items():
            metric.add_sample(names.T_PENDING, dict(zip(MODEL, values, strict=True)), child.value)
        yield metric


def _model_of(title: str) -> tuple[str, str]:
    """Name and version of ``name@version``."""
    name, _, version = title.rpartition("@")
    return name, version
