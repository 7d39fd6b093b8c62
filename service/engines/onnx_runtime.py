"""ONNX Runtime as an engine, on the CPU: the last resort of a chain, for it works everywhere."""

import logging
from pathlib import Path

import msgspec
import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.schema import FeatureBatch, Float32
from service.engines import EngineInfo
from service.engines.calibration import (
    UNMEASURED_CALL_ROWS,
    UNMEASURED_ROWS,
    Sample,
    Timer,
    best_batch_rows,
    best_call_rows,
    calls,
    sample_of,
    timer_for,
)
from service.engines.item_tables import MIB, table_bytes
from service.engines.rows import Rows, as_features
from service.engines.session import Graph
from service.engines.split import SplitOnnxRuntimeEngine
from service.errors import StartupError
from service.settings import EngineSettings

OUTPUT = "score"
SPLIT_PRECISION = "fp32"
PROOF_ROWS = 200
_log = logging.getLogger(__name__)


class OnnxRuntimeEngine:
    """One session of one graph.

    Args:
        graph: The ONNX file.
        info: What the engine says it is.
        threads: Threads of one call; they sleep while there is nothing to do.

    Raises:
        EngineFailed: the runtime cannot load the graph, or would run it elsewhere.
    """

    def __init__(self, graph: Path, *, info: EngineInfo, threads: int) -> None:
        self._info = info
        self._graph = Graph(graph, output=OUTPUT, threads=threads)
        self._call_rows = UNMEASURED_CALL_ROWS

    @property
    def info(self) -> EngineInfo:
        return self._info

    def score(self, batch: FeatureBatch) -> Float32:
        return self._score(batch, self._call_rows)

    def _score(self, batch: FeatureBatch, call_rows: int) -> Float32:
        given = batch.inputs()
        if batch.rows <= call_rows:
            return self._graph(given)
        return np.concatenate(
            [
                self._graph({name: array[call] for name, array in given.items()})
                for call in calls(batch.rows, call_rows)
            ]
        )

    def calibrate(self, sample: Sample, timer: Timer) -> None:
        """Measure the best sizes of a call and of a batch, which `info` says from now on."""

        def score(rows: Rows, call_rows: int) -> Float32:
            return self._score(as_features(rows), call_rows)

        most = self._info.max_batch_rows
        self._call_rows = best_call_rows(score, sample, most=most, timer=timer)
        best = best_batch_rows(self, sample, timer=timer)
        self._info = msgspec.structs.replace(self._info, best_batch_rows=best)

    def close(self) -> None:
        """The runtime frees the session with the last reference to this engine."""


def open_onnx_runtime(
    bundle: Bundle, precision: str, settings: EngineSettings, info: EngineInfo
) -> OnnxRuntimeEngine | SplitOnnxRuntimeEngine:
    """A bundle's graph of one precision on the CPU: split where that is wanted and possible.

    Args:
        bundle: Opened; it has the precision.
        precision: The split is of fp32; every other precision runs as its whole graph.
        settings: Threads, the split, and whether to measure the best batch size.
        info: What the engine is to say. Whether it is split, and its best
            batch size, are filled in.

    Raises:
        EngineFailed: the runtime cannot load a graph, or would run it elsewhere, or the
            split's table gives other scores than its item half.
        StartupError: the split is a must and cannot be had; with the figures.
    """
    info = msgspec.structs.replace(
        info,
        split=precision == SPLIT_PRECISION and _can_split(bundle, settings),
        best_batch_rows=min(UNMEASURED_ROWS, info.max_batch_rows),
    )
    sample, threads = sample_of(bundle), settings.threads
    engine: OnnxRuntimeEngine | SplitOnnxRuntimeEngine
    if info.split:
        engine = SplitOnnxRuntimeEngine(bundle, info=info, threads=threads)
        tolerance = bundle.manifest.precisions[precision].tolerance
        engine.prove(sample(PROOF_ROWS), tolerance=tolerance)
    else:
        engine = OnnxRuntimeEngine(bundle.graph(precision), info=info, threads=threads)
    if settings.calibrate:
        engine.calibrate(sample, timer_for(threads))
    return engine


def _can_split(bundle: Bundle, settings: EngineSettings) -> bool:
    name, limit = f"{bundle.manifest.name}@{bundle.manifest.version}", settings.split_max_mb
    if settings.split == "off":
        return False
    if bundle.manifest.split is None:
        if settings.split == "on":
            raise StartupError(
                f'engine.split is "on", but {name} has no split: export it again, or set "auto"'
            )
        return False
    needed = table_bytes(bundle)
    figures = f"{name}: the item table of the exact split takes {needed / MIB:,.1f} MB"
    if needed <= limit * MIB:
        _log.info("%s", figures)
        return True
    above = f"{figures}, engine.split_max_mb is {limit:,}"
    if settings.split == "on":
        raise StartupError(f'{above}: allow more, or set engine.split = "auto"')
    _log.info("%s: the whole graph serves, which is slower", above)
    return False
