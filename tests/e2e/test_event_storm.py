"""Twenty SIGKILLs of service, consumer and event server under traffic: what was acknowledged is
added up exactly once, and what was not is nowhere."""

import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis

from service.events.names import COUNTS, GROUP, STREAM, statistics_key
from tests.support.server import EXPERIMENTS, Server, launched, make_home
from tests.support.valkey import ValkeyServer, wait_until

KILLS = ("service",) * 3 + ("consumer",) * 5 + ("server",) * 12
SHOPPERS = 3
LIMIT_S = 90.0
"""Far above what everything takes: only a loss or a hang waits this long."""

SETTINGS = """
state_directory = "state"
[server]
port = 0
workers = 1
[models]
directory = "bundles"
[deployments.ranker]
model = "tiny"
cache = "off"
[deployments.popularity]
model = "tiny"
engines = ["popularity"]
cache = "off"
[surfaces]
default = "ranker"
[redis]
url = "{url}"
"""

CONSUMER = """
import asyncio, sys
from service.clock import SystemClock
from service.events.aggregation import Aggregator
from service.settings import EventSettings, RedisSettings
from service.stores.clients import events_client

async def main(url):
    settings = EventSettings()
    client = events_client(url, RedisSettings(connect_timeout_s=1.0), settings)
    aggregator = Aggregator(client, settings, SystemClock(), adopt_after_s=0.2, tidy_s=0.1)
    await aggregator.start()
    print("at work", flush=True)
    await asyncio.sleep(300)

asyncio.run(main(*sys.argv[1:]))
"""


