"""Starts the engine process, and starts it again whenever it ends."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from service.processes.child import ENTRY
from service.processes.restarts import Restarts
from service.settings import PLANS, BatchPolicy, EngineSettings, LoadedSettings

MODULE: Final = "service.engines.host.process"
END_S: Final = 2.0
"""When no worker is left the process has nothing to finish; one that hangs is killed after this."""
_log = logging.getLogger(__name__)


class Begin(Struct, frozen=True, kw_only=True):
    """What the process is told at its start, on its standard input."""

    engine: EngineSettings
    batching: BatchPolicy
    plans: str
    log_level: Literal["debug", "info", "warning", "error"]
    longest_end_s: float
    """After the end of its parent; without workers that need it, it ends at once."""


@contextlib.contextmanager
def shared_engines(
    loaded: LoadedSettings, longest_end_s: float, on_end: Callable[[], None]
) -> Iterator[socket.socket | None]:
    """The engine process of a service, for a block of code, if its settings ask for one.

    Args:
        loaded: The settings.
        longest_end_s: How long workers may live when their parent has died.
        on_end: Called on a thread whenever it ended unasked, before it is started again.

    Yields:
        As `engine_process`; None where every worker owns its engines.
    """
    settings = loaded.settings
    if settings.engine.process == "own":
        yield None
        return
    configured = settings.engine.plan_directory
    plans = loaded.state_directory / PLANS if configured is None else loaded.path(configured)
    begin = Begin(
        engine=settings.engine,
        batching=settings.batching,
        plans=str(plans.absolute()),
        log_level=settings.telemetry.log_level,
        longest_end_s=longest_end_s,
    )
    with engine_process(begin, on_end=on_end) as way:
        yield way


@contextlib.contextmanager
def engine_process(
    begin: Begin, module: str = MODULE, on_end: Callable[[], None] = lambda: None
) -> Iterator[socket.socket]:
    """The engine process, for a block of code. A thread sees that it runs.

    Args:
        begin: What it is told.
        module: Its ``main``.
        on_end: Called on a thread whenever it ended unasked.

    Yields:
        The way that lanes are sent by, to this run and all later ones. Workers
        inherit it. What is sent while no process runs, the next one finds.
    """
    ways = socket.socketpair()
    lifeline = os.pipe()
    keeper = _Keeper(begin, module, (ways[1].fileno(), lifeline[0]), on_end)
    try:
        ways[0].setblocking(False)
        keeper.start()
        yield ways[0]
    finally:
        # The process ends when nobody is left who could send it a lane.
        ways[0].close()
        keeper.stop()
        ways[1].close()
        for end in lifeline:
            os.close(end)


class _Keeper:
    def __init__(
        self,
        begin: Begin,
        module: str,
        descriptors: tuple[int, int],
        on_end: Callable[[], None],
    ) -> None:
        self._begin, self._module, self._descriptors = begin, module, descriptors
        self._on_end = on_end
        self._stopping = threading.Event()
        self._process = self._launch()
        self._thread = threading.Thread(target=self._keep, name="podium-keeper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._process.kill()
        self._thread.join()

    def _keep(self) -> None:
        restarts = Restarts()
        while True:
            started = time.monotonic()
            code = self._process.wait()
            if self._stopping.is_set():
                return
            self._on_end()
            delay_s = restarts.after(time.monotonic() - started)
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            _log.error("the engine process ended (%s): next start in %g s", how, delay_s)
            if self._stopping.wait(delay_s):
                return
            self._process = self._launch()

    def _launch(self) -> "subprocess.Popen[bytes]":
        root = str(Path(__file__).parents[3])
        process = subprocess.Popen(  # noqa: S603 - this interpreter, and our own module
            [
                *(sys.executable, "-P", "-c", ENTRY, root, self._module),
                *map(str, self._descriptors),
            ],
            stdin=subprocess.PIPE,
            pass_fds=self._descriptors,
            # Ctrl-C is for the parent; this one ends after the workers.
            start_new_session=True,
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as told:
            told.write(msgspec.msgpack.encode(self._begin))
        return process
