"""A link to a Redis Cluster: keys go to the nodes that own their slots, all nodes in parallel.

Our own, on one redis-py client per node, and not redis-py's cluster client:
that one learns of a failover within the call that met it, over connections
that may take longer than the call has. Here a call follows MOVED and ASK while
it has time, and looks, which nobody waits for, learn who owns what. A node
that keeps failing is left alone by itself; the keys of all others are answered.

The purge epoch has its slot like every key: while the owner of that slot is
gone nobody can tell what was purged, and the store above leaves all alone.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, MovedError, ResponseError

from service.breaker import Breaker
from service.cache.keys import EPOCH_KEY
from service.cache.link import (
    EPOCH,
    PROOFS,
    Command,
    NodeFailed,
    NodeTimedOut,
    NoTurn,
    Read,
    epoch_in,
    read_of,
    words_of,
)
from service.cache.lookout import Lookout
from service.cache.losses import Losses
from service.cache.redis_store import RedisLine
from service.clock import Clock
from service.settings import CacheSettings, RedisSettings
from service.stores import StoreUrl, node_client

_REDIRECTS = 3
"""How often one call follows a key: a slot that is moving may have moved on."""
_LEARN_EVERY_S = 10.0
_SLOTS: Command = ("CLUSTER", "SLOTS")
_EPOCH_SLOT = key_slot(EPOCH_KEY.encode())

Address = tuple[str, int]


class _Node:
    """One server of the cluster, and whether it is worth asking."""

    def __init__(
        self, address: Address, line: RedisLine, breaker: Breaker, *, limit: int, timeout_s: float
    ) -> None:
        self.address = address
        self.line = line
        self.breaker = breaker
        self.losses = Losses(breaker, limit)
        self.lookout = Lookout(timeout_s, self._fell_silent)
        self.is_silent = False

    @property
    def is_left_alone(self) -> bool:
        return self.breaker.is_open or self.is_silent

    def answered(self) -> None:
        """A call was."""
        self.is_silent = False
        self.losses.answered()

    def proved(self) -> None:
        """It answers again."""
        self.is_silent = False
        self.breaker.succeeded()

    def _fell_silent(self) -> None:
        self.is_silent = True  # until the next look finds that it answers


class _Errand:
    """One command and where it goes next; `asking` if the slot is only moving there."""

    __slots__ = ("asking", "command", "node", "place", "slot")

    def __init__(self, place: int, command: Command, slot: int, node: _Node) -> None:
        self.place, self.command, self.slot, self.node = place, command, slot, node
        self.asking = False


class ClusterLink:
    """Routes commands by the slot of their key, the second word."""

    name = "redis-py"

    def __init__(
        self,
        url: StoreUrl,
        *,
        cache: CacheSettings,
        redis: RedisSettings,
        clock: Clock,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is opened before the first look."""
        self._url = url
        self._cache = cache
        self._redis = redis
        self._clock = clock
        self._jitter = jitter
        self._nodes: dict[Address, _Node] = {}
        self._owners: dict[int, _Node] = {}
        self._seeds = [self._node(address) for address in url.hosts]
        self._learn_at = float("-inf")
        self._lost_before = 0

    @property
    def under_way(self) -> int:
        return sum(node.line.under_way for node in self._nodes.values())

    @property
    def writes_at_once(self) -> int:
        """As of each node: more than one of them may take."""
        return self._seeds[0].line.writes_at_once

    @property
    def lost(self) -> int:
        return self._lost_before + sum(node.line.lost for node in self._nodes.values())

    async def read(self, keys: Sequence[str], bound_s: float) -> Read:
        return read_of(await self.run([("GET", key) for key in keys], bound_s))

    async def run(self, commands: Sequence[Command], bound_s: float) -> list[object]:
        """The replies; of a node that fails, or is left alone, each is an exception."""
        loop = asyncio.get_running_loop()
        end = loop.time() + bound_s
        replies: list[object] = [None] * len(commands)
        errands = []
        for place, command in enumerate(commands):
            slot = key_slot(str(command[1]).encode())
            if (node := self._owners.get(slot)) is not None:
                errands.append(_Errand(place, command, slot, node))
            else:
                replies[place] = NodeFailed("nobody owns a slot of the cluster")
                self._learn_at = float("-inf")
        for _ in range(1 + _REDIRECTS):
            await self._send(errands, replies, end - loop.time())
            errands = [errand for errand in errands if self._follow(errand, replies[errand.place])]
            if not errands or loop.time() >= end:
                break
        return replies

    async def look(self, bound_s: float) -> bytes | None:
        """The purge epoch; learns who owns what if that may have changed."""
        if not self._owners:
            await self._learn(bound_s)
        # First of all: the owner of the epoch may be among those.
        await asyncio.gather(*(self._probe(node, bound_s) for node in self._left_alone()))
        learning = self._learn_if_due(bound_s)
        replies, _ = await asyncio.gather(self.run([EPOCH], bound_s), learning)
        return epoch_in(replies[0])

    async def prove(self, bound_s: float) -> None:
        """See whether the purge epoch can be read in the time of a lookup; nodes prove themselves
        in looks."""
        await self.look(bound_s)

    async def close(self) -> None:
        for node in self._nodes.values():
            await node.line.close()

    # --- one call -----------------------------------------------------------------------

    async def _send(
        self, errands: Sequence[_Errand], replies: list[object], bound_s: float
    ) -> None:
        parts: defaultdict[_Node, list[_Errand]] = defaultdict(list)
        for errand in errands:
            parts[errand.node].append(errand)
        asked = [self._ask(node, part, bound_s) for node, part in parts.items()]
        answers = [await asked[0]] if len(asked) == 1 else await asyncio.gather(*asked)
        for part, answer in zip(parts.values(), answers, strict=True):
            for errand, reply in zip(part, answer, strict=True):
                replies[errand.place] = reply

    async def _ask(
        self, node: _Node, errands: Sequence[_Errand], bound_s: float
    ) -> Sequence[object]:
        if node.is_left_alone:
            self._learn_at = float("-inf")  # somebody else may own its slots by now
            return [NodeFailed("the node keeps failing")] * len(errands)
        commands = list(chain.from_iterable(_words(errand) for errand in errands))
        began, answered = self._clock.now(), False
        node.lookout.begins()
        try:
            replies = iter(await node.line.run(commands, bound_s))
            answered = True
        except Exception as problem:  # whatever a client library may raise
            self._note_failure(node, problem, began, bound_s)
            kind = NodeTimedOut if isinstance(problem, TimeoutError) else NodeFailed
            return [kind(words_of(problem))] * len(errands)
        finally:
            node.lookout.ends(answered=answered)
        node.answered()
        return [_last(replies, errand) for errand in errands]

    def _follow(self, errand: _Errand, reply: object) -> bool:
        """Whether the reply sends the command elsewhere; it is then ready to go there."""
        if not isinstance(reply, AskError):  # MOVED is an ASK to redis-py
            return False
        errand.asking = not isinstance(reply, MovedError)
        errand.node = self._node((reply.host or errand.node.address[0], reply.port))
        if not errand.asking:
            self._owners[errand.slot] = errand.node
            self._learn_at = float("-inf")
        return True

    def _note_failure(self, node: _Node, problem: Exception, began: float, bound_s: float) -> None:
        hurried = isinstance(problem, TimeoutError) and bound_s < self._cache.timeout_s / 4
        if isinstance(problem, NoTurn) or hurried:
            return
        node.losses.lost(started=began, now=self._clock.now())
        self._learn_at = float("-inf")

    # --- what is known of the cluster ---------------------------------------------------

    def _node(self, address: Address) -> _Node:
        node = self._nodes.get(address)
        if node is None:
            client = node_client(self._url, *address, self._redis)
            breaker = Breaker(
                failures=self._cache.breaker_failures,
                probe_s=self._cache.breaker_probe_s,
                jitter=self._jitter,
            )
            line = RedisLine(client, pool_size=self._redis.pool_size)
            limit, timeout_s = self._cache.breaker_failures, self._cache.timeout_s
            node = _Node(address, line, breaker, limit=limit, timeout_s=timeout_s)
            self._nodes[address] = node
        return node

    def _left_alone(self) -> list[_Node]:
        """Those to look at: when their time has come, the owner of the epoch whenever asked."""
        now = self._clock.now()
        first = self._owners.get(_EPOCH_SLOT)
        alone = (node for node in self._nodes.values() if node.is_left_alone)
        return [node for node in alone if node.breaker.admits(now) or node is first]

    async def _probe(self, node: _Node, bound_s: float) -> None:
        began, bound_s = self._clock.now(), min(bound_s, self._cache.timeout_s)
        try:
            # MOVED is an answer too, and here one of many.
            await node.line.run([EPOCH] * PROOFS, bound_s)
        except Exception:
            node.losses.lost(started=began, now=self._clock.now())
            return
        node.proved()

    async def _learn_if_due(self, bound_s: float) -> None:
        if self._clock.now() < self._learn_at:
            return
        try:
            await self._learn(bound_s)
        except Exception:
            return  # what is known stays, and the next look tries again

    async def _learn(self, bound_s: float) -> None:
        """Ask for the owners, one node after the other; those that keep failing last.

        Raises:
            Exception: no node tells; of the last one asked.
        """
        failure: Exception = ConnectionError("no node of the cluster is known")
        nodes = sorted(self._nodes.values(), key=lambda node: node.breaker.failures_in_a_row)
        for node in nodes[:3]:
            try:
                (slots,) = await node.line.run([_SLOTS], bound_s / 3)
                if isinstance(slots, Exception):
                    raise slots
                self._owners = dict(self._owned(slots, node.address[0]))
            except Exception as problem:
                node.breaker.failed(started=self._clock.now(), now=self._clock.now())
                failure = problem
            else:
                self._learn_at = self._clock.now() + _LEARN_EVERY_S
                await self._forget()
                return
        raise failure

    def _owned(self, slots: object, asked_host: str) -> Iterator[tuple[int, _Node]]:
        """Slot and owner, out of the reply to CLUSTER SLOTS.

        Raises:
            ResponseError: it is not like that.
        """
        try:
            for first, last, (host, port, *_), *_ in slots:  # type: ignore[attr-defined]
                node = self._node((host.decode() if host else asked_host, int(port)))
                yield from ((slot, node) for slot in range(first, min(last, _LAST_SLOT) + 1))
        except (TypeError, ValueError, AttributeError) as problem:
            raise ResponseError("CLUSTER SLOTS was answered with something else") from problem

    async def _forget(self) -> None:
        """Close what leads to nodes that own nothing any more."""
        in_use = {*self._owners.values(), *self._seeds}
        for node in [*self._nodes.values()]:
            if node not in in_use and not node.line.under_way:
                del self._nodes[node.address]
                self._lost_before += node.line.lost
                await node.line.close()


_LAST_SLOT = REDIS_CLUSTER_HASH_SLOTS - 1


def _words(errand: _Errand) -> Iterator[Command]:
    if errand.asking:
        yield ("ASKING",)
    yield errand.command


def _last(replies: Iterator[object], errand: _Errand) -> object:
    if errand.asking:
        next(replies)
    return next(replies)
