"""What a report is made from."""

import msgspec
import pytest

from experiments.definition import Experiment, Variant
from experiments.variant_statistics import VariantStatistics, increments
from service.errors import ReportUnavailable
from service.events.aggregation import Aggregator
from service.events.names import COUNTS, GROUP, STREAM
from service.events.statistics import ReadStatistics
from service.settings import EventSettings

EXPERIMENT = Experiment(
    key="rollout",
    variants=(Variant(name="fp32", share_bp=5000), Variant(name="fp16", share_bp=5000)),
)


@pytest.fixture
def statistics(client, settings):
    return ReadStatistics(client, settings)


async def test_the_sums_of_each_variant_in_this_phase(
    statistics, client, settings, clock, exposure, arm, until
):
    shown = exposure(arm("fp16"), latency_ms=12.0)
    before = exposure(msgspec.structs.replace(arm("fp16"), phase=2))
    for event in (shown, before):
        await client.xadd(STREAM, {b"e": msgspec.msgpack.encode(event)})
    aggregator = Aggregator(client, settings, clock)
    await aggregator.start()
    await until(lambda: aggregator.counts.applied == 2)
    await aggregator.stop()
    read = await statistics.read(EXPERIMENT)

    assert list(read) == ["fp32", "fp16"]
    assert read["fp32"].users == read["fp32"].exposures == 0
    fields = {**increments(shown, shown.arms[0]), "users": 1}
    expected = VariantStatistics.from_fields(fields)
    assert repr(read["fp16"]) == repr(expected)


async def test_what_came_in_and_what_became_of_it(statistics, client):
    assert await statistics.counts() == {}
    await client.hset(COUNTS, mapping={"accepted": 3, "rejected:token_forged": 1})

    assert await statistics.counts() == {"accepted": 3, "rejected:token_forged": 1}


async def test_the_backlog_is_what_was_not_added_up_yet(
    statistics, client, settings, clock, exposure, until
):
    assert await statistics.backlog() == 0
    for _ in range(3):
        await client.xadd(STREAM, {b"e": msgspec.msgpack.encode(exposure())})
    assert await statistics.backlog() == 3

    aggregator = Aggregator(client, settings, clock)
    await aggregator._create_group()
    assert await statistics.backlog() == 3
    await client.xreadgroup(GROUP, "crashed", {STREAM: ">"}, count=1)
    assert await statistics.backlog() == 3
    await aggregator.start()
    await until(lambda: aggregator.counts.applied == 2)
    assert await statistics.backlog() == 1
    await aggregator.stop()


async def test_a_backlog_that_the_server_cannot_tell_is_all_there_is(statistics, client, exposure):
    ids = [await client.xadd(STREAM, {b"e": msgspec.msgpack.encode(exposure())}) for _ in range(4)]
    await client.xdel(STREAM, ids[2])  # a hole: the server no longer counts what is behind it
    await client.xgroup_create(STREAM, GROUP, id=ids[1])

    assert await statistics.backlog() == 3


async def test_without_a_server_there_is_no_report(server, statistics):
    server.kill()
    for read in (statistics.read(EXPERIMENT), statistics.counts(), statistics.backlog()):
        with pytest.raises(ReportUnavailable, match="does not answer"):
            await read


async def test_a_server_that_does_not_answer_is_not_waited_for(server, client):
    server.freeze()
    with pytest.raises(ReportUnavailable):
        await ReadStatistics(client, EventSettings(timeout_s=0.05)).counts()
    server.thaw()


async def test_several_phases_are_read_together_and_apart(
    statistics, client, settings, clock, exposure, arm, until
):
    later = msgspec.structs.replace(arm("fp16"), phase=2)
    for event in (exposure(arm("fp16")), exposure(later), exposure(later)):
        await client.xadd(STREAM, {b"e": msgspec.msgpack.encode(event)})
    aggregator = Aggregator(client, settings, clock)
    await aggregator.start()
    await until(lambda: aggregator.counts.applied == 3)
    await aggregator.stop()

    read = await statistics.read_phases(EXPERIMENT, [1, 2, 3, 2])
    assert {phase: sums["fp16"].exposures for phase, sums in read.items()} == {1: 1, 2: 2, 3: 0}
    assert (await statistics.read(EXPERIMENT, 2))["fp16"].exposures == 2
    assert await statistics.read_phases(EXPERIMENT, []) == {}


async def test_what_was_interleaved_is_read_beside_the_variants(statistics):
    mixed = Experiment(
        key="rollout",
        variants=(
            Variant(name="fp32", share_bp=5000),
            Variant(name="fp16", share_bp=5000, deployment="other"),
        ),
        method="interleave",
    )

    assert list(await statistics.read(mixed)) == ["fp32", "fp16", "interleaved"]
