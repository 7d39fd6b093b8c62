"""The GPUs of this machine as NVML shows them: one reader per host process, on a thread of its own.

NVML is asked every few seconds and never while a page is made: a driver that is
slow or hangs costs nobody anything. What a GPU does not tell, and what was
told too long ago, is absent; without a driver, or without the package
nvidia-ml-py, so is everything. NVML knows whether any kernel ran, not how many
multiprocessors it kept busy: that is DCGM's exporter's to tell
(``DCGM_FI_PROF_SM_OCCUPANCY``).

Source:
    NVML API reference, nvmlDeviceQueries; nvidia-ml-py 13.615.
"""

import contextlib
import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from msgspec import Struct
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from service.telemetry import names

READ_S: Final = 5.0
"""Between two readings."""
FRESH_S: Final = 3 * READ_S
"""Older figures are not shown: NVML hangs, or the GPU is gone."""
END_S: Final = 1.0
"""A call that hangs is left to its thread, which holds up no end of the process."""
_log = logging.getLogger(__name__)

_INFO: Final = ("gpu", "uuid", "name", "driver")


class Shape(Struct, frozen=True):
    """How a metric of GPUs is shown."""

    meaning: str
    label: str | None = None
    """Beside ``gpu``, which every one has."""
    is_counter: bool = False


SHAPES: Final[Mapping[str, Shape]] = {
    names.M_GPU_UTILIZATION: Shape("Share of the last moment in which any kernel ran, 0 to 1"),
    names.M_GPU_MEMORY_BYTES: Shape("Memory of the GPU, whoever uses it", "kind"),
    names.M_GPU_POWER: Shape("Power that the GPU draws now"),
    names.M_GPU_POWER_LIMIT: Shape("Power that it may draw"),
    names.M_GPU_TEMPERATURE: Shape("Temperature of the chip"),
    names.M_GPU_CLOCK: Shape("Clock rate now", "clock"),
    names.M_GPU_ENERGY: Shape("Energy taken since the driver was loaded", is_counter=True),
    names.M_GPU_ECC_ERRORS: Shape("Memory errors since the driver was loaded", "kind", True),
}

TRITON_NAMES: Final[Mapping[str, tuple[str, str, str]]] = {
    names.T_GPU_UTILIZATION: (names.M_GPU_UTILIZATION, "", "GPU utilization, 0 to 1"),
    names.T_GPU_MEMORY_TOTAL: (names.M_GPU_MEMORY_BYTES, "total", "GPU memory in bytes"),
    names.T_GPU_MEMORY_USED: (names.M_GPU_MEMORY_BYTES, "used", "GPU memory in use in bytes"),
    names.T_GPU_POWER: (names.M_GPU_POWER, "", "GPU power now in watts"),
    names.T_GPU_POWER_LIMIT: (names.M_GPU_POWER_LIMIT, "", "GPU power limit in watts"),
    names.T_GPU_ENERGY: (names.M_GPU_ENERGY, "", "GPU energy in joules, since the driver's load"),
}
"""Triton's name to ours, with the value of our second label and the help text."""


class Reading(Struct, frozen=True):
    """One GPU at one moment."""

    gpu: str
    """Its number, as NVML counts; CUDA may count in another order."""
    uuid: str
    name: str
    driver: str
    figures: Mapping[tuple[str, str], float]
    """By metric and the value of its second label; what the GPU does not tell is not there."""


