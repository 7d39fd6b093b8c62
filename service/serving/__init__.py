"""Runs the app on a socket: bind first, drain on SIGTERM, exit with 0."""

import contextlib

import uvloop

from service.processes.plan import has_device, plan_workers, usable_cores
from service.serving.listener import bind
from service.settings import LoadedSettings


def serve_until_stopped(loaded: LoadedSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        StartupError, InputError, ExperimentInvalid: the address is taken, or a
            part cannot start as configured.
    """
    # Bind before anything is started: a second `podium serve` must not even
    # touch the state directory of the first.
    listener = bind(loaded.settings.server)
    with contextlib.closing(listener):
        plan = plan_workers(loaded.settings, usable_cores(), has_device=has_device())
        if plan.workers == 1:
            from service.serving.alone import serve_alone

            uvloop.run(serve_alone(loaded, listener, plan))
        else:
            # Without the app, which only the workers need in memory.
            from service.serving.several import serve_with_workers

            uvloop.run(serve_with_workers(loaded, listener, plan))
