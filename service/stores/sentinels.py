"""Sentinels, asked one after the other who the master is.

redis-py's own way gives up at the first that talks nonsense, makes no new
connection while none answers, although the master may be well, and describes
its objects in messages.
"""

from typing import Any, cast

from redis.asyncio import Redis, Sentinel
from redis.asyncio.sentinel import MasterNotFoundError, SentinelConnectionPool

Address = tuple[str, int]


class Sentinels(Sentinel):
    """Any of them is believed; the one that told comes first the next time."""

    async def discover_master(self, service_name: str) -> Address:
        """Where the master is.

        Raises:
            MasterNotFoundError: no sentinel names one; with what was wrong with each.
        """
        problems = []
        for place, sentinel in enumerate(self.sentinels):
            try:
                masters = cast(dict[str, dict[str, Any]], await sentinel.sentinel_masters())
                state = masters.get(service_name)
            except Exception as problem:  # whatever redis-py raises at nonsense
                problems.append(f"{_place(sentinel)}: {type(problem).__name__}: {problem}")
                continue
            if state is not None and self.check_master_state(state, service_name):
                self.sentinels[0], self.sentinels[place] = sentinel, self.sentinels[0]
                return str(state["ip"]), int(state["port"])
            problems.append(f"{_place(sentinel)} knows none that is up")
        raise MasterNotFoundError(f"no master called {service_name}: {'; '.join(problems)}")


class MasterPool(SentinelConnectionPool):
    """Connections to whatever sentinels say is the master; closes those to sentinels as well.

    While none of them says anything, the last that they named is the master: it
    may be well, and if it is not, connections to it fail like any others.
    """

    sentinel_manager: Sentinel
    master_address: Address | None

    async def get_master_address(self) -> Address:
        try:
            address: Address = await super().get_master_address()  # type: ignore[no-untyped-call]
        except MasterNotFoundError:
            if self.master_address is None:
                raise
            return self.master_address
        return address

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


def _place(sentinel: Redis) -> str:
    options = sentinel.connection_pool.connection_kwargs
    return f"{options['host']}:{options['port']}"
