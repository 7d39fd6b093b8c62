"""An engine process whose engines compute nothing: what is left of a call is its way there."""

import os
import socket
import sys
from pathlib import Path

import msgspec
import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.schema import FeatureBatch, Float32
from service.engines import EngineInfo
from service.engines.host.host import EngineHost
from service.engines.host.keeper import Begin
from service.engines.host.wire import Wanted
from service.engines.loading import LoadedEngines, expected_info
from service.processes.child import end_with_parent

MODULE = "tests.bench.idle_engine"


class IdleEngine:
    """Scores every row with 0.5."""

    def __init__(self, info: EngineInfo) -> None:
        self.info = info
        self._scores: Float32 = np.full(info.max_batch_rows, 0.5, np.float32)

    def score(self, batch: FeatureBatch) -> Float32:
        return self._scores[: batch.rows]

    def close(self) -> None:
        """Nothing is held."""


def main(way: int, lifeline: int) -> None:
    begin = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Begin)
    end_with_parent(lifeline, begin.longest_end_s)

    def load(wanted: Wanted) -> LoadedEngines:
        bundle = Bundle.open(Path(wanted.bundle))
        info = expected_info(wanted.engine, bundle, wanted.precision, begin.engine)
        return LoadedEngines(engines=(IdleEngine(info), IdleEngine(info)))

    EngineHost(
        socket.socket(fileno=way),
        load,
        max_execution_s=begin.engine.max_execution_s,
        hangs=lambda: os._exit(1),
    ).run()
