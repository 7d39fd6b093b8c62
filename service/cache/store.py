"""Bytes under keys, shared by all replicas: what lies below everything else in the cache.

A store makes a caller slower, never wrong and never fail: no method raises,
each is bounded in time, and every failure leaves a count. What comes back
under a key should be what was put there, but a value must say itself which
key it belongs to: nothing below can prove that.
"""

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec
from msgspec import Struct

from service.breaker import BreakerState

StoreOutcome = Literal["ok", "error", "open"]
"""error: a server failed or was too slow; open: it was left alone, as it keeps failing or has
fallen silent."""


class Fetched(Struct, frozen=True):
    """What the store knows of some keys."""

    outcome: StoreOutcome
    values: tuple[bytes | None, ...]
    """One per key, in the order of the keys; None: nothing there, or not known.

    After an error of one node of a cluster, what the others hold is still here."""


class StoredEntry(Struct, frozen=True):
    """Bytes to keep under a key for a while."""

    key: str
    value: bytes
    ttl_s: float
    """More than 0."""


class StoreCounters(Struct, frozen=True, kw_only=True):
    """What became of calls since the start. `errors` are of lookups."""

    lookups: int = 0
    """Calls of `get` that were answered in full."""
    errors: int = 0
    """Calls of `get` that failed in part or in whole, those that took too long included."""
    timeouts: int = 0
    """Errors because no answer came within the cache timeout, or the caller's."""
    left_alone: int = 0
    """Calls of `get` that asked nobody: the breaker was open, or the server in doubt."""
    wrong_types: int = 0
    """Keys under which something else than bytes was kept; they count as nothing there."""
    writes: int = 0
    """Entries written."""
    write_errors: int = 0
    """Entries that a server refused or that got no answer."""
    writes_skipped: int = 0
    """Entries dropped unsent: the server was left alone, refuses them, or too many were under
    way."""
    lock_errors: int = 0
    """Locks of which it is not known whether they were given."""
    lost_connections: int = 0
    """Connections given up because of what came, or did not come, over them."""


class StoreStatus(Struct, frozen=True, kw_only=True):
    """How the store is, for health and metrics."""

    state: Literal["connected", "degraded"]
    breaker: BreakerState = "closed"
    breaker_opened: int = 0
    """How often the breaker has opened."""
    problem: str | None = None
    """Why it is degraded; never a password."""
    writes_problem: str | None = None
    """Why entries are not sent to a server that answers lookups; None: they are."""
    writes_opened: int = 0
    """How often it began that they are not."""
    client: str = "memory"
    """What talks to the servers: lean, redis-py, memory."""
    under_way: int = 0
    """Calls that hold a connection or wait for a reply now; 0 when nobody calls."""
    counters: StoreCounters = msgspec.field(default_factory=StoreCounters)


class ScoreStore(Protocol):
    """Where entries live. Used from one event loop. Cancelling a call disturbs no other call."""

    @property
    def epoch(self) -> int:
        """The purge epoch that new keys belong to, at most half a second old while connected. It
        never goes back, whatever the server has lost."""
        ...

    async def start(self) -> None:
        """Look at the servers once, and from then on in the background. Never fails."""
        ...

    async def stop(self) -> None:
        """Stop looking, and close the connections."""
        ...

    def turns_away(self) -> bool:
        """Whether nothing is asked now, as the servers keep failing: a lookup that was not made."""
        ...

    async def get(self, keys: Sequence[str], *, timeout_s: float = math.inf) -> Fetched:
        """Read values, in one round trip per node.

        Args:
            keys: Distinct; none is fine.
            timeout_s: Longest that the caller can wait, if that is less than the cache
                timeout. Bound a call here and not by cancelling it: a cancelled call
                says nothing about the server, one that took too long does.
        """
        ...

    async def put(self, entries: Sequence[StoredEntry]) -> None:
        """Keep values; may drop them. Call it after the reply: nobody should wait for it."""
        ...

    async def lock(self, key: str, ttl_s: float) -> bool | None:
        """Take a lock that ends by itself after `ttl_s`: True if it is ours, None if not known.

        It keeps work from being done twice, no more: two can believe they hold it when
        servers fail over.
        """
        ...

    async def unlock(self, key: str) -> None:
        """Give a lock back early, if it is still ours."""
        ...

    def status(self) -> StoreStatus:
        """How the store is, from what its calls have met; asks nobody."""
        ...
