"""A device that takes time and no CPU, behind the seam of the real engines.

One device for all processes of a service: calls queue for it, it works on one
at a time, 0.5 ms and 1 us per row, at most 1,024 rows a call. What a call costs
in computing is left out on purpose, so that what limits is the service side.

`install` puts it in the place of the engine ``tensorrt`` of a process. It is
called in every process of a service by ``device_site/sitecustomize.py``.
"""

import fcntl
import mmap
import os
import struct
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.schema import FeatureBatch, Float32
from service.engines import EngineInfo

CALL_S, ROW_S = 0.0005, 1e-6
MOST_ROWS = 1_024
DEVICE_FILE = "BENCH_DEVICE"
"""Variable with the path of the file that all processes share."""

_STATE = struct.Struct("qqqq")
"""Free at (monotonic ns), calls, rows, busy ns."""


class Used(NamedTuple):
    """What the device has done so far."""

    calls: int
    rows: int
    busy_s: float


class SimulatedDevice:
    """One process's handle on the device, as an `Engine`; the score follows from the item's id."""

    def __init__(self, file: Path, info: EngineInfo) -> None:
        self._info = info
        self._file = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        self._state = mmap.mmap(self._file, _STATE.size)

    @property
    def info(self) -> EngineInfo:
        return self._info

    def score(self, batch: FeatureBatch) -> Float32:
        if not 1 <= batch.rows <= MOST_ROWS:
            raise ValueError(f"{batch.rows} rows in a call, 1 to {MOST_ROWS} fit")
        done_at = self._reserve(batch.rows)
        left = done_at - time.monotonic_ns()
        if left > 0:
            time.sleep(left / 1e9)
        return expected_scores(batch)

    def close(self) -> None:
        self._state.close()
        os.close(self._file)

    def _reserve(self, rows: int) -> int:
        """Take the device's next free time, ns; processes exclude each other, threads the GIL."""
        service_ns = round((CALL_S + rows * ROW_S) * 1e9)
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            free_at, calls, scored, busy = _STATE.unpack_from(self._state)
            done_at = max(free_at, time.monotonic_ns()) + service_ns
            figures = done_at, calls + 1, scored + rows, busy + service_ns
            _STATE.pack_into(self._state, 0, *figures)
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)
        return done_at


def expected_scores(batch: FeatureBatch) -> Float32:
    """In [0, 1), different for different items: what `SimulatedDevice` scores."""
    return _spread(batch.ids.sum(axis=1))


def _spread(numbers: np.ndarray) -> Float32:
    return np.modf(numbers * 0.6180339887)[0].astype(np.float32)


def new_device(file: Path) -> None:
    """Make the file of an idle device."""
    file.write_bytes(_STATE.pack(0, 0, 0, 0))


def used(file: Path) -> Used:
    _, calls, rows, busy = _STATE.unpack(file.read_bytes())
    return Used(calls, rows, busy / 1e9)


def install(file: Path) -> None:
    """Let this process's service load the device for the engine ``tensorrt``."""
    from service.engines.loading import TENSORRT, EngineLoader, LoadedEngines

    load_others = EngineLoader.load

    def load(
        self: EngineLoader, name: str, bundle: Bundle, precision: str, instances: int
    ) -> LoadedEngines:
        if name != TENSORRT:
            return load_others(self, name, bundle, precision, instances)
        info = EngineInfo(
            name=TENSORRT,
            precision=precision,
            model=bundle.manifest.name,
            version=bundle.manifest.version,
            max_batch_rows=MOST_ROWS,
            best_batch_rows=MOST_ROWS,
        )
        return LoadedEngines(engines=tuple(SimulatedDevice(file, info) for _ in range(instances)))

    EngineLoader.load = load  # type: ignore[method-assign]
