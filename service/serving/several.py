"""The parent of a service in several processes: stores first, then workers."""

import signal
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

from service.engines.host.keeper import shared_engines
from service.events.aggregation import new_consumer
from service.processes.channel import Begin
from service.processes.plan import WorkerPlan
from service.processes.supervisor import Supervisor
from service.serving.signals import signals
from service.settings import LoadedSettings, ServerSettings
from service.stores import down_bits, embedded_stores
from service.telemetry import configure_logging
from service.telemetry.gpu import gpu_figures
from service.telemetry.parent import ParentMetrics

END_S = 10.0
"""What a worker may need besides its drain limits: events to the disk, spans to the collector."""


async def serve_with_workers(
    loaded: LoadedSettings,
    listener: socket.socket,
    plan: WorkerPlan,
    announce: Callable[[str], None],
) -> None:
    """Serve until a signal, then drain.

    Raises:
        StartupError, InputError: a part cannot start as configured.
    """
    settings = loaded.settings
    configure_logging(settings.telemetry.log_level)
    stop_limit_s = longest_end_s(settings.server)
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(embedded_stores(loaded))
        # It ends after the workers, which finish with its engines what is under way.
        metrics = ParentMetrics()
        engines = stack.enter_context(
            shared_engines(loaded, stop_limit_s, metrics.engine_process_ended)
        )
        metrics.collect_from(
            stack.enter_context(gpu_figures(triton_names=settings.telemetry.triton_names))
        )
        supervisor = Supervisor(
            _begin(loaded, listener, plan, engines),
            listener,
            workers=plan.workers,
            stores_down=partial(down_bits, stores),
            stop_limit_s=stop_limit_s,
            metrics=metrics,
        )
        with signals(
            {
                signal.SIGTERM: partial(supervisor.drain, settings.server.drain_notice_s),
                signal.SIGINT: partial(supervisor.drain, 0.0),
            }
        ):
            await supervisor.run(announce)


def longest_end_s(settings: ServerSettings) -> float:
    """Seconds that a worker may take to end: for requests under way, a batch, and the rest."""
    return 2 * settings.drain_timeout_s + END_S


def _begin(
    loaded: LoadedSettings,
    listener: socket.socket,
    plan: WorkerPlan,
    engines: socket.socket | None,
) -> Begin:
    host, port = listener.getsockname()[:2]
    return Begin(
        settings=loaded.settings,
        directory=str(loaded.directory),
        host=host,
        port=port,
        plan=plan,
        service=new_consumer(),
        engines=None if engines is None else engines.fileno(),
    )
