import pytest
from redis.asyncio import Redis

from service.settings import RedisSettings
from service.stores import cache_problems, cache_server_problems, events_server_problems
from tests.support.store_servers import TcpServer
from tests.support.valkey import ValkeyServer

CACHE = {"maxmemory": "10mb", "maxmemory_policy": "allkeys-lfu"}
EVENTS = {"appendonly": "yes", "appendfsync": "always", "maxmemory_policy": "noeviction"}


@pytest.mark.parametrize(
    ("changed", "advice"),
    [
        ({}, []),
        ({"maxmemory_policy": "volatile-lru"}, ["volatile-lru and loses what is asked for often"]),
        ({"maxmemory": "0"}, ["set maxmemory"]),
        ({"maxmemory_policy": "noeviction"}, ["maxmemory-policy to allkeys-lfu"]),
        (
            {"maxmemory": "0", "maxmemory_policy": "noeviction"},
            ["set maxmemory", "maxmemory-policy to allkeys-lfu"],
        ),
    ],
)
async def test_a_cache_server_is_told_what_to_change(changed, advice):
    with ValkeyServer(**(CACHE | changed)) as server:
        async with Redis.from_url(server.url) as client:
            problems = await cache_server_problems(client)

    assert len(problems) == len(advice)
    assert all(what in problem for what, problem in zip(advice, problems, strict=True))


@pytest.mark.parametrize(
    ("changed", "advice"),
    [
        ({}, []),
        ({"maxmemory_policy": "allkeys-lfu"}, ["redis.events_url to a server of its own"]),
        ({"appendonly": "no"}, ["set appendonly yes"]),
        ({"appendfsync": "everysec"}, ["set appendfsync always"]),
    ],
)
async def test_an_event_server_is_told_what_to_change(changed, advice):
    with ValkeyServer(**(EVENTS | changed)) as server:
        async with Redis.from_url(server.url) as client:
            problems = await events_server_problems(client)

    assert len(problems) == len(advice)
    assert all(what in problem for what, problem in zip(advice, problems, strict=True))


@pytest.mark.parametrize("check", [cache_server_problems, events_server_problems])
async def test_a_server_that_does_not_tell_is_unknown_and_no_failure(valkey, check):
    async with Redis.from_url(valkey.url) as operator:
        await operator.execute_command("ACL SETUSER podium on nopass ~* +@all -info -config")
    url = valkey.url.replace("unix://", "unix://podium:x@")

    async with Redis.from_url(url) as client:
        (problem,) = await check(client)

    assert problem.startswith("unknown: ")
    assert "set " in problem


@pytest.mark.parametrize("check", [cache_server_problems, events_server_problems])
async def test_a_server_that_is_not_there_has_no_problems(check, tmp_path):
    async with Redis.from_url(f"unix://{tmp_path}/nobody") as client:
        assert await check(client) == ()


async def test_every_node_that_a_cluster_url_names_is_checked():
    with TcpServer(**CACHE) as fine, TcpServer() as careless:
        url = f"redis+cluster://127.0.0.1:{fine.port},127.0.0.1:{careless.port}"
        problems = await cache_problems(url, RedisSettings())

    assert len(problems) == 2
    assert all(problem.startswith(f"127.0.0.1:{careless.port}: ") for problem in problems)


async def test_one_server_is_checked_by_its_url(valkey):
    problems = await cache_problems(valkey.url, RedisSettings())

    assert [problem.rpartition(": ")[2] for problem in problems] == [
        "set maxmemory",
        "set maxmemory-policy to allkeys-lfu",
    ]
