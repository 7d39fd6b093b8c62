"""One process of many: it loads the model once, then fills one chunk of pages after another."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from service.bulk.chunks import Chunk, ChunkDone
from service.bulk.desk import Desk
from service.bulk.parts import warming_parts
from service.errors import RankingError
from service.settings import LoadedSettings, Settings
from service.warming.values import MOST_PAGES, WarmReply, WarmRequest
from service.warming.warmer import Warmer


class Order(Struct, frozen=True, kw_only=True):
    """What a filler is to do, as it goes to another process."""

    settings: Settings
    directory: str
    """From which the settings' relative paths start, on every machine."""
    wanted: WarmRequest
    """Which pages, and how many of them a second for this one process."""

    def encode(self) -> bytes:
        return msgspec.json.encode(self)


class Filler:
    """Callable by Ray Data: a row with a task's number in, a row with how its chunk went out."""

    def __init__(self, order: bytes, desk: Desk) -> None:
        """Load the models of an order; the desk says what to fill."""
        self._desk = desk
        self._order = msgspec.json.decode(order, type=Order)
        loaded = LoadedSettings(
            settings=self._order.settings, directory=Path(self._order.directory)
        )
        self._loop = asyncio.new_event_loop()
        # Ends with the process, which is killed when nobody needs it any more.
        self._stack = AsyncExitStack()
        self._parts = self._loop.run_until_complete(
            self._stack.enter_async_context(warming_parts(loaded))
        )

    def __call__(self, row: Mapping[str, Any]) -> dict[str, bytes | str]:
        """Nothing comes out for a task that was not needed, or whose chunk another has done."""
        chunk = self._desk.take(int(row["task"]))
        if chunk is None:
            return _row()
        filling = fill(self._parts.warmer, self._order.wanted, chunk)
        try:
            done = self._loop.run_until_complete(filling)
        except RankingError as refusal:
            # Told, not raised: Ray would wrap it in pages of its own words.
            return _row() if self._desk.is_over(chunk) else _row(failed=str(refusal))
        self._desk.ended(chunk)
        return _row(done=msgspec.json.encode(done))

    def close(self) -> None:
        """Give everything back, where the process lives on."""
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.close()


def _row(*, done: bytes = b"", failed: str = "") -> dict[str, bytes | str]:
    return {"done": done, "failed": failed}


async def fill(warmer: Warmer, wanted: WarmRequest, chunk: Chunk) -> ChunkDone:
    """Every page of a chunk computed and kept, or found to be there.

    Raises:
        InvalidRequest, CacheOff, CacheUnavailable: as the warmer.
    """
    place, replies = chunk.first, list[WarmReply]()
    while place < chunk.end:
        step = msgspec.structs.replace(
            wanted, top=chunk.end, first=place, pages=min(MOST_PAGES, chunk.end - place)
        )
        replies.append(await warmer.warm(step, noting=False))
        place = replies[-1].next
    return ChunkDone(
        chunk=chunk,
        epoch=replies[0].epoch,
        # Of an epoch that began meanwhile, what was done before is gone.
        last_epoch=replies[-1].epoch,
        model=replies[-1].model,
        computed=sum(reply.computed for reply in replies),
        cached=sum(reply.cached for reply in replies),
        empty=sum(reply.empty for reply in replies),
        failed=sum(reply.failed for reply in replies),
        waited_s=sum(reply.waited_s for reply in replies),
    )
