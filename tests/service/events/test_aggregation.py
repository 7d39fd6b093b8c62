"""Every entry of the stream is added up once: under redelivery, crashes, several consumers."""

import asyncio
import random
from collections import Counter

import msgspec
import pytest
from redis.exceptions import RedisError

from experiments.comparison import Comparison
from experiments.events import Arm, Event, Exposure, Feedback, Lapse
from experiments.variant_statistics import increments
from service.events.aggregation import Aggregator
from service.events.names import COUNTS, GROUP, STREAM, statistics_key
from service.settings import EventSettings, RedisSettings
from service.stores.clients import events_client

Sums = dict[str, Counter[str]]


@pytest.fixture
def aggregator(client, settings, clock):
    """Starts aggregators, each like one in a process of its own."""
    return lambda **options: Aggregator(client, settings, clock, **options)


@pytest.fixture
def running(aggregator):
    """One aggregator at work."""

    class Running:
        async def __aenter__(self) -> Aggregator:
            self.one = aggregator()
            await self.one.start()
            return self.one

        async def __aexit__(self, *error: object) -> None:
            await self.one.stop()

    return Running


async def append(client, *events: Event) -> None:
    pipeline = client.pipeline()
    for event in events:
        pipeline.xadd(STREAM, {b"e": msgspec.msgpack.encode(event)})
    await pipeline.execute()


def click(*arms: Arm, kind: str = "click") -> Feedback:
    return Feedback(
        event_id="e", kind=kind, slate_id="s", item_id="i", position=1, at=0.0, arms=arms
    )


def expected(events: list[Event]) -> Sums:
    """What the events add up to, without a server."""
    sums: Sums = {}
    units: dict[tuple[str, int, str], set[str]] = {}
    for event in events:
        for arm in event.arms:
            fields = sums.setdefault(statistics_key(*arm_of(arm)), Counter())
            fields.update(increments(event, arm))
            seen = units.setdefault((arm.experiment, arm.phase, arm.unit), set())
            if isinstance(event, Exposure) and arm.variant not in seen:
                fields["users"] += 1
                fields["crossovers"] += bool(seen)
                seen.add(arm.variant)
    return {
        key: Counter({name: n for name, n in fields.items() if n}) for key, fields in sums.items()
    }


def arm_of(arm: Arm) -> tuple[str, int, str]:
    return arm.experiment, arm.phase, arm.variant


async def sums_of(client) -> Sums:
    keys = [key async for key in client.scan_iter("podium:stats:*")]
    return {
        key.decode(): Counter(
            {name.decode(): int(n) for name, n in (await client.hgetall(key)).items()}
        )
        for key in keys
    }


def sum_out(sums: Sums, field: str) -> int:
    """The sum of a field over all arms; the arms have it no more."""
    return sum(fields.pop(field, 0) for fields in sums.values())


async def nothing_is_left(client) -> bool:
    """Everything was delivered and acknowledged."""
    groups = await client.xinfo_groups(STREAM)
    return any(
        group["name"] == GROUP.encode() and group["pending"] == 0 and group["lag"] == 0
        for group in groups
    )


@pytest.fixture
def day(arm, exposure):
    """A day of a few shops: units in two experiments, slates, impressions and clicks."""

    def make(slates: int, seed: int = 1) -> list[Event]:
        draw = random.Random(seed)
        events: list[Event] = []
        for _ in range(slates):
            unit = f"u{draw.randrange(40)}"
            variant = "fp16" if hash_of(unit) % 2 else "fp32"
            arms = (
                arm(variant, unit=unit),
                arm(draw.choice("ab"), unit=unit, experiment="layout"),
            )
            events.append(exposure(*arms, slate_id="s", latency_ms=draw.uniform(0.1, 90)))
            events += [click(*arms, kind="impression")] * draw.randrange(5)
            events += [click(*arms)] * (draw.random() < 0.2)
            events += [click()] * (draw.random() < 0.1)
        return events

    return make


