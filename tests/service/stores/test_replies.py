import asyncio

import pytest
from redis.exceptions import InvalidResponse

from service.settings import RedisSettings
from service.stores import cache_client
from service.stores.replies import LARGEST_REPLY, ReplyBounds
from tests.support.huge_replies import HEADS, huge_reply

PATIENT = RedisSettings(connect_timeout_s=5.0)


@pytest.mark.parametrize(
    "chunks",
    [
        [b"*1000000\r\n"],
        [b"*99999\r\n" * 4, b"*99999\r\n" * 2],
        [b"*999\r\n" * 1000],
        [b"+OK\r\n*2\r\n*", b"99999999", b"\r\n"],
        [b"%3\r\n"],
        [b"~3\r\n"],
        [b">3\r\n"],
    ],
)
def test_replies_with_parts_by_the_million_or_of_another_protocol_are_refused(chunks):
    bounds = ReplyBounds()

    *first, last = [bounds.allow(chunk, held=held) for held, chunk in enumerate(chunks)]
    assert all(first)
    assert not last


@pytest.mark.parametrize(
    "data",
    [b"*1000\r\n$-1\r\n", b"*16384\r\n*3\r\n", b"$5\r\n%abcd\r\n", b"-ERR no\r\n", b":1\r\n"],
)
def test_replies_that_we_ask_for_are_read(data):
    assert ReplyBounds().allow(data, held=0)


def test_a_value_may_hold_any_byte_but_not_grow_for_ever():
    bounds = ReplyBounds()

    assert bounds.allow(b"%>~|", held=LARGEST_REPLY)
    assert not bounds.allow(b"x", held=LARGEST_REPLY + 1)


@pytest.mark.parametrize("head", HEADS)
async def test_redis_py_refuses_a_reply_that_would_fill_the_memory(tmp_path, head):
    server = await asyncio.start_unix_server(huge_reply(head), tmp_path / "s")
    async with server, cache_client(f"unix://{tmp_path / 's'}", PATIENT) as client:
        async with asyncio.timeout(10.0):
            with pytest.raises(InvalidResponse, match="nobody"):
                await client.get("a")


async def test_a_connection_may_bring_more_than_one_reply_may_hold(valkey):
    """What was read before is no part of the next reply."""
    async with cache_client(valkey.url, PATIENT) as client:
        await client.set("a", bytes(LARGEST_REPLY // 4))
        await client.set("*1\r", b"*99999\r" * 4)
        for _ in range(3):
            assert await client.mget(["a", "*1\r", "b"])
            assert await client.ping()
