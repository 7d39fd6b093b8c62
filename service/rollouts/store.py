"""Standings and the audit log on the event server.

    podium:standings          hash: experiment to its standing, as JSON
    podium:standings:version  a new random word with every change of the hash
    podium:audit:<experiment> stream: its decisions, oldest first, as JSON in the field ``d``

The audit log is never trimmed and has no time to live. Of standings there are
at most `MOST_STANDINGS`: those that no file names any more are forgotten first,
and are found again in the audit log when their experiment comes back.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from experiments.decisions import DecisionRecord
from experiments.standing import Standing
from service.errors import StoreUnavailable
from service.settings import EventSettings

STANDINGS = "podium:standings"
VERSION = "podium:standings:version"
FIELD = b"d"
MOST_STANDINGS = 1_000

_CHANGE = """
-- Put a standing in place of the one that is known, and say so in the audit log.
-- KEYS: standings, version, audit log
-- ARGV: experiment, generation that must be there (0: none), new standing (empty: it stays),
--       version, record, then experiments whose standings are forgotten
-- Returns 1, or 0 where another generation is there: nothing was written.
local held = redis.call('HGET', KEYS[1], ARGV[1])
local generation = held and cjson.decode(held)['generation'] or 0
if generation ~= tonumber(ARGV[2]) then
  return 0
end
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
  redis.call('SET', KEYS[2], ARGV[4])
end
for i = 6, #ARGV do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
redis.call('XADD', KEYS[3], '*', 'd', ARGV[5])
return 1
"""

_standing = msgspec.json.Decoder(Standing)
_record = msgspec.json.Decoder(DecisionRecord)


class Standings(Struct, frozen=True, kw_only=True):
    """Everything that the server held at one moment."""

    version: bytes | None
    """Equal versions hold equal standings; None: nothing was ever written."""
    by_key: Mapping[str, Standing]


class StandingStore:
    """Reads and changes standings. For one event loop.

    Args:
        client: Of the event server.
        settings: For the time-out of one call.
    """

    def __init__(self, client: Redis, settings: EventSettings) -> None:
        self._client = client
        self._timeout_s = settings.timeout_s
        self._change = client.register_script(_CHANGE)

    async def version(self) -> bytes | None:
        """What changes with every change; one small read.

        Raises:
            StoreUnavailable: the server does not answer.
        """
        async with self._answer():
            version: Any = await self._client.get(VERSION)
        return None if version is None else bytes(version)

    async def read(self) -> Standings:
        """All standings.

        Raises:
            StoreUnavailable: the server does not answer, or holds what this release cannot read.
        """
        pipeline = self._client.pipeline(transaction=True)
        pipeline.get(VERSION)
        pipeline.hgetall(STANDINGS)
        async with self._answer():
            version, held = await pipeline.execute()
            by_key = {key.decode(): _standing.decode(text) for key, text in held.items()}
        return Standings(version=version, by_key=by_key)

    async def standing(self, key: str) -> Standing | None:
        """The standing of one experiment; None if there is none.

        Raises:
            StoreUnavailable: as `read`.
        """
        async with self._answer():
            held: Any = await self._client.hget(STANDINGS, key)
            return None if held is None else _standing.decode(held)

    async def write(
        self, record: DecisionRecord, *, generation: int, forget: Collection[str] = ()
    ) -> bool:
        """Make a change and its record one step; both are durable when this returns.

        Args:
            record: The decision. Its `after` is put in force unless it equals its `before`.
            generation: What must be in force, for the change not to undo another; 0: nothing.
            forget: Experiments whose standings are dropped.

        Returns:
            Whether it was written; else another change came before it.

        Raises:
            StoreUnavailable: whether it was made is not known.
        """
        stays = record.after is None or record.after == record.before
        standing = b"" if stays else msgspec.json.encode(record.after)
        text = msgspec.json.encode(record)
        keys = [STANDINGS, VERSION, audit_key(record.key)]
        values: list[str | int | bytes] = [
            record.key,
            generation,
            standing,
            secrets.token_hex(16),
            text,
            *forget,
        ]
        async with self._answer():
            return bool(await self._change(keys, values))

    async def decisions(self, key: str, limit: int) -> tuple[DecisionRecord, ...]:
        """The last decisions about an experiment, newest first.

        Raises:
            StoreUnavailable: as `read`.
        """
        async with self._answer():
            entries: Any = await self._client.xrevrange(audit_key(key), count=limit)
            return tuple(_record.decode(fields[FIELD]) for _, fields in entries)

    @asynccontextmanager
    async def _answer(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (RedisError, OSError, TimeoutError) as failure:
            raise StoreUnavailable(
                f"the event server does not answer ({type(failure).__name__})"
            ) from failure
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError) as failure:
            raise StoreUnavailable(
                f"the event server holds a standing that this release cannot read: {failure}"
            ) from failure


def audit_key(experiment: str) -> str:
    return f"podium:audit:{experiment}"