async def read_for(aggregator: Aggregator, client, count: int) -> list:
    """Entries that an aggregator has read and not yet added up."""
    reply = await client.xreadgroup(GROUP, aggregator.consumer, {STREAM: ">"}, count=count)
    return reply[0][1]


def hash_of(unit: str) -> int:
    return int(unit[1:])


async def test_events_add_up_to_the_sums_of_their_arms(client, running, day, until):
    events = day(300)
    await append(client, *events)
    async with running() as aggregator:
        await until(lambda: nothing_is_left(client))

        assert await sums_of(client) == expected(events)
        assert aggregator.counts.applied == len(events)


async def test_events_count_moments_after_they_arrive(client, running, day, until):
    async with running():
        await append(client, *day(1))
        await until(lambda: nothing_is_left(client))
        await append(client, *day(2, seed=2))
        await until(lambda: nothing_is_left(client))

    assert await sums_of(client) == expected(day(1) + day(2, seed=2))


async def test_a_unit_is_a_user_once_and_is_remembered_while_it_comes_back(
    client, running, exposure, settings, until
):
    await append(client, exposure(), exposure(), exposure())
    async with running():
        await until(lambda: nothing_is_left(client))
        (key,) = [key async for key in client.scan_iter("podium:unit:*")]
        await client.expire(key, 10)
        await append(client, exposure())
        await until(lambda: nothing_is_left(client))

    assert (await sums_of(client))["podium:stats:rollout:1:fp16"]["users"] == 1
    assert settings.unit_ttl_s - 60 < await client.ttl(key) <= settings.unit_ttl_s


async def test_a_unit_in_two_variants_is_a_user_of_both_and_one_crossover(
    client, running, exposure, arm, until
):
    seen = ["a", "b", "a", "b", "c", "c"]
    await append(client, *(exposure(arm(variant)) for variant in seen))
    async with running():
        await until(lambda: nothing_is_left(client))

    sums = await sums_of(client)
    told = {key[-1]: (fields["users"], fields["crossovers"]) for key, fields in sums.items()}
    assert told == {"a": (1, 0), "b": (1, 1), "c": (1, 1)}


async def test_phases_are_added_up_apart(client, running, exposure, arm, until):
    later = Arm("rollout", 2, "fp32", arm().unit)
    await append(client, exposure(arm("fp16")), exposure(later), click(later))
    async with running():
        await until(lambda: nothing_is_left(client))

    sums = await sums_of(client)
    assert sums["podium:stats:rollout:1:fp16"]["users"] == 1
    assert sums["podium:stats:rollout:2:fp32"]["users"] == 1
    assert sums["podium:stats:rollout:2:fp32"]["crossovers"] == 0


async def test_an_entry_that_cannot_be_read_is_counted_and_holds_up_nobody(
    client, running, exposure, until
):
    await client.xadd(STREAM, {b"e": b"\xc1junk"})
    await client.xadd(STREAM, {b"e": msgspec.msgpack.encode(["exposure.9", 1])})
    await client.xadd(STREAM, {b"other": b"field"})
    await append(client, click(Arm("rollout", 1, "fp16", "no digest")), exposure())
    async with running() as aggregator:
        await until(lambda: nothing_is_left(client))

        assert aggregator.counts.unreadable == 4
    assert await client.hget(COUNTS, "unreadable") == b"4"
    assert (await sums_of(client))["podium:stats:rollout:1:fp16"]["exposures"] == 1


async def test_an_entry_that_was_deleted_while_it_was_pending_is_let_go(
    client, aggregator, exposure
):
    await append(client, exposure())
    await client.xgroup_create(STREAM, GROUP, id="0")
    one = aggregator()
    ((entry_id, _),) = await read_for(one, client, 1)
    await client.xdel(STREAM, entry_id)
    await one._step()

    assert await nothing_is_left(client)
    assert await sums_of(client) == {}


async def test_what_a_crashed_consumer_had_read_is_adopted(client, aggregator, day, until):
    events = day(100)
    await append(client, *events)
    await client.xgroup_create(STREAM, GROUP, id="0")
    await client.xreadgroup(GROUP, "crashed", {STREAM: ">"}, count=150)
    survivor = aggregator(adopt_after_s=0)
    await survivor.start()
    await until(lambda: nothing_is_left(client))
    await survivor.stop()

    assert await sums_of(client) == expected(events)
    assert survivor.counts.adopted == 150


