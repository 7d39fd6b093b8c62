"""A long list of pages cut into tasks, and how far tasks in any order have got. Pure."""

from collections.abc import Iterator

import msgspec
from msgspec import Struct

from service.messages import ModelRef
from service.warming.values import WarmReply


class Chunk(Struct, frozen=True):
    """Places of the popularity order: one task."""

    first: int
    end: int


class ChunkDone(Struct, frozen=True, kw_only=True):
    """A task that has ended."""

    chunk: Chunk
    epoch: int
    """When it began."""
    last_epoch: int
    """When it ended."""
    model: ModelRef
    computed: int
    cached: int
    empty: int
    failed: int
    waited_s: float


def chunks(first: int, end: int, size: int) -> Iterator[Chunk]:
    """Every place from `first` up to `end` in exactly one task, the most popular first."""
    for begin in range(first, end, size):
        yield Chunk(begin, min(begin + size, end))


class Progress:
    """Adds up tasks, each once, however often it was run; knows from where to go on.

    `reply.next` is the place before which every page is done: a gap stays a gap
    until its task has ended, so that who resumes there leaves nothing out.
    """

    def __init__(self, beginning: WarmReply) -> None:
        """Begin with a reply that has done nothing yet."""
        self._reply = beginning
        self._ahead: dict[int, int] = {}
        self._seen: set[int] = set()

    @property
    def reply(self) -> WarmReply:
        return self._reply

    def add(self, done: ChunkDone) -> None:
        if done.chunk.first in self._seen:
            return
        self._seen.add(done.chunk.first)
        self._ahead[done.chunk.first] = done.chunk.end
        reply, reached = self._reply, self._reply.next
        while reached in self._ahead:
            reached = self._ahead.pop(reached)
        self._reply = msgspec.structs.replace(
            reply,
            next=reached,
            computed=reply.computed + done.computed,
            cached=reply.cached + done.cached,
            empty=reply.empty + done.empty,
            failed=reply.failed + done.failed,
            waited_s=reply.waited_s + done.waited_s,
        )
