"""Who watches: how many may, and when they are let go."""

import asyncio
from types import SimpleNamespace

import pytest

from experiments.assignment import Assigner
from service.api.dashboard import watching
from service.api.dashboard.samples import SAMPLES, Sampler
from service.api.dashboard.watching import Listener, Sources, Watching
from service.errors import NotReady, TooManyWatchers
from service.fleet import Alone
from service.health import Health
from service.messages import ModelsReply
from service.telemetry.metrics import Metrics
from service.testing import FakeClock


@pytest.fixture
def health():
    return Health({})


@pytest.fixture
def page(health):
    """One without experiments or models; nobody asks for more before these tests end."""
    clock, fleet = FakeClock(), Alone()
    fleet.on(SAMPLES, Sampler(Metrics([], version="0").families, clock).answer)

    async def nothing():
        return ModelsReply(deployments=())

    live = SimpleNamespace(current=lambda: Assigner(()), unready={})
    models = SimpleNamespace(read=nothing)
    return Watching(
        Sources(fleet=fleet, models=models, live=live, reports=None, health=health, clock=clock)
    )


def test_so_many_may_watch_and_no_more(page):
    async def watch():
        streams = [page.watch(None) for _ in range(watching.MOST_WATCHERS)]
        for stream in streams:
            assert (await anext(stream)).event == "hello"
        with pytest.raises(TooManyWatchers, match="64 live pages"):
            page.admit()
        await streams[0].aclose()
        page.admit()
        for stream in streams[1:]:
            await stream.aclose()

    asyncio.run(watch())


def test_a_drain_ends_every_stream_and_admits_nobody(page, health):
    async def watch():
        streams = [page.watch(None) for _ in range(3)]
        for stream in streams:
            await anext(stream)
        health.drain()
        async with asyncio.timeout(1):
            for stream in streams:
                async for _ in stream:
                    pass  # what was on its way
        with pytest.raises(NotReady):
            page.admit()

    asyncio.run(watch())


def test_a_page_that_does_not_read_is_let_go_and_not_waited_for():
    async def fall_behind():
        listener = Listener()
        for number in range(100):
            listener.tell(watching.ServerSentEventMessage(data=str(number)))
        async with asyncio.timeout(1):
            return [told async for told in listener.messages()]

    assert asyncio.run(fall_behind()) == []


def test_a_quiet_line_is_kept_alive(monkeypatch):
    monkeypatch.setattr(watching, "SILENCE_S", 0.01)

    async def listen():
        async with asyncio.timeout(1):
            return await anext(Listener().messages())

    assert asyncio.run(listen()).comment == "still here"
