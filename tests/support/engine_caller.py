"""A worker without a service: calls shared engines until it is told to stop, and checks each score.

Its standard output has one line of figures at the end; a wrong score ends it with code 3.
"""

import socket
import sys
import threading
import time
from contextlib import closing

import msgspec
import numpy as np
from msgspec import Struct

from service.engines.host.client import EngineClient
from service.errors import EngineFailed
from service.testing import FakeEngine
from tests.support.engine_process import LAYOUT, WANTED, some_rows

MODULE = "tests.support.engine_caller"


class Figures(Struct):
    scored: int = 0
    failed: int = 0
    wrong: int = 0
    longest_s: float = 0.0
    """Of all calls, scored or failed."""
    scored_last: bool = False


def main(way: int, seed: int, threads: int, limit_s: float) -> None:
    client = EngineClient(socket.socket(fileno=way), max_execution_s=limit_s)
    with closing(client):
        engines, _ = client.open(WANTED, LAYOUT, threads)
        _say("ready")
        stop = threading.Event()
        figures = [Figures() for _ in engines]
        callers = [
            threading.Thread(target=_call, args=(engine, seed + n, stop, figures[n]), daemon=True)
            for n, engine in enumerate(engines)
        ]
        for caller in callers:
            caller.start()
        sys.stdin.read()
        stop.set()
        for caller in callers:
            caller.join(2 * limit_s)
        assert not any(caller.is_alive() for caller in callers), "a call does not come back"
    _say(msgspec.json.encode(figures).decode())
    sys.exit(3 if any(figure.wrong for figure in figures) else 0)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _call(engine, seed: int, stop: threading.Event, figures: Figures) -> None:  # type: ignore[no-untyped-def]
    random = np.random.default_rng(seed)
    while not stop.is_set():
        rows = some_rows(int(random.integers(1, 80)), int(random.integers(1 << 30)))
        started = time.monotonic()
        try:
            scores = engine.score(rows)
        except EngineFailed:
            figures.failed += 1
            figures.scored_last = False
            time.sleep(0.001)  # as long as another engine would have taken for the batch
        else:
            figures.scored += 1
            figures.scored_last = True
            figures.wrong += not np.array_equal(scores, FakeEngine.expected(rows))
        figures.longest_s = max(figures.longest_s, time.monotonic() - started)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), limit_s=float(sys.argv[4]))
