"""From a bundle to engines that have proved themselves.

An engine gets traffic only after it gave the bundle's golden scores within the
tolerance of its precision, in batches of every size that it prepares for. That
also warms it up.
"""

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.errors import BundleError, InputError
from ranking_models.parity import ParityFailed, check_batches
from service.clock import Clock
from service.engines import Engine, EngineInfo
from service.engines.buckets import buckets_of
from service.engines.host.client import EngineClient
from service.engines.host.slot import SlotLayout
from service.engines.host.wire import Wanted
from service.engines.memory import MemoryBudget, MemoryState
from service.errors import EngineFailed, StartupError
from service.settings import EngineSettings

ONNX_RUNTIME_CPU = "onnxruntime-cpu"
TENSORRT = "tensorrt"
ONNX_RUNTIME_CUDA = "onnxruntime-cuda"
OPENVINO = "openvino"
TRITON = "triton"
ON_THE_CPU = frozenset({ONNX_RUNTIME_CPU, OPENVINO})
"""Engines that score on the thread that calls them, and wait for nobody."""
ON_A_DEVICE = frozenset({TENSORRT, ONNX_RUNTIME_CUDA})
"""Engines that a device's memory and its driver are needed for."""
SLOW = frozenset({TENSORRT, ONNX_RUNTIME_CUDA, OPENVINO})
"""Engines that compile or load for so long that another one serves meanwhile."""
BUCKETED = frozenset({TENSORRT, ONNX_RUNTIME_CUDA, OPENVINO})
"""Engines that pad a batch to the next of `engine.row_buckets`, the last of which is their most."""

ONNX_RUNTIME_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


class LoadedEngines(Struct, frozen=True, kw_only=True):
    """One engine per instance, all of the same graph; each of them has proved itself."""

    engines: tuple[Engine, ...]
    predicted_bytes: int = 0
    """Of the device, for all of them together, as reserved before; 0 on a CPU."""
    used_bytes: int = 0
    """As measured when they were there."""
    limit_bytes: int | None = None
    """Of the device, for all models of the process that has them; None on a CPU."""

    def close(self) -> None:
        """Close every engine; the last one frees what they share."""
        for engine in self.engines:
            engine.close()