async def test_who_takes_the_name_of_a_crashed_consumer_need_not_wait(
    client, aggregator, day, until
):
    events = day(20)
    await append(client, *events)
    await client.xgroup_create(STREAM, GROUP, id="0")
    await client.xreadgroup(GROUP, "worker-0", {STREAM: ">"}, count=15)

    next_one = aggregator(consumer="worker-0")
    await next_one.start()
    await until(lambda: nothing_is_left(client))
    await next_one.stop()

    assert await sums_of(client) == expected(events)
    assert next_one.counts.adopted == 0


async def test_what_is_adopted_too_early_still_counts_once(client, aggregator, day, until):
    """The first consumer was only slow: both hold the entries, and both add them up."""
    events = day(100)
    await append(client, *events)
    await client.xgroup_create(STREAM, GROUP, id="0")
    slow, quick = aggregator(), aggregator(adopt_after_s=0)
    entries = await read_for(slow, client, len(events))
    await quick.start()
    await until(lambda: nothing_is_left(client))
    assert await slow._apply(entries) == 0
    await quick.stop()

    assert await sums_of(client) == expected(events)


async def test_a_step_without_an_answer_counts_once_though_the_server_took_it(
    server, client, clock, day, until
):
    events = day(100)
    await append(client, *events, *events)
    await client.xgroup_create(STREAM, GROUP, id="0")
    settings = EventSettings(timeout_s=0.5)
    redis = RedisSettings(connect_timeout_s=2.0)
    async with events_client(server.url, redis, settings) as impatient:
        one = Aggregator(impatient, settings, clock)
        await one._apply(await read_for(one, client, len(events)))
        rest = await read_for(one, client, len(events))
        server.freeze()
        with pytest.raises(RedisError):
            await one._apply(rest)
        server.thaw()
        await one.start()
        await until(lambda: nothing_is_left(client))
        await one.stop()

    assert await sums_of(client) == expected(events + events)
    assert one.counts.applied == len(events)  # it never heard of the others


async def test_what_was_read_before_a_failure_is_read_again_at_once(client, aggregator, day):
    events = day(60)
    await append(client, *events)
    await client.xgroup_create(STREAM, GROUP, id="0")
    one = aggregator()
    await one._apply(await read_for(one, client, 50))
    await one._step()
    await read_for(one, client, len(events))  # and then the server went away
    await one._recover(ConnectionError())
    await one._step()

    assert await sums_of(client) == expected(events)


async def test_several_aggregators_share_the_work(client, aggregator, day, until):
    events = day(1500)
    several = [aggregator(adopt_after_s=0, tidy_s=0) for _ in range(3)]
    for one in several:
        await one.start()
    for at in range(0, len(events), 100):
        await append(client, *events[at : at + 100])
    await until(lambda: nothing_is_left(client))
    for one in several:
        await one.stop()

    sums, alone = await sums_of(client), expected(events)
    # Which variant a unit met first depends on who was quicker; how many moved does not.
    assert sum_out(sums, "crossovers") == sum_out(alone, "crossovers")
    assert sums == alone
    assert sum(one.counts.applied for one in several) == len(events)


async def test_a_server_that_is_away_is_waited_for(server, client, running, day, until, caplog):
    server.kill()
    async with running() as aggregator:
        await until(lambda: aggregator.counts.failures > 1)
        assert len(caplog.records) == 1
        assert aggregator.problem is not None
        server.start()
        await append(client, *day(10))
        await until(lambda: nothing_is_left(client))
        await until(lambda: aggregator.problem is None)

    assert await sums_of(client) == expected(day(10))


async def test_an_aggregator_that_ends_for_a_reason_nobody_thought_of_is_seen(aggregator, until):
    class Broken(Exception):
        """Of no library that a server's answer can bring up."""

    async def step():
        raise Broken

    broken = aggregator()
    broken._step = step
    assert broken.problem is None
    await broken.start()
    await until(lambda: broken.problem == "the aggregator has ended")

    with pytest.raises(Broken):
        await broken.stop()


