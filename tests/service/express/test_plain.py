"""Plain requests: the same slates, refusals and figures as any other way gives them."""

import asyncio
import gc

import msgspec
import numpy as np
import pytest

from experiments.definition import Experiment, Variant
from ranking_models.bundle import Bundle, list_bundles
from service.api.access import Access
from service.api.given import RankingParts
from service.cache.slate_worth import SlateWorth
from service.clock import SystemClock
from service.errors import EngineFailed
from service.events.force_tokens import ForceTokens
from service.events.signing import SigningKeys
from service.express.head import read_head
from service.express.lane import RankLane
from service.health import Health
from service.messages import RankReply, RankRequest
from service.settings import AuthSettings, BatchPolicy
from service.testing import FakeClock, FakeEngine, FaultyEngine, MemoryScoreCache
from tests.support.bundles import write_tiny_bundle
from tests.support.rankers import Kitchen, deployment_of

HEAD = read_head(
    b"POST /v1/rank HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
)
IDS = tuple(f"i{n}" for n in range(1, 9))
HALVES = Experiment(
    key="halves",
    unit="user_or_session",
    variants=(
        Variant(name="a", share_bp=5000, deployment="ranker"),
        Variant(name="b", share_bp=5000, deployment="ranker"),
    ),
)


class Line:
    """A connection that keeps what it is told."""

    scheme = "http"
    server = None

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.under_way = []
        self.replies = []
        self.answered = asyncio.Event()

    def begin(self, call):
        self.under_way.append(call)

    def finish(self, call, status, headers, body):
        self.under_way.remove(call)
        self.replies.append((status, headers, body))
        self.answered.set()

    def forget(self, call):
        self.under_way.remove(call)

    async def reply(self):
        async with asyncio.timeout(5):
            await self.answered.wait()
        return self.replies[0]


class Failing(FakeEngine):
    def score(self, batch):
        raise EngineFailed("told to")


class Busy:
    def __init__(self):
        self.under_way = 0

    def began(self):
        self.under_way += 1

    def ended(self):
        self.under_way -= 1


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    root = tmp_path_factory.mktemp("bundles")
    write_tiny_bundle(root)
    (found,) = list_bundles(root)
    return Bundle.open(found.path)


@pytest.fixture
def open_lane(bundle):
    def open_one(*engines, experiments=(), clock=None, allow_degraded=True, **deployed):
        clock = clock or SystemClock()
        served = Kitchen(
            [deployment_of(bundle, *(engines or [FakeEngine()]), clock=clock, **deployed)],
            clock,
            experiments=experiments,
            allow_degraded=allow_degraded,
        )
        health = Health({})
        lane = RankLane(
            RankingParts(
                ranker=served.ranker,
                feature_names=None,  # of the item pages
                access=Access(AuthSettings()),
                telemetry=served.telemetry,
                clock=clock,
                body_limit=10_000,
                force_tokens=ForceTokens(SigningKeys({"k": b"x" * 32}, "k")),
            ),
            health,
        )
        served.health = health
        return lane, served

    return open_one


def body(*ids, **fields):
    return msgspec.json.encode({"candidates": ids or IDS, "timeout_ms": 10_000, **fields})


def slate(told):
    status, headers, content = told
    assert status == 200, content
    assert headers.endswith(b"content-length: %d\r\n" % len(content))
    return msgspec.json.decode(content, type=RankReply)


def same(reply):
    """A slate without what is different every time."""
    return msgspec.structs.replace(reply, slate_id="", timing_ms=None)


def figures(served):
    """What was counted, but for durations."""
    page = served.telemetry.metrics.families()
    return {
        (name, *sorted(labels.items())): value
        for family in page
        for name, labels, value, *_ in family.samples
        if name.startswith(("podium_", "http_")) and not name.endswith(("_sum", "_bucket"))
    }


async def test_a_plain_request_gets_the_slate_that_any_other_way_gives(open_lane):
    lane, served = open_lane()
    asked = body(user={"id": "u1"}, context={"device": "ios", "hour": 21}, k=3, request_id="r-1")
    line, busy = Line(), Busy()

    assert lane.plain(asked, HEAD, line, busy)
    assert busy.under_way == 1
    told = slate(await line.reply())

    ranked = await served.ranker.rank(
        msgspec.json.decode(asked, type=RankRequest), arrived=served.clock.now()
    )
    assert same(told) == same(ranked.reply)
    assert told.slate_id != ranked.reply.slate_id
    assert told.timing_ms.total >= told.timing_ms.engine
    assert (line.under_way, busy.under_way) == ([], 0)


