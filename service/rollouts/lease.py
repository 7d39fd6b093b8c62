"""One leader among all workers and replicas, by a lease on the event server.

The lease only saves work: a leader that was paused longer than its lease lasts may
still act on what it knew. What keeps that harmless is the generation that every change
names: one that was decided upon an older standing is refused.
"""

import secrets
from math import ceil

from redis.asyncio import Redis
from redis.exceptions import RedisError

LEASE = "podium:rollouts:leader"

_RENEW = """
-- Take the lease if nobody has it, or keep it if it is ours.
-- KEYS: lease
-- ARGV: our token, milliseconds
-- Returns 1 if it is ours now.
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

_GIVE_UP = """
-- Let go of the lease if it is ours.
-- KEYS: lease
-- ARGV: our token
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""


class Lease:
    """The right to judge rollouts. For one event loop.

    Args:
        client: Of the event server, with time-outs.
        lasts_s: How long it holds after it was taken or renewed.
    """

    def __init__(self, client: Redis, *, lasts_s: float) -> None:
        self._lasts_ms = ceil(lasts_s * 1000)
        self._token = secrets.token_hex(16)
        self._renew = client.register_script(_RENEW)
        self._give_up = client.register_script(_GIVE_UP)

    async def held(self) -> bool:
        """Take or renew it; False where another process has it, or the server does not answer."""
        try:
            return bool(await self._renew([LEASE], [self._token, self._lasts_ms]))
        except (RedisError, OSError):
            return False

    async def give_up(self) -> None:
        """Let others have it at once; without an answer it runs out by itself."""
        try:
            await self._give_up([LEASE], [self._token])
        except (RedisError, OSError):
            return