async def test_a_group_that_is_gone_is_made_again(client, running, day, until):
    async with running():
        await append(client, *day(10))
        await until(lambda: nothing_is_left(client))
        await client.flushall()
        await append(client, *day(20))
        await until(lambda: nothing_is_left(client))

    assert await sums_of(client) == expected(day(20))


async def test_the_stream_is_trimmed_behind_the_consumers_and_not_before(
    client, aggregator, day, clock, until
):
    await append(client, *day(500))
    n = await client.xlen(STREAM)
    await client.xgroup_create(STREAM, GROUP, id="0")
    read = await client.xreadgroup(GROUP, "slow", {STREAM: ">"}, count=300)
    oldest = read[0][1][0][0]
    quick = aggregator()
    await quick.start()
    await until(lambda: quick.counts.applied == n - 300)
    await quick.stop()
    tidy = aggregator()
    await tidy._step()
    assert (await client.xrange(STREAM, count=1))[0][0] == oldest

    await client.xack(STREAM, GROUP, *(entry_id for entry_id, _ in read[0][1]))
    clock.advance(60)
    await tidy._step()
    assert await client.xlen(STREAM) <= 100  # whole nodes of the stream go at once


async def test_another_group_keeps_what_it_has_not_read(client, aggregator, day):
    await append(client, *day(500))
    n = await client.xlen(STREAM)
    await client.xgroup_create(STREAM, "export", id="0")
    await client.xgroup_create(STREAM, GROUP, id="$")
    await aggregator()._step()

    assert await client.xlen(STREAM) == n


async def test_consumers_that_are_long_gone_are_forgotten_but_not_their_entries(
    client, aggregator, exposure, monkeypatch
):
    monkeypatch.setattr("service.events.aggregation.FORGET_AFTER_S", 0.0)
    await append(client, exposure())
    await client.xgroup_create(STREAM, GROUP, id="0")
    await client.xreadgroup(GROUP, "holds-an-entry", {STREAM: ">"})
    await client.xreadgroup(GROUP, "idle", {STREAM: ">"})
    await asyncio.sleep(0.005)  # the server counts their silence in milliseconds
    await aggregator()._step()

    names = {consumer["name"] for consumer in await client.xinfo_consumers(STREAM, GROUP)}
    assert b"holds-an-entry" in names
    assert b"idle" not in names


async def test_stop_is_quick_and_leaves_nothing_half_done(client, aggregator, day):
    events = day(1000)
    await append(client, *events)
    one = aggregator()
    await one.start()
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        await one.stop()
    done = one.counts.applied
    stats = await sums_of(client)

    assert stats == expected(events[:done])


@pytest.fixture
def capped(client, clock, until):
    """The sums of the one arm once some events are added up, with at most 3 clicks of a unit."""
    settings = EventSettings(timeout_s=2.0, max_clicks_per_unit=3)

    async def add(*events: Event, key: str = "podium:stats:rollout:1:fp16") -> Counter[str]:
        await append(client, *events)
        one = Aggregator(client, settings, clock)
        await one.start()
        await until(lambda: nothing_is_left(client))
        await one.stop()
        return (await sums_of(client))[key]

    return add


async def test_a_unit_that_clicks_without_end_counts_up_to_its_cap(capped, arm):
    flood = [click(arm()) for _ in range(10)]
    sums = await capped(*flood, click(arm(unit="u2")), click(arm(), kind="impression"))

    assert (sums["clicks"], sums["clicks_capped"], sums["impressions"]) == (4, 7, 1)
    assert sum(n for name, n in sums.items() if name[0] == "c" and name[1:].isdecimal()) == 4