async def test_requests_of_one_batch_get_their_own_slates(open_lane):
    """Of one length they are ordered together, whatever k the others want."""
    lane, served = open_lane()
    sizes = (*(8 for _ in range(5)), *(3 for _ in range(2)))
    wanted = [
        body(*(IDS[n:] + IDS[:n])[:size], user={"id": f"u{n + 1}"}, k=2 + n)
        for n, size in enumerate(sizes)
    ]
    for batch in (wanted[:5], wanted):
        lines = [Line() for _ in batch]
        for asked, line in zip(batch, lines, strict=True):
            assert lane.plain(asked, HEAD, line)
        for asked, line in zip(batch, lines, strict=True):
            told = slate(await line.reply())
            alone = await served.ranker.rank(
                msgspec.json.decode(asked, type=RankRequest), arrived=served.clock.now()
            )
            assert same(told) == same(alone.reply)


@pytest.mark.parametrize(
    "fields",
    [
        {"force": {"halves": "a"}},
        {"force_token": "t"},
        {"external": {"halves": "a"}},
        {"explain": True},
        {"context": {"surface": 3}},
        {"context": {"moon": 1}},
        {"context": {"hour": "late"}},
        {"user": {"id": "u1", "features": {"age": 30}}},
        {"candidates": ["i1", {"id": "i2", "features": {"price": 3.5}}]},
        {"candidates": ["i1", "i1"]},
        {"candidates": []},
        {"unknown": 1},
    ],
    ids=str,
)
async def test_what_is_not_plain_or_is_wrong_is_left_alone(open_lane, fields):
    lane, served = open_lane()
    before, line = figures(served), Line()

    assert not lane.plain(body(**fields), HEAD, line)

    assert figures(served) == before
    assert (line.under_way, line.replies) == ([], [])


def test_every_field_of_a_request_is_either_used_here_or_makes_it_not_plain():
    """A new field is ignored here unless somebody thinks of it."""
    used = {"candidates", "request_id", "user", "context", "anchor_item", "k"}
    of_the_batcher = {"timeout_ms", "priority"}
    not_plain = {"explain", "force", "force_token", "external"}
    of_experiments = {"session_id"}
    assert {*RankRequest.__struct_fields__} == used | of_the_batcher | not_plain | of_experiments


async def test_where_an_experiment_runs_or_a_cache_is_asked_nothing_is_plain(open_lane):
    for other in (
        open_lane(experiments=(HALVES,)),
        open_lane(cache=MemoryScoreCache(FakeClock())),
    ):
        assert not other[0].plain(body(), HEAD, Line())


async def test_where_the_cache_is_not_asked_a_request_is_plain_and_its_slate_the_same(open_lane):
    never = {"cache": MemoryScoreCache(FakeClock()), "slate_worth": SlateWorth("never")}
    lane, served = open_lane(**never)
    line = Line()

    assert lane.plain(body(), HEAD, line)
    assert not lane.plain(body(anchor_item="i1"), HEAD, Line())

    computed = await open_lane()[1].serve(*IDS)
    assert same(slate(await line.reply())) == same(computed)
    assert served.metric("podium_cache_total", result="bypass") == 1


async def test_plain_requests_are_counted_as_any_other(open_lane):
    pages = []
    for is_plain in (True, False):
        lane, served = open_lane()
        for _ in range(3):
            line = Line()
            if is_plain:
                assert lane.plain(body(), HEAD, line)
                await line.reply()
                continue
            exchange = lane.exchange(HEAD, "http")
            replied = asyncio.get_running_loop().create_future()
            lane.start(body(), HEAD, ("127.0.0.1", 5), exchange, replied.set_result)
            exchange.status = (await replied).status
            exchange.end()
        pages.append(figures(served))

    assert pages[0] == pages[1]


async def test_a_refusal_at_the_door_is_told_at_once_and_looks_nothing_up(open_lane):
    policy = BatchPolicy(mode="fixed", max_queue_delay_s=30.0, max_waiting_rows=8)
    lane, served = open_lane(policy=policy)
    first, second = Line(), Line()
    assert lane.plain(body(), HEAD, first)

    assert lane.plain(body(request_id="r-2"), HEAD, second, busy := Busy())

    ((status, headers, content),) = second.replies
    assert status == 429
    assert headers.startswith(b"retry-after: ")
    assert msgspec.json.decode(content)["request_id"] == "r-2"
    assert served.metric("podium_shed_total", reason="queue_full") == 1
    assert served.metric("podium_inflight") == 1  # the one that waits
    assert (second.under_way, busy.under_way) == ([], 0)


