"""What figures were measured on, and who else used it meanwhile."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ranking_models.errors import InputError
from service.processes.plan import has_device, usable_cores
from service.profiling.values import Machine

SCORING_PACKAGES = (
    "podium",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "cuda-bindings",
    "tritonclient",
)


def this_machine(device: int) -> Machine:
    """The machine that this runs on, with one of its GPUs if it has any."""
    versions = {"python": platform.python_version()}
    versions |= {name: found for name in SCORING_PACKAGES if (found := _version(name))}
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu() or platform.processor() or platform.machine(),
        cores=usable_cores(),
        gpu=_gpu(device) if has_device() else None,
        versions=versions,
    )


class OtherWork:
    """How many cores other processes keep busy, from now on; Linux says it, others do not."""

    def __init__(self, stat: Path = Path("/proc/stat")) -> None:
        self._stat = stat
        self._before = self._now()

    def cores(self) -> float | None:
        """The mean since this was made; None where nobody knows."""
        before, now = self._before, self._now()
        if before is None or now is None:
            return None
        busy, own, elapsed = (b - a for a, b in zip(before, now, strict=True))
        return max(0.0, (busy - own) / max(elapsed, 1e-9))

    def _now(self) -> tuple[float, float, float] | None:
        """CPU seconds of the cores that are ours to use, CPU seconds of ours, and seconds."""
        try:
            lines = self._stat.read_text("ascii").splitlines()
            ours = {f"cpu{core}" for core in os.sched_getaffinity(0)}
            ticks = [_busy(line) for line in lines if line.partition(" ")[0] in ours]
        except (OSError, AttributeError, ValueError):  # AttributeError: macOS has no affinity
            return None
        if not ticks:
            return None
        return sum(ticks) / os.sysconf("SC_CLK_TCK"), time.process_time(), time.monotonic()


def _busy(line: str) -> int:
    """Clock ticks that a core has worked since it started."""
    user, nice, system, _idle, _waiting, irq, softirq = map(int, line.split()[1:8])
    return user + nice + system + irq + softirq


def _cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The CPU's name where Linux says it."""
    try:
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None)


def _gpu(device: int) -> str | None:
    from ranking_models.tensorrt.device import cuda_runtime, find_device

    try:
        return find_device(cuda_runtime(), device).name
    except InputError:
        return None  # there is a driver, but no such GPU or no package that speaks to it


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
