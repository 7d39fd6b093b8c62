"""From a bundle to a chain of engines that have proved themselves.

An engine gets traffic only after it gave the bundle's golden scores within the
tolerance of its precision. That also warms it up.
"""

from collections.abc import Sequence

import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.errors import BundleError
from ranking_models.schema import FeatureBatch, Float32
from service.clock import Clock
from service.engines import Engine, EngineInfo
from service.engines.chain import EngineChain
from service.errors import EngineFailed, StartupError
from service.settings import EngineSettings

ONNX_RUNTIME_CPU = "onnxruntime-cpu"


def load_chain(
    bundle: Bundle,
    precision: str,
    engine_names: Sequence[str],
    settings: EngineSettings,
    clock: Clock,
) -> EngineChain:
    """Load the engines of one instance, in order, and let each score the golden rows.

    Raises:
        StartupError: the bundle has no such precision, there is no such
            engine, the graph cannot be loaded, or its scores are off; names
            the file and the figures.
    """
    try:
        bundle.graph(precision)
    except BundleError as error:
        raise StartupError(str(error)) from error
    engines = [_load(bundle, precision, name, settings) for name in engine_names]
    for engine in engines:
        _prove(engine, bundle, precision)
    return EngineChain(engines, clock)


def _load(bundle: Bundle, precision: str, name: str, settings: EngineSettings) -> Engine:
    if name != ONNX_RUNTIME_CPU:
        raise StartupError(f"there is no engine {name!r} to load; there is {ONNX_RUNTIME_CPU}")
    try:
        from service.engines.onnx_runtime import OnnxRuntimeEngine
    except ImportError as error:
        raise StartupError(
            f"engine {name} needs ONNX Runtime ({error}): install podium[cpu] or podium[gpu]"
        ) from error
    manifest = bundle.manifest
    info = EngineInfo(
        name=name,
        precision=precision,
        model=manifest.name,
        version=manifest.version,
        max_batch_rows=manifest.max_batch_rows,
    )
    graph = bundle.graph(precision)
    try:
        return OnnxRuntimeEngine(graph, info=info, threads=settings.threads)
    except EngineFailed as failure:
        raise StartupError(f"{graph}: {name} cannot load it: {failure}") from failure


def _prove(engine: Engine, bundle: Bundle, precision: str) -> None:
    rows, expected = bundle.golden
    graph, name = bundle.graph(precision), engine.info.name
    tolerance = bundle.manifest.precisions[precision].tolerance
    try:
        scores = _score_all(engine, rows)
    except EngineFailed as failure:
        raise StartupError(f"{graph}: {name} cannot score the golden rows: {failure}") from failure
    if scores.shape != expected.shape:
        raise StartupError(
            f"{graph}: {name} gives scores of shape {scores.shape} for {rows.rows} golden rows"
        )
    worst = float(np.abs(scores - expected).max())
    if not worst <= tolerance:  # NaN is over every tolerance
        raise StartupError(
            f"{graph}: {name} is {worst:.2g} off the golden scores, {precision} may be at most "
            f"{tolerance:.2g} off; load another bundle, or leave {name} out of the deployment"
        )


def _score_all(engine: Engine, rows: FeatureBatch) -> Float32:
    limit = engine.info.max_batch_rows
    return np.concatenate(
        [
            engine.score(rows.take(slice(start, start + limit)))
            for start in range(0, rows.rows, limit)
        ]
    )
