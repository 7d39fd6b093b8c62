"""``pynvml`` on a machine with the GPUs that a test names, with its real names and arguments."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tests.support.recorded import RecordedModule, Recording

FILE = "nvml-13.615.json"


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):  # noqa: N801 - the real name
    pass


class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801
    pass


class NVMLError_GpuIsLost(NVMLError):  # noqa: N801
    pass


ERRORS = (NVMLError, NVMLError_NotSupported, NVMLError_LibraryNotFound, NVMLError_GpuIsLost)


# By these names the recording knows which fields they have.
class c_nvmlMemory_t(SimpleNamespace):  # noqa: N801
    pass


class c_nvmlUtilization_t(SimpleNamespace):  # noqa: N801
    pass


class FakeGpu:
    """An L4 as it answers, in NVML's units: percent, bytes, milliwatts, megahertz, millijoules.

    Args:
        number: Its place.
        without: Functions that it does not support.
    """

    def __init__(self, number: int = 0, *, without: tuple[str, ...] = ()) -> None:
        self.number, self.without = number, without
        self.is_lost = False
        self.memory = c_nvmlMemory_t(total=24 << 30, used=6 << 30, free=18 << 30)
        self.utilization = c_nvmlUtilization_t(gpu=37, memory=12)
        self.answers: dict[str, Callable[..., Any]] = {
            "nvmlDeviceGetUUID": lambda: f"GPU-{number}",
            "nvmlDeviceGetName": lambda: "NVIDIA L4",
            "nvmlDeviceGetUtilizationRates": lambda: self.utilization,
            "nvmlDeviceGetMemoryInfo": lambda: self.memory,
            "nvmlDeviceGetPowerUsage": lambda: 31_500,
            "nvmlDeviceGetEnforcedPowerLimit": lambda: 72_000,
            "nvmlDeviceGetTemperature": lambda sensor: {0: 41}[sensor],
            "nvmlDeviceGetClockInfo": lambda kind: {1: 2040, 2: 6251}[kind],
            "nvmlDeviceGetTotalEnergyConsumption": lambda: 5_000_000,
            "nvmlDeviceGetTotalEccErrors": lambda error, counter: {(0, 0): 3, (1, 0): 0}[
                error, counter
            ],
        }

    def ask(self, call: str, *arguments: Any) -> Any:
        if self.is_lost:
            raise NVMLError_GpuIsLost(call)
        if call in self.without:
            raise NVMLError_NotSupported(call)
        return self.answers[call](*arguments)


def fake_nvml(*gpus: FakeGpu, driver: str = "580.65.06", has_driver: bool = True) -> RecordedModule:
    """The module; each call must be one that the real one has, with arguments that it takes."""
    recording = Recording(FILE)
    unknown = {error.__name__ for error in ERRORS} - set(recording.classes)
    assert not unknown, f"the real module has no {unknown}"

    def begin() -> None:
        if not has_driver:
            raise NVMLError_LibraryNotFound

    calls = FakeGpu().answers
    return RecordedModule(
        recording,
        functions={
            "nvmlInit": begin,
            "nvmlShutdown": lambda: None,
            "nvmlSystemGetDriverVersion": lambda: driver,
            "nvmlDeviceGetCount": lambda: len(gpus),
            "nvmlDeviceGetHandleByIndex": lambda index: gpus[index],
            **{name: _asked(name) for name in calls},
        },
        values={error.__name__: error for error in ERRORS},
    )


def _asked(call: str) -> Callable[..., Any]:
    return lambda handle, *arguments: handle.ask(call, *arguments)
