"""Exposures, impressions and clicks: their parts, built and started together."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec import Struct

from service.clock import Clock
from service.events.aggregation import Aggregator
from service.events.event_log import EventLog
from service.events.exposures import StreamExposureSink
from service.events.force_tokens import ForceTokens
from service.events.intake import EventIntake
from service.events.signing import load_signing_keys
from service.events.slates import SlateIds
from service.events.spool import Spool
from service.events.statistics import ReadStatistics
from service.events.stream import EventStream
from service.events.tokens import ExposureTokens
from service.settings import EventSettings, RedisSettings
from service.stores import address_of, events_client, events_server_problems
from service.telemetry import Telemetry

_log = logging.getLogger(__name__)


class Feedback(Struct, frozen=True, kw_only=True):
    """Everything about exposures, impressions and clicks."""

    tokens: ExposureTokens
    force_tokens: ForceTokens
    slates: SlateIds
    log: EventLog
    intake: EventIntake
    sink: StreamExposureSink
    aggregator: Aggregator
    statistics: ReadStatistics


@asynccontextmanager
async def open_feedback(
    url: str,
    *,
    redis: RedisSettings,
    settings: EventSettings,
    directory: Path,
    telemetry: Telemetry,
    clock: Clock,
    consumer: str | None = None,
) -> AsyncIterator[Feedback]:
    """Everything about feedback, started; stopped in reverse order, with nothing lost.

    Args:
        url: The event server.
        redis: How to connect.
        settings: Tokens, limits, time-outs.
        directory: The state directory, for the signing key and the spool.
        telemetry: Told of the calls.
        clock: The service's.
        consumer: As `Aggregator` takes it.

    Raises:
        StartupError: a key or the URL cannot be used.
    """
    keys = load_signing_keys(settings, directory)
    tokens, slates = ExposureTokens(keys), SlateIds(keys)
    client = events_client(url, redis, settings)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(client)
        for problem in await events_server_problems(client):
            _log.warning("%s", problem)
        spool = Spool(directory / "spool", settings.max_spool_mb * 1024 * 1024, clock)
        address, port, database = address_of(client)
        calls = telemetry.store("events", address=address, port=port, database=database)
        log = EventLog(EventStream(client, settings, calls.call), spool, clock)
        sink = StreamExposureSink(log)
        aggregator = Aggregator(client, settings, clock, consumer=consumer)
        for part in (log, sink, aggregator):
            await part.start()
            stack.push_async_callback(part.stop)
        yield Feedback(
            tokens=tokens,
            force_tokens=ForceTokens(keys),
            slates=slates,
            log=log,
            intake=EventIntake(log, tokens, slates, settings, clock),
            sink=sink,
            aggregator=aggregator,
            statistics=ReadStatistics(client, settings),
        )
