"""From a body to a reply: what is told, and what is left to do."""

import asyncio
import gc
import logging

import msgspec
import pytest

from experiments.definition import Experiment, Variant
from ranking_models.bundle import Bundle, list_bundles
from service.api.access import Access
from service.api.given import RankingParts
from service.cache.slates import SlateCache
from service.clock import SystemClock
from service.errors import ClientGone
from service.events.force_tokens import ForceTokens
from service.events.signing import SigningKeys
from service.express.head import read_head
from service.express.lane import RankLane
from service.express.reply import Reply
from service.feature_names import FeatureNames
from service.health import Health
from service.messages import RankReply
from service.settings import AuthSettings, CacheSettings
from service.testing import FakeClock, FakeEngine, MemoryStore
from tests.support.bundles import write_tiny_bundle
from tests.support.rankers import Kitchen, deployment_of

BODY = b'{"candidates": ["i1", "i2", "i3"], "timeout_ms": 10000, "request_id": "r-1"}'
HEAD = read_head(
    b"POST /v1/rank HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
)
FORCE_TOKENS = ForceTokens(SigningKeys({"k": b"x" * 32}, "k"))
HALVES = Experiment(
    key="halves",
    unit="user_or_session",
    variants=(
        Variant(name="a", share_bp=5000, deployment="ranker"),
        Variant(name="b", share_bp=5000, deployment="ranker"),
    ),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    write_tiny_bundle(root)
    (found,) = list_bundles(root)
    return Bundle.open(found.path)


@pytest.fixture
def health():
    return Health({})


@pytest.fixture
def open_lane(bundle, health):
    def open_one(*, ranker=None, experiments=(), feature_names=None):
        clock = SystemClock()
        served = Kitchen(
            [deployment_of(bundle, FakeEngine(), clock=clock)], clock, experiments=experiments
        )
        lane = RankLane(
            RankingParts(
                ranker=ranker or served.ranker,
                feature_names=feature_names,  # of the item pages
                access=Access(AuthSettings()),
                telemetry=served.telemetry,
                clock=clock,
                body_limit=1000,
                force_tokens=FORCE_TOKENS,
            ),
            health,
        )
        return lane, served

    return open_one


def answer(lane, body=BODY):
    return lane.answer(body, HEAD, ("127.0.0.1", 5), SystemClock().now())


async def page(lane, target):
    """The reply to an item page; what `start` does not have at once, it tells."""
    head = read_head(b"GET /v1/items/%b HTTP/1.1\r\nHost: shop\r\n\r\n" % target)
    told = asyncio.get_running_loop().create_future()
    exchange = lane.exchange(head, "http", None)
    reply = lane.start(b"", head, ("127.0.0.1", 5), exchange, told.set_result)
    return reply if isinstance(reply, Reply) else await told


async def start(lane, body=BODY, then=lambda reply: None):
    return lane.start(body, HEAD, ("127.0.0.1", 5), lane.exchange(HEAD, "http", None), then)


class Waiting:
    """A ranker that never has an answer."""

    def __init__(self):
        self.begun = asyncio.Event()

    async def rank(self, request, *, arrived):
        self.begun.set()
        await asyncio.Event().wait()


class Broken:
    async def rank(self, request, *, arrived):
        raise KeyError("u1 and i1")


async def test_a_slate_leaves_nothing_to_do_without_cache_and_experiments(open_lane):
    lane, _ = open_lane()

    reply = await answer(lane)

    slate = msgspec.json.decode(reply.body, type=RankReply)
    assert reply.status == 200
    assert reply.headers.endswith(b"content-length: %d\r\n" % len(reply.body))
    assert sorted(item.id for item in slate.items) == ["i1", "i2", "i3"]
    assert slate.request_id == "r-1"
    assert reply.ranked is None


async def test_an_exposure_is_left_until_the_reply_is_on_its_way(open_lane):
    lane, served = open_lane(experiments=(HALVES,))

    reply = await answer(lane, BODY[:-1] + b', "user": {"id": "u1"}}')
    assert served.exposures.recorded == []
    await lane.record(reply.ranked)

    assert len(served.exposures.recorded) == 1


async def test_a_page_that_was_asked_for_before_is_read_by_the_names_of_now(open_lane, bundle):
    names = FeatureNames.of([bundle.schema])
    numeric, names.numeric_context = names.numeric_context, frozenset()
    lane, _ = open_lane(feature_names=names)
    target = b"i3/recommendations?hour=7&k=2"

    assert (await page(lane, target)).status == 400  # of a model to which the hour is a word
    names.numeric_context = numeric
    replies = [await page(lane, target) for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 200]
    slates = [msgspec.json.decode(reply.body, type=RankReply) for reply in replies]
    assert slates[0].items == slates[1].items
    assert len(slates[0].items) == 2


async def test_a_page_that_there_is_not_is_refused_in_its_own_words(open_lane, bundle):
    lane, served = open_lane(feature_names=FeatureNames.of([bundle.schema]))

    for target, status in ((b"nothing/recommendations", 404), (b"i3/recommendations?k=0", 400)):
        assert (await page(lane, target)).status == status
    assert served.metric("podium_inflight") == 0


async def test_a_body_that_is_still_coming_is_waited_for(open_lane):
    lane, _ = open_lane()
    body = asyncio.get_running_loop().create_future()
    replying = asyncio.create_task(answer(lane, body))
    await asyncio.sleep(0)
    body.set_result(BODY)

    assert (await replying).status == 200


async def test_a_body_that_never_comes_is_told_to_nobody_and_counted(open_lane):
    lane, _ = open_lane()
    body = asyncio.get_running_loop().create_future()
    body.set_exception(ClientGone())

    assert (await answer(lane, body)).status == ClientGone.status


async def test_a_mistake_of_ours_is_logged_and_told_without_details(open_lane, caplog):
    lane, _ = open_lane(ranker=Broken())

    with caplog.at_level(logging.ERROR):
        reply = await answer(lane)

    assert reply.status == 500
    assert msgspec.json.decode(reply.body)["code"] == "internal_error"
    assert msgspec.json.decode(reply.body)["request_id"] == "r-1"
    assert b"u1" not in reply.body
    assert "KeyError" in caplog.text


async def test_who_hangs_up_gets_no_reply(open_lane):
    ranker = Waiting()
    lane, _ = open_lane(ranker=ranker)
    replying = asyncio.create_task(answer(lane))
    await ranker.begun.wait()
    replying.cancel()

    with pytest.raises(asyncio.CancelledError):
        await replying


async def test_who_is_cut_off_by_a_drain_is_told_so(open_lane, health):
    ranker = Waiting()
    lane, _ = open_lane(ranker=ranker)
    replying = asyncio.create_task(answer(lane))
    await ranker.begun.wait()
    health.drain()
    replying.cancel()

    reply = await replying

    assert reply.status == 503
    assert reply.headers.startswith(b"retry-after: 1\r\n")
    assert msgspec.json.decode(reply.body)["code"] == "not_ready"


@pytest.mark.parametrize(("size", "taken"), [(1000, True), (1001, False)])
async def test_a_body_above_the_limit_is_left_to_the_route(open_lane, size, taken):
    lane, _ = open_lane()
    head = msgspec.structs.replace(HEAD, body_bytes=size)

    assert lane.takes(head, ("127.0.0.1", 5)) is taken


async def test_what_waits_for_an_engine_only_needs_no_task(open_lane):
    lane, served = open_lane(experiments=(HALVES,))
    replied = asyncio.get_running_loop().create_future()

    await start(lane, BODY[:-1] + b', "user": {"id": "u1"}}', replied.set_result)
    reply = await replied

    assert reply.status == 200
    assert len(msgspec.json.decode(reply.body, type=RankReply).items) == 3
    assert reply.ranked.exposure is not None
    assert served.metric("podium_inflight") == 0


async def test_a_refusal_is_known_at_once(open_lane):
    lane, served = open_lane()

    reply = await start(lane, BODY[:-1] + b', "context": {"moon": 1}}')

    assert reply.status == 400
    assert msgspec.json.decode(reply.body)["request_id"] == "r-1"
    assert served.metric("podium_inflight") == 0


async def test_what_waits_for_nothing_is_answered_at_once(bundle, open_lane):
    lane, served = open_lane()
    served.deployments.replace([deployment_of(bundle, clock=SystemClock())])

    assert (await start(lane)).status == 200
    assert (await answer(lane)).status == 200
    assert served.metric("podium_inflight") == 0


@pytest.fixture
def cached(bundle, open_lane):
    """A lane over a deployment with a cache in two levels."""
    clock = FakeClock()
    lane, served = open_lane()
    cache = SlateCache(MemoryStore(clock), settings=CacheSettings(), clock=clock)
    engine = FakeEngine()
    served.deployments.replace([deployment_of(bundle, engine, clock=SystemClock(), cache=cache)])
    return lane, served, engine, clock


async def replied(lane):
    """The reply, now or later, and all that is left to do then."""
    told = asyncio.get_running_loop().create_future()
    begun = await start(lane, then=told.set_result)
    reply = begun if isinstance(begun, Reply) else await told
    if reply.ranked is not None:
        await lane.record(reply.ranked)
    return msgspec.json.decode(reply.body, type=RankReply)


async def test_a_slate_that_the_process_knows_is_answered_at_once(cached):
    lane, served, engine, _ = cached
    computed = await replied(lane)

    reply = await start(lane)
    found = msgspec.json.decode(reply.body, type=RankReply)

    assert (computed.cache.result, found.cache.result) == ("miss", "hit")
    assert found.cache.level == "process"
    assert found.items == computed.items
    assert reply.ranked is None, "nothing is left to do"
    assert engine.calls == [3]
    assert served.metric("podium_inflight") == 0
    assert served.metric("podium_cache_total", result="hit") == 1


async def test_a_slate_that_the_server_knows_comes_later(cached):
    lane, _, engine, clock = cached
    await replied(lane)
    clock.advance(2)

    found = await replied(lane)

    assert (found.cache.result, found.cache.level) == ("hit", "server")
    assert engine.calls == [3]


@pytest.mark.parametrize("turns", [0, 1])
async def test_what_waits_for_the_cache_can_be_given_up(cached, turns):
    lane, served, _, _ = cached
    told = []
    underway = await start(lane, then=told.append)
    for _ in range(turns):
        await asyncio.sleep(0)

    assert underway.cancel() is None

    await asyncio.sleep(0.01)
    assert told == []
    assert served.metric("podium_inflight") == 0
    assert (await replied(lane)).degraded is None


@pytest.mark.parametrize("draining", [False, True])
async def test_what_is_given_up_is_answered_by_a_drain_only(open_lane, health, draining):
    lane, served = open_lane()
    told = []
    underway = await start(lane, then=told.append)
    if draining:
        health.drain()

    reply = underway.cancel()

    assert (reply and reply.status) == (503 if draining else None)
    await asyncio.sleep(0.01)
    assert told == []
    assert served.metric("podium_inflight") == 0


async def test_an_answered_request_is_forgotten_without_the_garbage_collector(open_lane):
    lane, _ = open_lane()
    for _ in range(2):  # the first one sets up what stays
        replied = asyncio.get_running_loop().create_future()
        gc.collect()
        gc.disable()
        try:
            underway = await start(lane, then=replied.set_result)
            await replied
            submitted, underway = underway.submitted, None
        finally:
            gc.enable()

    assert submitted is None
    assert gc.collect() == 0
