import asyncio
import socket
import subprocess
import sys
import threading

import pytest

from service.stores import connected, names
from service.stores.names import addresses_of


def entries(*addresses: str) -> list[tuple]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in addresses]


@pytest.fixture
def dns(monkeypatch):
    """A DNS server that answers when it is told to: the look-ups that wait, by their gates."""
    gates: list[threading.Event] = []

    def getaddrinfo(*_: object, **__: object) -> list[tuple]:
        gates.append(threading.Event())
        assert gates[-1].wait(10.0)
        return entries("127.0.0.9", "127.0.0.1", "127.0.0.9")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(names, "_under_way", {})
    yield gates
    for gate in gates:
        gate.set()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1%lo"])
async def test_an_address_stands_for_itself(address, dns):
    assert await addresses_of(address) == (address,)
    assert not dns


async def test_names_are_looked_up():
    assert set(await addresses_of("localhost")) <= {"127.0.0.1", "::1"}


async def test_what_cannot_be_a_name_is_an_error():
    with pytest.raises(UnicodeError):
        await addresses_of("a" * 70)


async def test_callers_share_a_look_up_and_survive_each_other(dns):
    first, second = (asyncio.create_task(addresses_of("cache")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    assert len(dns) == 1
    dns[0].set()

    assert await second == ("127.0.0.9", "127.0.0.1")


async def test_a_question_that_got_lost_holds_nobody_who_asks_again(dns, monkeypatch):
    monkeypatch.setattr(names, "_ASK_AGAIN_S", 0.0)
    lost = asyncio.create_task(addresses_of("cache"))
    await asyncio.sleep(0.002)
    again = asyncio.create_task(addresses_of("cache"))
    await asyncio.sleep(0.002)
    assert len(dns) == 2
    dns[1].set()

    assert await again == ("127.0.0.9", "127.0.0.1")
    assert not lost.done()
    dns[0].set()
    await lost


async def test_look_ups_of_a_name_are_bounded(dns, monkeypatch):
    monkeypatch.setattr(names, "_ASK_AGAIN_S", -1.0)
    asked = [asyncio.create_task(addresses_of("cache")) for _ in range(100)]
    await asyncio.sleep(0.02)
    assert len(dns) == names._LOOK_UPS_LIMIT
    for gate in dns:
        gate.set()

    assert set(await asyncio.gather(*asked)) == {("127.0.0.9", "127.0.0.1")}


async def test_the_first_address_that_takes_connections_is_taken(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries("1.1.1.1", "2.2.2.2"))
    tried = []

    async def connect(address: str) -> str:
        tried.append(address)
        if address in refusing:
            raise ConnectionRefusedError(address)
        return address

    refusing = {"1.1.1.1"}
    assert await connected("cache", connect) == "2.2.2.2"
    refusing.add("2.2.2.2")
    with pytest.raises(ConnectionRefusedError, match=r"2\.2\.2\.2"):
        await connected("cache", connect)
    assert tried == ["1.1.1.1", "2.2.2.2"] * 2


HANGING = """
import asyncio, socket, threading
import uvloop
from service.clock import SystemClock
from service.cache.opening import score_store
from service.settings import CacheSettings, RedisSettings

asked = threading.Event()

def getaddrinfo(*_, **__):
    asked.set()
    threading.Event().wait()

socket.getaddrinfo = getaddrinfo

async def main():
    redis = RedisSettings(client="redis-py")
    store = score_store(
        "redis://cache:6379", cache=CacheSettings(), redis=redis, clock=SystemClock()
    )
    await store.start()
    assert asked.is_set()
    assert store.status().state == "degraded"
    await store.stop()

uvloop.run(main())
"""


def test_a_process_ends_while_a_look_up_goes_on():
    subprocess.run([sys.executable, "-c", HANGING], check=True, timeout=30)