class EngineLoader:
    """Loads engines onto this machine, from any thread. One per process: the budget is its own.

    Args:
        settings: How engines use the machine.
        plans: The folder of compiled TensorRT plans.
        clock: For the dates of plans.
        shared: The way to the engine process, where there is one.
    """

    def __init__(
        self,
        settings: EngineSettings,
        plans: Path,
        clock: Clock,
        *,
        shared: EngineClient | None = None,
    ) -> None:
        self.settings = settings
        self.budget = MemoryBudget(settings.gpu_memory_fraction)
        self._plans = plans
        self._clock = clock
        self._shared = shared

    @property
    def memory(self) -> MemoryState:
        """What models take of the device, whichever process has them."""
        return self.budget.state if self._shared is None else self._shared.memory

    @property
    def shares(self) -> bool:
        """Whether there is an engine process."""
        return self._shared is not None

    def absent(self, name: str) -> str | None:
        """Why this machine cannot run an engine, whatever the model; None if it may."""
        match name:
            case "onnxruntime-cpu":
                return None
            case "tensorrt":
                return _absence_of_tensorrt(self.settings.device)
            case "onnxruntime-cuda":
                from service.engines.onnx_runtime_cuda import why_absent

                return why_absent(self.settings.device)
            case "openvino":
                from ranking_models.openvino import why_absent as without_openvino

                return without_openvino("f32")
            case "triton":
                from service.engines.triton import why_absent as without_triton

                return without_triton(self.settings)
            case _:
                return _unknown(name)

    def load(self, name: str, bundle: Bundle, precision: str, instances: int) -> LoadedEngines:
        """Load one graph of a bundle, once per instance, and let each engine prove itself.

        Seconds to minutes for the engines in `SLOW`, and then not for the event loop.

        Raises:
            StartupError: the engine is not for this machine, does not fit its memory,
                cannot load the graph, or gives other scores; says why and what to do.
        """
        try:
            graph = bundle.graph(precision)
        except BundleError as error:
            raise StartupError(str(error)) from error
        try:
            loaded = self._load(name, bundle, precision, instances)
        except (EngineFailed, InputError) as failure:
            raise StartupError(f"{graph}: {name} cannot load it: {failure}") from failure
        try:
            for engine in loaded.engines:
                _prove(engine, bundle, precision, prepared_sizes(engine.info, self.settings))
        except BaseException:
            loaded.close()
            raise
        return loaded

    def load_shared(
        self, name: str, bundle: Bundle, precision: str, instances: int
    ) -> LoadedEngines:
        """Have the engine process `load` them, if it has not yet: they prove themselves there.

        Raises:
            StartupError: it refuses, for one of the reasons of `load`.
        """
        if self._shared is None:
            raise ValueError("there is no engine process")
        info = expected_info(name, bundle, precision, self.settings)
        wanted = Wanted(bundle=str(bundle.path.resolve()), engine=name, precision=precision)
        layout = SlotLayout.of(bundle.schema, info.max_batch_rows)
        engines, said = self._shared.open(wanted, layout, instances)
        return LoadedEngines(
            engines=engines, predicted_bytes=said.predicted_bytes, used_bytes=said.used_bytes
        )

    def _load(self, name: str, bundle: Bundle, precision: str, instances: int) -> LoadedEngines:
        match name:
            case "onnxruntime-cpu":
                return self._onnx_runtime_cpu(bundle, precision, instances)
            case "tensorrt":
                return self._tensorrt(bundle, precision, instances)
            case "onnxruntime-cuda":
                return self._onnx_runtime_cuda(bundle, precision, instances)
            case "openvino":
                return self._openvino(bundle, precision, instances)
            case "triton":
                return self._triton(bundle, precision, instances)
            case _:
                raise StartupError(_unknown(name))

    def _onnx_runtime_cpu(self, bundle: Bundle, precision: str, instances: int) -> LoadedEngines:
        _refuse_two_runtimes()
        try:
            from service.engines.onnx_runtime import open_onnx_runtime
        except ImportError as error:
            raise StartupError(
                f"engine {ONNX_RUNTIME_CPU} needs ONNX Runtime ({error}): "
                "install podium[cpu] or podium[gpu]"
            ) from error
        info = expected_info(ONNX_RUNTIME_CPU, bundle, precision, self.settings)
        engines = [
            open_onnx_runtime(bundle, precision, self.settings, info) for _ in range(instances)
        ]
        return LoadedEngines(engines=tuple(engines))

    def _tensorrt(self, bundle: Bundle, precision: str, instances: int) -> LoadedEngines:
        from service.engines.tensor_rt.bundles import find_gpu, load_bundle

        gpu = find_gpu(self.settings.device)
        with _alone(self._plans):
            plan = load_bundle(
                bundle,
                precision,
                self.settings,
                slots=instances,
                plans=self._plans,
                budget=self.budget,
                created=datetime.fromtimestamp(self._clock.wall(), UTC),
                gpu=gpu,
            )
        return LoadedEngines(
            engines=plan.slots,
            predicted_bytes=plan.predicted_bytes,
            used_bytes=plan.measured_bytes,
        )

    def _onnx_runtime_cuda(self, bundle: Bundle, precision: str, instances: int) -> LoadedEngines:
        _refuse_two_runtimes()
        from service.engines.onnx_runtime_cuda import open_onnx_runtime_cuda

        loaded = open_onnx_runtime_cuda(
            bundle,
            precision,
            self.settings,
            expected_info(ONNX_RUNTIME_CUDA, bundle, precision, self.settings),
            instances=instances,
            buckets=buckets_of(bundle, self.settings),
            budget=self.budget,
        )
        return LoadedEngines(
            engines=loaded.engines,
            predicted_bytes=loaded.predicted_bytes,
            used_bytes=loaded.measured_bytes,
        )

    def _openvino(self, bundle: Bundle, precision: str, instances: int) -> LoadedEngines:
        from service.engines.openvino import open_openvino

        info = expected_info(OPENVINO, bundle, precision, self.settings)
        buckets = buckets_of(bundle, self.settings)
        engines = [
            open_openvino(bundle, precision, self.settings, info, buckets) for _ in range(instances)
        ]
        return LoadedEngines(engines=tuple(engines))

    def _triton(self, bundle: Bundle, precision: str, instances: int) -> LoadedEngines:
        from service.engines.triton import open_triton

        info = expected_info(TRITON, bundle, precision, self.settings)
        with contextlib.ExitStack() as opened:
            engines = []
            for _ in range(instances):
                engines.append(open_triton(bundle, precision, self.settings, info))
                opened.callback(engines[-1].close)
            opened.pop_all()
        return LoadedEngines(engines=tuple(engines))


def prepared_sizes(info: EngineInfo, settings: EngineSettings) -> tuple[int, ...]:
    """The rows, rising, to the next of which an engine fills up a batch; () where it does not."""
    if info.name not in BUCKETED:
        return ()
    return tuple(rows for rows in settings.row_buckets if rows <= info.max_batch_rows)


@contextlib.contextmanager
def _alone(plans: Path) -> Iterator[None]:
    """One process at a time: the others find its plan, in place of compiling the same.

    Raises:
        InputError: the folder of plans cannot be made.
    """
    try:
        plans.mkdir(parents=True, exist_ok=True)
        lock = (plans / ".lock").open("wb")
    except OSError as error:
        raise InputError(f"{plans}: cannot be written: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _unknown(name: str) -> str:
    known = ", ".join((TENSORRT, ONNX_RUNTIME_CUDA, OPENVINO, TRITON, ONNX_RUNTIME_CPU))
    return f"there is no engine {name!r} to load; there are {known}"


def _absence_of_tensorrt(device: int) -> str | None:
    from service.engines.tensor_rt.bundles import find_gpu

    try:
        find_gpu(device)
    except InputError as reason:
        return str(reason)
    return None


def expected_info(
    name: str, bundle: Bundle, precision: str, settings: EngineSettings
) -> EngineInfo:
    """What an engine will say of itself, as far as that is known before it is loaded."""
    manifest = bundle.manifest
    largest = manifest.max_batch_rows
    if name in BUCKETED:
        largest = min(largest, settings.row_buckets[-1])
    return EngineInfo(
        name=name,
        precision=precision,
        model=manifest.name,
        version=manifest.version,
        max_batch_rows=largest,
    )


def _prove(engine: Engine, bundle: Bundle, precision: str, sizes: Sequence[int]) -> None:
    """Let an engine score the golden rows: in one call, and in batches of the given sizes."""
    rows, expected = bundle.golden
    graph, name = bundle.graph(precision), engine.info.name
    whole = min(rows.rows, engine.info.max_batch_rows)
    try:
        check_batches(
            engine.score,
            rows,
            expected,
            sizes=(whole, *sizes),
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
