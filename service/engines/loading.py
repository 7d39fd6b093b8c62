"""From a bundle to a chain of engines that have proved themselves.

An engine gets traffic only after it gave the bundle's golden scores within the
tolerance of its precision. That also warms it up.
"""

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution

from ranking_models.bundle import Bundle
from ranking_models.errors import BundleError
from ranking_models.parity import ParityFailed, check_batches
from service.clock import Clock
from service.engines import Engine, EngineInfo
from service.engines.chain import EngineChain
from service.errors import EngineFailed, StartupError
from service.settings import EngineSettings

ONNX_RUNTIME_CPU = "onnxruntime-cpu"
ONNX_RUNTIME_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


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
            engine, two distributions of its runtime are installed, the graph
            cannot be loaded, or its scores are off; names the file and the
            figures.
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
    _refuse_two_runtimes()
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
    try:
        check_batches(
            engine.score,
            rows,
            expected,
            sizes=(min(rows.rows, engine.info.max_batch_rows),),
            tolerance=bundle.manifest.precisions[precision].tolerance,
            what=name,
        )
    except EngineFailed as failure:
        raise StartupError(f"{graph}: {name} cannot score the golden rows: {failure}") from failure
    except ParityFailed as failure:
        raise StartupError(
            f"{graph}: {name} does not give the golden scores: {failure.reason}; "
            f"load another bundle, or leave {name} out of the deployment"
        ) from failure


def _refuse_two_runtimes() -> None:
    """Both distributions write the module `onnxruntime`: what it is then depends on luck."""
    installed = [name for name in ONNX_RUNTIME_DISTRIBUTIONS if _is_installed(name)]
    if len(installed) > 1:
        raise StartupError(
            f"{' and '.join(installed)} are both installed and overwrite each other: uninstall "
            "both, then install podium[cpu] or podium[gpu]"
        )


def _is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True
