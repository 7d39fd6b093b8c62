"""OpenVINO as an engine, on the CPU: the fp32 graph in bfloat16 where its gate allows that.

bf16 is a precision variant: `podium export --precision bf16` measures what it
does to the ranking, on the CPU that it runs on, and the bundle's manifest keeps
the verdict. Every other graph is computed in f32, never in what OpenVINO would
pick by itself.
"""

from collections.abc import Sequence

import msgspec

from ranking_models.bundle import Bundle
from ranking_models.openvino import OpenVinoFailed, OpenVinoGraph
from ranking_models.schema import FeatureBatch, Float32
from service.engines import EngineInfo
from service.engines.calibration import Sample, Timer, best_batch_rows, sample_of, timer_for
from service.errors import EngineFailed
from service.settings import EngineSettings

REDUCED = "bf16"
"""The precision of a deployment that OpenVINO computes in bfloat16."""


class OpenVinoEngine:
    """One graph, compiled for every bucket of rows.

    Args:
        graph: What it runs.
        info: What the engine says it is.
    """

    def __init__(self, graph: OpenVinoGraph, info: EngineInfo) -> None:
        self._graph, self._info = graph, info

    @property
    def info(self) -> EngineInfo:
        return self._info

    def score(self, batch: FeatureBatch) -> Float32:
        try:
            return self._graph(batch)
        except OpenVinoFailed as failure:
            raise EngineFailed(str(failure)) from failure

    def calibrate(self, sample: Sample, timer: Timer) -> None:
        """Measure which bucket is best; `info` says it from now on."""
        best = best_batch_rows(self, sample, timer=timer, sizes=self._graph.buckets)
        self._info = msgspec.structs.replace(self._info, best_batch_rows=best)

    def close(self) -> None:
        """OpenVINO frees its graphs with the last reference to this engine."""


def open_openvino(
    bundle: Bundle,
    precision: str,
    settings: EngineSettings,
    info: EngineInfo,
    buckets: Sequence[int],
) -> OpenVinoEngine:
    """A bundle's graph of one precision; compiling it takes seconds.

    Args:
        bundle: Opened; it has the precision.
        precision: ``bf16``, or one whose graph is computed in f32.
        settings: Threads, and whether to measure the best batch size.
        info: What the engine is to say; its best batch size is filled in.
        buckets: Batch sizes to compile, in rising order; the last is the largest batch.

    Raises:
        EngineFailed: OpenVINO is not installed, the CPU has no bfloat16, the graph
            cannot be loaded, or it would run in another precision.
    """
    try:
        graph = OpenVinoGraph(
            bundle.graph(precision),
            computes="bf16" if precision == REDUCED else "f32",
            threads=settings.threads,
            buckets=buckets,
        )
    except OpenVinoFailed as failure:
        raise EngineFailed(str(failure)) from failure
    info = msgspec.structs.replace(
        info, max_batch_rows=graph.max_rows, best_batch_rows=graph.max_rows
    )
    engine = OpenVinoEngine(graph, info)
    if settings.calibrate:
        engine.calibrate(sample_of(bundle), timer_for(settings.threads))
    return engine