@contextmanager
def consumer(url: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A second process that adds up, and that takes over soon what others left."""
    with subprocess.Popen([sys.executable, "-c", CONSUMER, url], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


class Site:
    """A service, a consumer of its own, and an event server; each can be killed."""

    def __init__(self, home: Path, valkey: ValkeyServer) -> None:
        self._home, self._valkey = home, valkey
        self._stack = ExitStack()
        self._restart_service()
        self._consumer = self._stack.enter_context(consumer(valkey.url))

    def _restart_service(self) -> None:
        self.service: Server = self._stack.enter_context(launched(self._home))

    def kill(self, what: str, pause_s: float) -> None:
        if what == "service":
            self.service.kill()
            self._restart_service()
        elif what == "consumer":
            assert self._consumer.stdout is not None
            assert self._consumer.stdout.readline() == b"at work\n"
            self._consumer.kill()
            self._consumer = self._stack.enter_context(consumer(self._valkey.url))
        else:
            self._valkey.kill()
            time.sleep(pause_s)  # while it is gone, events go to the disk
            self._valkey.start()

    def close(self) -> None:
        self._stack.close()


class Shopper(threading.Thread):
    """Asks for slates, reports what was shown and clicked, and again until it is acknowledged."""

    def __init__(self, site: Site, name: str) -> None:
        super().__init__(name=name)
        self._site = site
        self._draw = random.Random(name)
        self.stopping = threading.Event()
        self.asked: Counter[str] = Counter()
        """Slates by variant, as far as a reply was seen."""
        self.unanswered = 0
        """Rankings without a reply: they may or may not be exposures."""
        self.acknowledged: Counter[tuple[str, str]] = Counter()
        """Events by variant and kind."""
        self.refused = 0
        self.failure: BaseException | None = None
        self._client = httpx.Client(timeout=10)

    def run(self) -> None:
        try:
            n = 0
            while not self.stopping.is_set():
                self._shop(f"{self.name}-{n}")
                n += 1
        except BaseException as failure:
            self.failure = failure
        self._client.close()

    def _shop(self, unit: str) -> None:
        body = {"user": {"id": unit}, "candidates": [f"i{n}" for n in range(5)]}
        answer = self._post("/v1/rank", {**body, "timeout_ms": 10_000})
        if answer is None:
            self.unanswered += 1
            return
        assert answer.status_code == 200, answer.text
        reply = answer.json()
        variant = reply["experiments"][0]["variant"]
        self.asked[variant] += 1
        events = [_event(reply, unit, "impression", place) for place in range(3)]
        if self._draw.random() < 0.5:
            events.append(_event(reply, unit, "click", self._draw.randrange(3)))
        forged = {**_event(reply, f"{unit}-forged", "click", 4), "exposure": _forged(reply)}
        self._report([*events, forged], variant)
        if self._draw.random() < 0.3:  # a sender that did not see the answer
            self._report([*events, forged], variant)

    def _report(self, events: list[dict[str, Any]], variant: str) -> None:
        """Until the answer is there: then every event but the last is in, and that one is not."""
        give_up_at = time.monotonic() + LIMIT_S
        while (answer := self._post("/v1/events", events)) is None or answer.status_code != 202:
            assert time.monotonic() < give_up_at, answer
            time.sleep(0.02)
        *results, forged = answer.json()["results"]
        assert forged["code"] == "token_forged", forged
        self.refused += 1
        for event, result in zip(events, results, strict=False):
            assert result["status"] in ("accepted", "duplicate"), result
            if event.pop("new", False):
                self.acknowledged[variant, event["type"]] += 1

    def _post(self, path: str, body: Any) -> httpx.Response | None:
        """None if nobody answers."""
        if isinstance(body, list):
            body = [{k: v for k, v in event.items() if k != "new"} for event in body]
        try:
            return self._client.post(f"{self._site.service.base_url}{path}", json=body)
        except httpx.TransportError:
            time.sleep(0.02)
            return None


def _event(reply: dict[str, Any], unit: str, kind: str, place: int) -> dict[str, Any]:
    return {
        "event_id": f"{unit}-{kind}-{place}",
        "type": kind,
        "slate_id": reply["slate_id"],
        "item_id": reply["items"][place]["id"],
        "position": place + 1,
        "timestamp": datetime.now(UTC).isoformat(),
        "exposure": reply["exposure"],
        "new": True,
    }


def _forged(reply: dict[str, Any]) -> str:
    """The token with another signature."""
    token: str = reply["exposure"]
    return token[:-1] + ("A" if token[-1] != "A" else "B")


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer(appendonly="yes", appendfsync="always") as server:
        yield server


@pytest.fixture
def home(valkey: ValkeyServer) -> Iterator[Path]:
    made = make_home(settings=SETTINGS.format(url=valkey.url), experiments=EXPERIMENTS)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def site(home: Path, valkey: ValkeyServer) -> Iterator[Site]:
    running = Site(home, valkey)
    try:
        yield running
    finally:
        running.close()


def sums_of(redis: "Redis[bytes]", variant: str) -> dict[str, int]:
    fields = redis.hgetall(statistics_key("model", 1, variant))
    return {name.decode(): int(n) for name, n in fields.items()}


def cells(sums: dict[str, int], prefix: str) -> int:
    return sum(n for name, n in sums.items() if name[:1] == prefix and name[1:].isdecimal())


def is_all_added_up(redis: "Redis[bytes]") -> Callable[[], bool]:
    def holds() -> bool:
        (group,) = [g for g in redis.xinfo_groups(STREAM) if g["name"] == GROUP.encode()]
        return group["pending"] == 0 and group["lag"] == 0

    return holds


@pytest.mark.slow
def test_twenty_kills_lose_nothing_that_was_acknowledged_and_count_nothing_twice(site, valkey):
    draw = random.Random(1)
    kills = draw.sample(KILLS, len(KILLS))
    shoppers = [Shopper(site, f"shopper{n}") for n in range(SHOPPERS)]
    for shopper in shoppers:
        shopper.start()
    for what in kills:
        time.sleep(draw.uniform(0.1, 0.5))
        site.kill(what, pause_s=draw.uniform(0.0, 0.4))
    for shopper in shoppers:
        shopper.stopping.set()
    for shopper in shoppers:
        shopper.join(LIMIT_S)
        assert shopper.failure is None, shopper.failure
        assert not shopper.is_alive()
    spool = site.service.home / "state" / "spool"
    wait_until(lambda: not any(spool.iterdir()), limit_s=LIMIT_S)
    code, errors = site.service.stop()  # it keeps the last exposures before it ends
    assert code == 0, errors
    with Redis.from_url(valkey.url) as redis:
        wait_until(is_all_added_up(redis), limit_s=LIMIT_S)
        acknowledged = sum((shopper.acknowledged for shopper in shoppers), Counter())
        asked = sum((shopper.asked for shopper in shoppers), Counter())
        unanswered = sum(shopper.unanswered for shopper in shoppers)
        for variant in ("ranker", "popularity"):
            sums = sums_of(redis, variant)
            assert sums["clicks"] == acknowledged[variant, "click"] > 0
            assert sums["impressions"] == acknowledged[variant, "impression"] > 0
            assert (cells(sums, "c"), cells(sums, "i")) == (sums["clicks"], sums["impressions"])
            # A kill takes the exposures of a moment along, and never makes more of them.
            assert 0 < sums["exposures"] <= asked[variant] + unanswered
            assert cells(sums, "n") == sums["exposures"] == sums["users"]
            assert "crossovers" not in sums
        counts = {name.decode(): int(n) for name, n in redis.hgetall(COUNTS).items()}
    assert counts["accepted"] == sum(acknowledged.values())
    assert "unreadable" not in counts


def test_without_event_server_and_disk_events_are_refused_and_rankings_go_on(home, valkey):
    """Nobody is told that an event is kept when it is not, and nobody waits for it."""
    (home / "state").mkdir(mode=0o700)
    (home / "state" / "spool").write_text("something is where the spool should be")
    with launched(home) as server:

        def slates() -> list[dict[str, Any]]:
            asked = [
                server.rank(user={"id": f"u{n}"}, candidates=["i1", "i2", "i3"]) for n in range(10)
            ]
            assert {answer.status_code for answer in asked} == {200}
            return [answer.json() for answer in asked]

        before = slates()
        valkey.kill()
        event = _event(before[0], "u0", "click", 0)
        del event["new"]
        refused = server.client.post("/v1/events", json=event)
        after = slates()
        assert (refused.status_code, refused.json()["code"]) == (503, "events_unavailable")
        assert [s["experiments"] for s in after] == [s["experiments"] for s in before]
        assert all(slate["exposure"] for slate in after)

        valkey.start()
        wait_until(lambda: server.client.post("/v1/events", json=event).status_code == 202)
