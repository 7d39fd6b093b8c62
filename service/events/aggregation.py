"""Adds up the stream, each entry exactly once, whoever crashes.

The sums live on the server that holds the stream, and one script both
acknowledges an entry and adds it: an entry is pending and not added, or
acknowledged and added, and never anything between. So any number of processes
may aggregate, die in the middle, and be sent the same entries again.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from math import ceil
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from experiments.events import Event, Exposure, arms_of
from experiments.variant_statistics import CAPPED, increments, is_click
from service.clock import Clock
from service.events import scripts
from service.events.names import (
    COUNTS,
    FIELD,
    GROUP,
    STREAM,
    clicks_key,
    moved_key,
    statistics_key,
    unit_key,
)
from service.settings import EventSettings

BATCH = 250
"""Entries in one step; the script holds up the server for some 5 ms."""
BLOCK_S = 0.5
"""Longest a read waits for entries, and so `stop` for a read."""
TIDY_S = 5.0
"""Between looks for entries of consumers that died, and trims of the stream."""
ADOPT_AFTER_S = 10.0
"""Entries that nobody acknowledged for so long are taken over. Too early only costs work."""
FORGET_AFTER_S = 3600.0
"""A consumer that is silent for so long, with nothing pending, is forgotten."""
RETRY_S = 0.5
STALLED_S = 30.0
"""A step that takes longer hangs: its calls have time-outs of seconds."""

_EVENT: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)
_log = logging.getLogger(__name__)

Entries = list[tuple[bytes, dict[bytes, bytes] | None]]
"""Stream id and fields; None for an entry that was deleted from the stream."""


class AggregationCounts(Struct):
    """What this process did since the start."""

    applied: int = 0
    """Entries added up."""
    adopted: int = 0
    """Of consumers that were silent."""
    unreadable: int = 0
    """Entries that this release cannot read: acknowledged, counted, and not added up."""
    failures: int = 0
    """Steps that the server refused or did not answer."""


class Aggregator:
    """One consumer of the group. For one event loop; `start` before, `stop` after use."""

    def __init__(
        self,
        client: Redis,
        settings: EventSettings,
        clock: Clock,
        *,
        consumer: str | None = None,
        adopt_after_s: float = ADOPT_AFTER_S,
        tidy_s: float = TIDY_S,
    ) -> None:
        """Prepare.

        Args:
            client: Of the event server.
            settings: Time-outs, lifetimes, and the cap of clicks.
            clock: The service's.
            consumer: A name that no other process has now. Who takes the name of one that
                died is given what that one had not finished, at once; None for a new name.
            adopt_after_s: After how long a silent consumer's entries are taken over.
            tidy_s: Between looks for such entries.
        """
        self.counts = AggregationCounts()
        self.consumer = consumer or new_consumer()
        self._client = client
        self._clock = clock
        self._unit_ttl_s = ceil(settings.unit_ttl_s)
        self._max_clicks = settings.max_clicks_per_unit
        # A blocking read must end before the client gives up on it.
        self._block_ms = ceil(min(BLOCK_S, settings.timeout_s / 2) * 1000)
        self._adopt_after_ms = ceil(adopt_after_s * 1000)
        self._tidy_s = tidy_s
        self._tidy_at = clock.now()
        self._apply_script = client.register_script(scripts.APPLY)
        self._tidy_script = client.register_script(scripts.TIDY)
        self._has_unfinished = True
        self._last_error: str | None = None
        self._stepped_at = clock.now()
        self._stopping = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str | None:
        """Why nothing is added up now; None while all is well."""
        if self._last_error is not None:
            return self._last_error
        if self._worker is not None and self._worker.done():
            return "the aggregator has ended"
        silent_s = self._clock.now() - self._stepped_at
        return f"no step for {silent_s:.0f} s" if silent_s > STALLED_S else None

    async def start(self) -> None:
        """Begin to aggregate; a server that is away is waited for."""
        self._worker = asyncio.create_task(self._work(), name="aggregator")

    async def stop(self) -> None:
        """Finish the step under way; the rest of the stream waits for the next process."""
        self._stopping.set()
        if self._worker is not None:
            await self._worker

    async def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._step()
                self._last_error = None
            except (RedisError, OSError) as failure:
                await self._recover(failure)
            self._stepped_at = self._clock.now()

    async def _step(self) -> None:
        if self._clock.now() >= self._tidy_at:
            await self._adopt()
            await self._tidy_script([STREAM], [GROUP, ceil(FORGET_AFTER_S * 1000)])
            self._tidy_at = self._clock.now() + self._tidy_s
        entries = await self._read()
        await self._apply(entries)
        if not entries:
            self._has_unfinished = False

    async def _recover(self, failure: Exception) -> None:
        # A step without an answer may have been taken: what it read is pending
        # for us if not, so that is read again first.
        self._has_unfinished = True
        if isinstance(failure, ResponseError) and _group_is_missing(failure):
            with contextlib.suppress(RedisError, OSError):
                await self._create_group()
                return
        self.counts.failures += 1
        if self._last_error is None:  # once, not twice a second while it lasts
            _log.warning("events are not added up: %s", failure)
        self._last_error = str(failure) or type(failure).__name__
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), RETRY_S)

    async def _create_group(self) -> None:
        """From the first entry that there is; also when the server lost all it had."""
        try:
            await self._client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as failure:
            if not str(failure).startswith("BUSYGROUP"):  # another process was faster
                raise

    async def _read(self) -> Entries:
        """Entries that are pending for us, and when there are none new ones."""
        since, block = ("0", None) if self._has_unfinished else (">", self._block_ms)
        reply: Any = await self._client.xreadgroup(
            GROUP, self.consumer, {STREAM: since}, count=BATCH, block=block
        )
        return reply[0][1] if reply else []

    async def _adopt(self) -> None:
        """Take over what consumers that died were given."""
        cursor = b"0-0"
        while True:
            reply: Any = await self._client.xautoclaim(
                STREAM, GROUP, self.consumer, self._adopt_after_ms, cursor, count=BATCH
            )
            cursor, entries = reply[0], reply[1]
            self.counts.adopted += await self._apply(entries)
            if cursor == b"0-0":
                return

    async def _apply(self, entries: Entries) -> int:
        """Acknowledge and add up; how many of the entries were still to be added."""
        if not entries:
            return 0
        work = msgspec.json.encode([self._sums(*entry) for entry in entries])
        applied: int = await self._apply_script(
            [STREAM, COUNTS], [GROUP, self._unit_ttl_s, self._max_clicks, work]
        )
        self.counts.applied += applied
        return applied

    def _sums(self, entry_id: bytes, fields: dict[bytes, bytes] | None) -> Any:
        """What an entry adds, as `scripts.APPLY` takes it."""
        if not fields:  # trimmed while it was pending: nothing is left to add
            return entry_id.decode(), {}, ()
        try:
            return entry_id.decode(), {}, _arm_sums(_EVENT.decode(fields[FIELD]))
        except (msgspec.MsgspecError, KeyError, ValueError) as problem:
            # Another release's, or broken; it must not hold up the others for ever.
            self.counts.unreadable += 1
            _log.warning("entry %s of the event stream is unreadable: %s", entry_id, problem)
            return entry_id.decode(), {"unreadable": 1}, ()


def new_consumer() -> str:
    """A name that nobody had before."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def _arm_sums(
    event: Event,
) -> list[tuple[str, dict[str, int], str, str, str, str, dict[str, int]]]:
    counts_units, may_be_capped = isinstance(event, Exposure), is_click(event)
    return [
        (
            statistics_key(arm.experiment, arm.phase, arm.variant),
            increments(event, arm),
            unit_key(arm) if counts_units else "",
            moved_key(arm),
            arm.variant,
            clicks_key(arm) if may_be_capped else "",
            CAPPED,
        )
        for arm in arms_of(event)
    ]


def _group_is_missing(failure: ResponseError) -> bool:
    text = str(failure)
    return text.startswith("NOGROUP") or "no such key" in text
