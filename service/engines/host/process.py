"""The engine process."""

import logging
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec

from ranking_models.bundle import Bundle
from ranking_models.errors import InputError
from service.clock import SystemClock
from service.engines.host import wire
from service.engines.host.host import EngineHost
from service.engines.host.keeper import Begin
from service.engines.loading import ON_THE_CPU, EngineLoader, LoadedEngines
from service.errors import StartupError
from service.processes.child import end_with_parent
from service.processes.plan import usable_cores
from service.telemetry import configure_logging
from service.telemetry.logs import log_what_nobody_catches

HUNG_EXIT = 70
"""Of a process that cannot score any more; the next one can."""
_log = logging.getLogger(__name__)
ON_A_DEVICE = 2
"""Engines of a graph: while one batch is on the device, the next one is on its way to it."""


def main(way: int, lifeline: int) -> None:
    """Score for whoever sends a lane, until nobody can send any.

    Args:
        way: Descriptor of the socket that lanes come through.
        lifeline: Descriptor whose end is the parent's.
    """
    begin = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Begin)
    configure_logging(begin.log_level)
    log_what_nobody_catches()
    _name_log_lines()
    threading.excepthook = _end_with_thread
    end_with_parent(lifeline, begin.longest_end_s)
    host = EngineHost(
        socket.socket(fileno=way),
        Loading(begin),
        max_execution_s=begin.engine.max_execution_s,
        hangs=lambda: os._exit(HUNG_EXIT),
    )
    host.run()


class Loading:
    """Loads engines as the settings say. From any thread."""

    def __init__(self, begin: Begin) -> None:
        self._settings, self._instances = begin.engine, begin.batching.instances
        # Rows arrive gathered, so the exact split has nothing to save here.
        settings = msgspec.structs.replace(begin.engine, split="off")
        self._loader = EngineLoader(settings, Path(begin.plans), SystemClock())

    def __call__(self, wanted: wire.Wanted) -> LoadedEngines:
        """Engines that have proved themselves.

        Raises:
            StartupError: there is no such bundle, or its engines cannot be had; says why.
        """
        try:
            bundle = Bundle.open(Path(wanted.bundle))
        except InputError as error:
            raise StartupError(str(error)) from error
        instances = self._instances or self._fitting(wanted.engine)
        loaded = self._loader.load(wanted.engine, bundle, wanted.precision, instances)
        return msgspec.structs.replace(loaded, limit_bytes=self._loader.budget.limit_bytes)

    def _fitting(self, engine: str) -> int:
        if engine in ON_THE_CPU:
            return max(1, usable_cores() // self._settings.threads)
        return ON_A_DEVICE


def _end_with_thread(failure: threading.ExceptHookArgs) -> None:
    """Nobody would be left to score or to listen: better a new process than such a one."""
    _log.critical("a thread of the engine process failed", exc_info=failure.exc_value)
    os._exit(HUNG_EXIT)


def _name_log_lines() -> None:
    """Say in every log line that the engine process wrote it."""
    make = logging.getLogRecordFactory()

    def named(*facts: Any, **more: Any) -> logging.LogRecord:
        record = make(*facts, **more)
        record.worker = "engines"
        return record

    logging.setLogRecordFactory(named)
