"""How many workers suit this machine."""

import os
from pathlib import Path

from msgspec import Struct

from service.settings import Settings

MOST_WORKERS = 8
"""Picked by itself; more are for who has measured that they help."""

_DEVICE_ENGINES = frozenset(("tensorrt", "onnxruntime-cuda"))


class WorkerPlan(Struct, frozen=True, kw_only=True):
    """How many processes serve, and why so many."""

    workers: int
    why: str


def plan_workers(settings: Settings, cores: int, *, has_device: bool) -> WorkerPlan:
    """As many workers as the settings say, else as suit the machine.

    Args:
        settings: `server.workers`; engines and their threads.
        cores: That this process may keep busy.
        has_device: There is a GPU.
    """
    own = settings.engine.process == "own"
    owns_device = own and has_device and _uses_device(settings)
    if wanted := settings.server.workers:
        # Each keeps to a budget of its own, and knows nothing of what the others load later.
        note = '; engine.process = "shared" counts the GPU\'s memory once for all of them'
        why = "as server.workers says" + (note if owns_device and wanted > 1 else "")
        return WorkerPlan(workers=wanted, why=why)
    if owns_device:
        return WorkerPlan(workers=1, why="one, as its engines own the GPU; see engine.process")
    threads = settings.engine.threads if own else 1
    fitting = max(1, min(cores // threads, MOST_WORKERS))
    what = f"{cores} usable {'core' if cores == 1 else 'cores'}"
    of_each = f", {threads} threads each" if threads > 1 else ""
    return WorkerPlan(workers=fitting, why=f"{what}{of_each}; server.workers sets another number")


def _uses_device(settings: Settings) -> bool:
    return any(_DEVICE_ENGINES & set(d.engines) for d in settings.deployments.values())


def has_device() -> bool:
    """Whether an NVIDIA driver is loaded; asking CUDA itself takes a second."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/dxg").exists()


def usable_cores(root: Path = Path("/")) -> int:
    """Cores that the scheduler gives us: our affinity, and the limit of our control group."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        cores = os.cpu_count() or 1
    limits = (_version_2_limits(root), _version_1_limit(root))
    return max(1, int(min([cores, *(limit for found in limits for limit in found)])))


def _version_2_limits(root: Path) -> list[float]:
    """Cores by `cpu.max` of our group and of those above it."""
    mounted = root / "sys/fs/cgroup"
    group = mounted / _own_group(root).lstrip("/")
    limits = []
    for directory in (group, *group.parents):
        quota, _, period = _text(directory / "cpu.max").partition(" ")
        if quota.isdecimal() and period.isdecimal():
            limits.append(int(quota) / int(period))
        if directory == mounted:
            break
    return limits


def _version_1_limit(root: Path) -> list[float]:
    directory = root / "sys/fs/cgroup/cpu"
    quota, period = _text(directory / "cpu.cfs_quota_us"), _text(directory / "cpu.cfs_period_us")
    return [int(quota) / int(period)] if quota.isdecimal() and period.isdecimal() else []


def _own_group(root: Path) -> str:
    for line in _text(root / "proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            return line.removeprefix("0::")
    return ""


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii").strip()
    except OSError:
        return ""
