"""The event server, as far as appending goes: what returns is durable there."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from enum import IntEnum
from math import ceil

from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.events import scripts
from service.events.batches import FeedbackBatch, ObservationBatch
from service.events.names import COUNTS, STREAM, batch_key, event_key, slate_key
from service.settings import EventSettings


class Fate(IntEnum):
    """What the store knew of an event, as `scripts.KEEP_FEEDBACK` tells it."""

    NEW = 0
    EVENT_SEEN = 1
    SLATE_SEEN = 2


class EventServerFailed(Exception):
    """The event server refused, or did not answer: whether the batch is in is not known."""


Watch = Callable[[str, int], AbstractContextManager[object]]
"""A context around one call, such as `StoreCalls.call`: the operation, and how many commands."""


class EventStream:
    """Appends to the stream. Batches can be sent again to the same effect as once."""

    def __init__(
        self, client: Redis, settings: EventSettings, watch: Watch = lambda *_: nullcontext()
    ) -> None:
        self._client = client
        self._watch = watch
        self._timeout_s = settings.timeout_s
        self._remember_s = ceil(settings.token_ttl_s)
        self._keep_feedback = client.register_script(scripts.KEEP_FEEDBACK)
        self._keep_observations = client.register_script(scripts.KEEP_OBSERVATIONS)

    async def keep_feedback(self, batch: FeedbackBatch, *, duplicates: str) -> list[Fate]:
        """Append what is new.

        Args:
            batch: The events of a call.
            duplicates: The counter under which those that are not new are counted.

        Returns:
            One fate per event.

        Raises:
            EventServerFailed: the batch may or may not be in.
        """
        keys = [STREAM, COUNTS]
        values: list[str | bytes | int] = [self._remember_s, duplicates]
        for entry in batch.entries:
            keys += [event_key(entry.event_id), slate_key(entry.slate_id)]
            values += [entry.member, entry.counter, entry.event]
        async with self._answer("EVALSHA"):
            return [Fate(fate) for fate in await self._keep_feedback(keys, values)]

    async def keep_observations(
        self, batch: ObservationBatch, *, confirmed: Sequence[str] = ()
    ) -> None:
        """Append a batch unless it is in.

        Args:
            batch: What was observed.
            confirmed: Ids of batches that need no memory any more: nobody will send them again.

        Raises:
            EventServerFailed: the batch may or may not be in.
        """
        keys = [STREAM, COUNTS, batch_key(batch.batch_id), *map(batch_key, confirmed)]
        values: list[str | bytes | int] = [self._remember_s]
        for counter, entries in batch.by_counter():
            if entries:
                values += [counter, len(entries), *entries]
        async with self._answer("EVALSHA"):
            await self._keep_observations(keys, values)

    async def ping(self) -> None:
        """Return if the server answers.

        Raises:
            EventServerFailed: it does not.
        """
        async with self._answer("PING"):
            await self._client.ping()

    async def count(self, counts: Mapping[str, int]) -> None:
        """Add to the counters. With none it still writes, and so tells whether the server can.

        Raises:
            EventServerFailed: not, or perhaps not counted.
        """
        pipeline = self._client.pipeline(transaction=True)
        pipeline.hincrby(COUNTS, "accepted", 0)
        for name, n in counts.items():
            pipeline.hincrby(COUNTS, name, n)
        async with self._answer("MULTI HINCRBY", 1 + len(counts)):
            await pipeline.execute()

    @asynccontextmanager
    async def _answer(self, operation: str, commands: int = 1) -> AsyncIterator[None]:
        try:
            with self._watch(operation, commands):
                async with asyncio.timeout(self._timeout_s):
                    yield
        except (RedisError, OSError, TimeoutError) as error:
            raise EventServerFailed(f"{type(error).__name__}: {error}") from error