class GpuFigures(Collector):
    """What was read last. Written by the reader's thread, read by whoever makes the page.

    Args:
        triton_names: Whether Triton's names are shown as well.
        now: Seconds, of a clock that never jumps.
    """

    def __init__(
        self, *, triton_names: bool = False, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._triton_names, self._now = triton_names, now
        self._read: tuple[float, tuple[Reading, ...]] = (0.0, ())

    def take(self, readings: tuple[Reading, ...]) -> None:
        """Show these from now on."""
        self._read = self._now(), readings

    def collect(self) -> Iterable[Metric]:
        at, readings = self._read
        if not readings or self._now() > at + FRESH_S:
            return
        info = GaugeMetricFamily(
            names.M_GPU_INFO, "1 for every GPU of the machine, by its number", labels=_INFO
        )
        for one in readings:
            info.add_metric([one.gpu, one.uuid, one.name, one.driver], 1.0)
        yield info
        for name, shape in SHAPES.items():
            yield _family(name, shape, readings)
        if self._triton_names:
            yield from _by_triton_names(readings)


@contextlib.contextmanager
def gpu_figures(*, triton_names: bool = False) -> Iterator[GpuFigures]:
    """Figures that are kept up to date by a thread, for a block of code; at once, and for nothing
    where there is no GPU."""
    figures, ending = GpuFigures(triton_names=triton_names), threading.Event()
    nvml = _package()
    if nvml is None:
        yield figures
        return
    work = threading.Thread(
        target=_keep_reading, args=(nvml, figures, ending), name="podium-gpu", daemon=True
    )
    work.start()
    try:
        yield figures
    finally:
        ending.set()
        work.join(END_S)


def read_gpus(nvml: Any) -> tuple[Reading, ...]:
    """All GPUs now; one that answers nothing at all is left out.

    Args:
        nvml: The module ``pynvml``, initialised.

    Raises:
        NVMLError: the driver is gone.
    """
    driver = nvml.nvmlSystemGetDriverVersion()
    found = (_reading(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount()))
    return tuple(reading for reading in found if reading is not None)


def _package() -> Any | None:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _keep_reading(nvml: Any, figures: GpuFigures, ending: threading.Event) -> None:
    said = ""
    while not ending.is_set():
        try:
            nvml.nvmlInit()
            try:
                figures.take(read_gpus(nvml))
                while not ending.wait(READ_S):
                    figures.take(read_gpus(nvml))
            finally:
                nvml.nvmlShutdown()
        except nvml.NVMLError_LibraryNotFound:
            return  # a machine without a driver, and so it stays
        except Exception as problem:
            # A driver that is replaced under way comes back; figures must never end a service.
            if str(problem) != said:
                said = str(problem)
                _log.warning("the GPUs cannot be read, their metrics are absent: %s", said)
            figures.take(())
            ending.wait(READ_S)


def _reading(nvml: Any, index: int, driver: str) -> Reading | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
    except nvml.NVMLError:
        return None
    figures: dict[tuple[str, str], float] = {}
    for group in _groups(nvml, handle):
        # What a GPU does not support must not hide the rest.
        with contextlib.suppress(nvml.NVMLError):
            figures.update(group())
    return Reading(str(index), uuid, name, driver, figures)


Figures = dict[tuple[str, str], float]


def _groups(nvml: Any, handle: Any) -> Iterator[Callable[[], Figures]]:
    """What is asked together, and is there or not together."""

    def memory() -> Figures:
        found = nvml.nvmlDeviceGetMemoryInfo(handle)
        kinds = {"used": found.used, "free": found.free, "total": found.total}
        return {(names.M_GPU_MEMORY_BYTES, kind): float(n) for kind, n in kinds.items()}

    def ask(metric: str, factor: float, call: str, *arguments: int, label: str = "") -> Figures:
        return {(metric, label): getattr(nvml, call)(handle, *arguments) * factor}

    def ecc(kind: str, error: int) -> Figures:
        counted = nvml.nvmlDeviceGetTotalEccErrors(handle, error, nvml.NVML_VOLATILE_ECC)
        return {(names.M_GPU_ECC_ERRORS, kind): float(counted)}

    def utilization() -> Figures:
        found = nvml.nvmlDeviceGetUtilizationRates(handle)
        return {(names.M_GPU_UTILIZATION, ""): found.gpu / 100}

    def clock(label: str, kind: int) -> Figures:
        return ask(names.M_GPU_CLOCK, 1e6, "nvmlDeviceGetClockInfo", kind, label=label)

    yield utilization
    yield memory
    yield lambda: ask(names.M_GPU_POWER, 1e-3, "nvmlDeviceGetPowerUsage")
    yield lambda: ask(names.M_GPU_POWER_LIMIT, 1e-3, "nvmlDeviceGetEnforcedPowerLimit")
    yield lambda: ask(
        names.M_GPU_TEMPERATURE, 1.0, "nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU
    )
    yield lambda: clock("sm", nvml.NVML_CLOCK_SM)
    yield lambda: clock("memory", nvml.NVML_CLOCK_MEM)
    yield lambda: ask(names.M_GPU_ENERGY, 1e-3, "nvmlDeviceGetTotalEnergyConsumption")
    yield lambda: ecc("corrected", nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED)
    yield lambda: ecc("uncorrected", nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED)


def _family(name: str, shape: Shape, readings: Iterable[Reading]) -> Metric:
    kind = CounterMetricFamily if shape.is_counter else GaugeMetricFamily
    labels = ("gpu",) if shape.label is None else ("gpu", shape.label)
    family = kind(name, shape.meaning, labels=labels)
    for one in readings:
        for (metric, value), figure in one.figures.items():
            if metric == name:
                family.add_metric([one.gpu, value][: len(labels)], figure)
    return family


def _by_triton_names(readings: Iterable[Reading]) -> Iterator[Metric]:
    for theirs, (ours, value, meaning) in TRITON_NAMES.items():
        metric = Metric(theirs, meaning, "unknown" if SHAPES[ours].is_counter else "gauge")
        for one in readings:
            figure = one.figures.get((ours, value))
            if figure is not None:
                metric.add_sample(theirs, {"gpu_uuid": one.uuid}, figure)
        yield metric
