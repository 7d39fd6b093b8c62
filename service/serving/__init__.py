"""Runs the app on a socket: bind first, drain on SIGTERM, exit with 0."""

import contextlib
import os
from collections.abc import Callable

import uvloop
from msgspec import Struct

from service.processes.plan import has_device, plan_workers, usable_cores
from service.serving.listener import bind
from service.settings import LoadedSettings
from service.telemetry.logs import announce, log_what_nobody_catches


class Serving(Struct, frozen=True, kw_only=True):
    """A service that takes requests from now on: the JSON of ``podium serve --json``."""

    host: str
    port: int
    url: str
    pid: int
    """The process to end by SIGTERM."""
    workers: int


def serve_until_stopped(
    loaded: LoadedSettings, *, ready: Callable[[Serving], None] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        loaded: As what.
        ready: Called when it serves, after a person was told on standard error.

    Raises:
        StartupError, InputError, ExperimentInvalid: the address is taken, or a
            part cannot start as configured.
    """
    # Bind before anything is started: a second `podium serve` must not even
    # touch the state directory of the first.
    log_what_nobody_catches()
    listener = bind(loaded.settings.server)
    with contextlib.closing(listener):
        plan = plan_workers(loaded.settings, usable_cores(), has_device=has_device())

        def tell(welcome: str) -> None:
            announce(welcome)
            if ready is not None:
                host, port = listener.getsockname()[:2]
                ready(_serving(host, port, plan.workers))

        if plan.workers == 1:
            from service.serving.alone import serve_alone

            uvloop.run(serve_alone(loaded, listener, plan, tell))
        else:
            # Without the app, which only the workers need in memory.
            from service.serving.several import serve_with_workers

            uvloop.run(serve_with_workers(loaded, listener, plan, tell))


def _serving(host: str, port: int, workers: int) -> Serving:
    at = f"[{host}]" if ":" in host else host
    return Serving(
        host=host, port=port, url=f"http://{at}:{port}", pid=os.getpid(), workers=workers
    )
