"""An engine process with fake engines, started as the real one is."""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import numpy as np

from ranking_models.schema import FeatureBatch, Float32
from service.engines.host import wire
from service.engines.host.host import EngineHost
from service.engines.host.keeper import Begin
from service.engines.host.slot import SlotLayout
from service.engines.loading import LoadedEngines
from service.errors import StartupError
from service.processes.child import end_with_parent
from service.settings import BatchPolicy, EngineSettings
from service.testing import FakeEngine

MODULE = "tests.support.engine_process"
DIE = np.float32(-1001.0)
"""An order: a call with such a row ends the process in place of scoring."""
LAYOUT = SlotLayout(rows=256, dense=3, ids=2, multi=(("tags", 4),))
WANTED = wire.Wanted(bundle="/fake", engine="fake", precision="fp32")
REFUSED = wire.Wanted(bundle="/refused", engine="fake", precision="fp32")
REASON = "fake needs 3.0 GiB of GPU memory, 1.0 GiB of 2.0 GiB are left"
CRASHING = wire.Wanted(bundle="/crashing", engine="fake", precision="fp32")


def begin(*, max_execution_s: float = 2.0) -> Begin:
    """What such a process is told."""
    return Begin(
        engine=EngineSettings(max_execution_s=max_execution_s),
        batching=BatchPolicy(),
        plans="",
        log_level="info",
        longest_end_s=0.5,
    )


class MortalEngine(FakeEngine):
    """A fake that dies where a row orders it."""

    def __init__(self) -> None:
        super().__init__(max_batch_rows=LAYOUT.rows)

    def score(self, batch: FeatureBatch) -> Float32:
        if (batch.dense[:, 0] == DIE).any():
            os._exit(9)
        return super().score(batch)


def load(wanted: wire.Wanted) -> LoadedEngines:
    """Two engines, unless the name of the bundle says otherwise."""
    if wanted == REFUSED:
        raise StartupError(REASON)
    if wanted == CRASHING:
        os._exit(11)
    return LoadedEngines(engines=(MortalEngine(), MortalEngine()), predicted_bytes=7)


def main(way: int, lifeline: int) -> None:
    told = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Begin)
    end_with_parent(lifeline, told.longest_end_s)
    EngineHost(
        socket.socket(fileno=way),
        load,
        max_execution_s=told.engine.max_execution_s,
        hangs=lambda: os._exit(70),
    ).run()


@contextmanager
def hosting(
    load: Callable[[wire.Wanted], LoadedEngines],
    *,
    max_execution_s: float = 10.0,
    hangs: Callable[[], None] = lambda: None,
) -> Iterator[socket.socket]:
    """What the process does, on threads of this one, for tests that look at its engines."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    host = EngineHost(theirs, load, max_execution_s=max_execution_s, hangs=hangs)
    thread = threading.Thread(target=host.run, daemon=True)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join(10)
        theirs.close()
    assert not thread.is_alive()


def some_rows(count: int, seed: int = 0) -> FeatureBatch:
    """Rows for a slot of `LAYOUT`."""
    random = np.random.default_rng(seed)
    return FeatureBatch(
        dense=random.normal(size=(count, 3)).astype(np.float32),
        ids=random.integers(0, 9, (count, 2)).astype(np.int32),
        multi={"tags": random.integers(0, 9, (count, 4)).astype(np.int32)},
    )


def deadly_rows(count: int = 3) -> FeatureBatch:
    """Rows, one of which ends the process."""
    rows = some_rows(count)
    rows.dense[-1, 0] = DIE
    return rows