@pytest.mark.parametrize("allow_degraded", [True, False])
async def test_engines_that_fail_leave_it_to_the_ordinary_way(open_lane, allow_degraded):
    lane, served = open_lane(Failing(), allow_degraded=allow_degraded)
    line = Line()

    assert lane.plain(body(request_id="r"), HEAD, line, busy := Busy())
    status, _, content = await line.reply()

    if allow_degraded:
        assert slate((status, _, content)).degraded == "popularity"
    else:
        assert status == 503
    assert msgspec.json.decode(content)["request_id"] == "r"
    assert [served.metric(name) or 0 for name in ("podium_inflight",)] == [0]
    assert busy.under_way == 0


async def test_a_fallback_engine_is_told(open_lane):
    lane, _ = open_lane(Failing(), FakeEngine())
    line = Line()
    lane.plain(body(), HEAD, line)

    assert slate(await line.reply()).degraded == "fallback_engine"


@pytest.mark.parametrize("draining", [False, True])
async def test_who_hangs_up_takes_the_rows_out_and_a_drain_limit_is_told(open_lane, draining):
    lane, served = open_lane(policy=BatchPolicy(mode="fixed", max_queue_delay_s=30.0))
    line, busy = Line(), Busy()
    lane.plain(body(), HEAD, line, busy)
    (call,) = line.under_way
    if draining:
        served.health.drain()
        call.cancel(msg="too late")
        await asyncio.sleep(0)
    else:
        call.hang_up()
    call.hang_up()  # once is enough
    await asyncio.sleep(0.01)

    assert [status for status, *_ in line.replies] == ([503] if draining else [])
    assert (line.under_way, busy.under_way) == ([], 0)
    assert served.metric("podium_inflight") == 0
    (batcher,) = served.deployments.batchers
    assert batcher.waiting_rows == 0


async def test_a_mistake_of_ours_is_told_without_details(open_lane, monkeypatch, caplog):
    lane, served = open_lane()
    monkeypatch.setattr(served.ranker.plain, "reply", lambda *_: {}["u1"])
    line = Line()
    lane.plain(body(request_id="r"), HEAD, line)

    status, _, content = await line.reply()

    assert status == 500
    assert b"u1" not in content
    assert "KeyError" in caplog.text
    assert served.metric("podium_inflight") == 0


async def test_an_answered_request_is_forgotten_without_the_garbage_collector(open_lane):
    lane, _ = open_lane()
    for _ in range(2):  # the first one sets up what stays
        line = Line()
        gc.collect()
        gc.disable()
        try:
            lane.plain(body(), HEAD, line)
            await line.reply()
        finally:
            gc.enable()

    assert gc.collect() == 0


@pytest.mark.parametrize("seed", range(3))
async def test_faults_and_cancels_leave_every_call_one_reply_and_its_own(open_lane, seed):
    """Whatever the engine does, each caller that stays is told once, of its own request."""
    random, engine = np.random.default_rng(seed), FaultyEngine(FakeEngine(max_batch_rows=40))
    lane, served = open_lane(engine)
    orders = (engine.fail, engine.answer_short, engine.refuse_memory, engine.mend)
    stayed = []
    for turn in range(60):
        orders[random.integers(len(orders))]()
        for n in range(random.integers(1, 5)):
            line, ids = Line(), [f"i{i}" for i in random.permutation(50)[: random.integers(1, 30)]]
            wants = {"request_id": f"{turn}-{n}", "k": int(random.integers(1, 30))}
            assert lane.plain(body(*ids, **wants), HEAD, line)
            stayed.append((line, ids, wants))
        if line.under_way and random.random() < 0.5:
            line.under_way[0].hang_up()
            stayed.pop()
        for _ in range(random.integers(4)):
            await asyncio.sleep(0)
    for line, *_ in stayed:
        await line.reply()

    engines = set()
    for line, ids, wants in stayed:
        assert (len(line.replies), line.under_way) == (1, [])
        told = slate(line.replies[0])
        engines.add(told.model.engine)
        assert told.request_id == wants["request_id"]
        items = [item.id for item in told.items]
        assert len(items) == min(wants["k"], len(ids)) == len({*items} & {*ids})
    assert engines > {"popularity"}
    assert served.metric("podium_inflight") == 0