async def test_the_cap_is_of_one_phase_of_one_experiment_whatever_the_variant(capped, arm):
    clicks = [click(arm("fp32"), arm("b", experiment="layout")) for _ in range(2)]
    moved = [click(arm("fp16")) for _ in range(2)]
    other = click(msgspec.structs.replace(arm("fp16"), phase=2))

    sums = await capped(*clicks, *moved, other)
    assert (sums["clicks"], sums["clicks_capped"]) == (1, 1)


async def test_late_clicks_do_not_use_up_the_cap(capped, arm):
    late = msgspec.structs.replace(click(arm()), late=True)
    sums = await capped(*[late] * 5, *[click(arm())] * 3)

    assert (sums["late"], sums["clicks"], sums["clicks_capped"]) == (5, 3, 0)


async def test_the_cap_counts_a_click_once_however_often_it_is_delivered(
    client, aggregator, arm, until
):
    await append(client, *(click(arm()) for _ in range(6)))
    await client.xgroup_create(STREAM, GROUP, id="0")
    first, second = aggregator(), aggregator()
    for one in (first, second):
        one._max_clicks = 4
    read = await read_for(first, client, 6)
    await second._apply(read[:3])
    await first._apply(read)
    await first._apply(read)

    sums = (await sums_of(client))["podium:stats:rollout:1:fp16"]
    assert (sums["clicks"], sums["clicks_capped"]) == (4, 2)
    (key,) = [key async for key in client.scan_iter("podium:clicks:*")]
    assert await client.get(key) == b"6"
    assert await client.ttl(key) > 0


async def test_lapses_and_comparisons_are_added_up_and_make_no_users(
    client, running, arm, exposure, until
):
    lapse = Lapse(arms=(arm(),), at=0.0, code="queue_full", latency_ms=1.0)
    compared = Comparison(
        experiment="rollout",
        phase=1,
        variant="fp16",
        reference="fp32",
        at=0.0,
        overlap=1.0,
        kendall_tau=1.0,
        drift_max=0.0,
        drift_mean=0.0,
        latency_ms=1.0,
        reference_latency_ms=2.0,
        unit=arm().unit,
    )
    await append(client, lapse, lapse, compared)
    async with running():
        await until(lambda: nothing_is_left(client))

    sums = (await sums_of(client))["podium:stats:rollout:1:fp16"]
    assert (sums["lapses"], sums["lapse:queue_full"], sums["users"]) == (2, 2, 0)
    assert sum(n for name, n in sums.items() if name.startswith("comparison:fp32:n")) == 1


async def test_a_fast_slate_has_a_negative_logarithm_and_is_added_up_all_the_same(
    client, running, exposure, until
):
    events = [exposure(latency_ms=0.125) for _ in range(3)]
    await append(client, *events)
    async with running():
        await until(lambda: nothing_is_left(client))

    assert await sums_of(client) == expected(events)


async def test_a_latency_that_is_not_a_number_is_never_added_up(client, running, exposure, until):
    raw = msgspec.msgpack.decode(msgspec.msgpack.encode(exposure()))
    raw[4] = float("nan")
    await client.xadd(STREAM, {b"e": msgspec.msgpack.encode(raw)})
    async with running() as aggregator:
        await until(lambda: nothing_is_left(client))

        assert aggregator.counts.unreadable == 1
    assert await sums_of(client) == {}


async def test_events_of_the_release_before_are_added_up_too(client, running, arm, until):
    """The stream may hold hours of them when this release starts."""
    unit = arm().unit
    old_arm = ["rollout", 1, "fp16", unit]
    exposure = ["exposure.1", "s1", [old_arm], 1.5e9, 4.0, 9, 0, 9, "miss", "onnx", None, "d1"]
    clicked = ["feedback.1", "e1", "click", "s1", "i1", 1, 1.5e9, [old_arm]]
    for event in (exposure, clicked):
        await client.xadd(STREAM, {b"e": msgspec.msgpack.encode(event)})
    async with running() as aggregator:
        await until(lambda: nothing_is_left(client))

        assert aggregator.counts.unreadable == 0
    sums = (await sums_of(client))["podium:stats:rollout:1:fp16"]
    assert (sums["exposures"], sums["clicks"], sums["users"], sums["predictions"]) == (1, 1, 1, 0)
