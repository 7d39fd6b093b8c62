"""What each part says about itself is true for callers."""

import gc
import os
import weakref

import pytest

from ranking_models.bundle import Bundle
from service.deployments import Deployments
from service.engines.link import EngineLink
from service.errors import EngineFailed, EventsUnavailable
from service.events.aggregation import STALLED_S, Aggregator
from service.events.batches import ObservationBatch
from service.events.event_log import EventLog
from service.events.spool import Spool
from service.events.stream import EventStream
from service.probes import (
    aggregation_health,
    engines_health,
    events_health,
    spool_health,
    watch_deployments,
    workers_health,
)
from service.processes.board import Board
from service.settings import EngineSettings, EventSettings, RedisSettings
from service.stores import events_client
from service.testing import FakeEngine, FaultyEngine
from tests.support.bundles import write_tiny_bundle
from tests.support.figures import page_of
from tests.support.rankers import deployment_of, quiet_telemetry

SETTINGS = EventSettings()


@pytest.fixture
async def nobody(tmp_path):
    """A client of an event server that is not there."""
    async with events_client(f"unix://{tmp_path}/no.sock", RedisSettings(), SETTINGS) as client:
        yield client


def score(deployment):
    (chain,) = deployment.chains
    golden, _ = deployment.bundle.golden
    try:
        chain.score(golden)
    except EngineFailed:
        return


@pytest.fixture
def engines():
    return FaultyEngine(FakeEngine("first")), FaultyEngine(FakeEngine("second"))


@pytest.mark.parametrize("allow_degraded", [True, False])
def test_one_failing_engine_of_two_costs_no_ranking(tiny_bundle, clock, engines, allow_degraded):
    deployment = deployment_of(tiny_bundle, *engines, clock=clock)
    assert engines_health(deployment, allow_degraded).status == "ok"

    engines[0].fail()
    score(deployment)

    found = engines_health(deployment, allow_degraded)
    assert found.status == "degraded"
    assert found.detail == "other engines answer: first: a fault that was ordered"


def test_an_engine_that_is_still_being_loaded_costs_no_ranking(tiny_bundle, clock, engines):
    pending = EngineLink.pending(FakeEngine("slow").info, clock=clock)
    deployment = deployment_of(tiny_bundle, pending, *engines, clock=clock)

    found = engines_health(deployment, allow_degraded=False)

    assert found.status == "degraded"
    assert found.detail == "other engines answer: slow is being loaded"


@pytest.mark.parametrize(
    ("allow_degraded", "status", "said"),
    [(True, "degraded", "popularity answers"), (False, "failed", "is refused")],
)
def test_with_no_engine_left_it_depends_on_what_is_allowed(
    tiny_bundle, clock, engines, allow_degraded, status, said
):
    deployment = deployment_of(tiny_bundle, *engines, clock=clock)
    for engine in engines:
        engine.fail()
    score(deployment)

    found = engines_health(deployment, allow_degraded)
    assert found.status == status
    assert said in found.detail
    assert "first: a fault" in found.detail
    assert "second: a fault" in found.detail

    score(deployment)
    assert "other engines answer: second" in engines_health(deployment, allow_degraded).detail


def test_a_deployment_by_popularity_has_no_engine_to_fail(tiny_bundle, clock):
    assert engines_health(deployment_of(tiny_bundle, clock=clock), False).status == "ok"


async def test_events_are_not_said_to_be_spooled_when_they_are_refused(nobody, tmp_path, clock):
    full = Spool(tmp_path / "spool", 10, clock)
    log = EventLog(EventStream(nobody, SETTINGS), full, clock)
    assert events_health(log).status == "ok"

    with pytest.raises(EventsUnavailable):
        await log.keep_observations(ObservationBatch("batch", (b"exposure",)))

    assert events_health(log).status == "degraded"
    assert "events are refused" in events_health(log).detail
    await log.stop()


async def test_events_that_wait_in_the_spool_are_counted(nobody, tmp_path, clock):
    log = EventLog(EventStream(nobody, SETTINGS), Spool(tmp_path / "s", 1 << 20, clock), clock)

    await log.keep_observations(ObservationBatch("batch", (b"exposure",)))

    assert events_health(log).detail == ("the event server is away, events go to the spool: 1 wait")
    await log.stop()


async def test_a_damaged_segment_shows_until_a_person_has_taken_it_away(tmp_path, clock):
    spool = Spool(tmp_path / "spool", 1 << 20, clock)
    await spool.append(b"event")
    segment = await spool.take()
    await spool.finish(segment, damaged=True)
    # Not only in the process that met it.
    later = Spool(tmp_path / "spool", 1 << 20, clock)
    await later.take()
    (kept,) = (tmp_path / "spool").iterdir()

    assert spool_health(later).status == "degraded"
    assert kept.name in spool_health(later).detail

    kept.unlink()
    await later.take()
    assert spool_health(later).status == "ok"
    await spool.close()
    await later.close()


async def test_an_aggregator_that_hangs_is_seen(nobody, clock):
    aggregator = Aggregator(nobody, SETTINGS, clock)
    assert aggregation_health(aggregator).status == "ok"

    clock.advance(STALLED_S + 1)

    assert aggregation_health(aggregator).status == "degraded"
    assert "no step for 31 s" in aggregation_health(aggregator).detail


def test_the_gauges_follow_the_version_that_serves(tmp_path, clock):
    """The old version's would otherwise stand there for ever, as if it were still loaded."""
    bundles = [Bundle.open(write_tiny_bundle(tmp_path, seed=seed)) for seed in (1, 2)]
    old, new = (deployment_of(bundle, FakeEngine("cpu"), clock=clock) for bundle in bundles)
    deployments = Deployments([old])
    telemetry = quiet_telemetry(clock)
    metrics = telemetry.metrics
    watch_deployments(metrics, deployments, EngineSettings())
    deployments.on_change(lambda: watch_deployments(metrics, deployments, EngineSettings()))

    deployments.replace([new])

    page = page_of(telemetry)[0].decode()
    assert bundles[1].manifest.version in page
    assert bundles[0].manifest.version not in page
    assert page.count("podium_engine_state{") == 1


def test_the_gauges_of_a_version_that_left_do_not_hold_it(tiny_bundle, clock):
    """Its engines would be closed only when Python collects, or after the longest wait."""
    metrics = quiet_telemetry(clock).metrics
    first, second = (deployment_of(tiny_bundle, FakeEngine(), clock=clock) for _ in range(2))
    deployments = Deployments([first])
    watch_deployments(metrics, deployments, EngineSettings())
    gone = weakref.ref(first)

    deployments.replace([second])
    watch_deployments(metrics, deployments, EngineSettings())
    gc.disable()
    del first
    gc.enable()

    assert gone() is None


def test_with_a_worker_less_the_others_say_so():
    board = Board.create(2)
    try:
        for slot in board.slots:
            slot.serving(True)
        assert workers_health(board).status == "ok"

        board.slots[1].clear()

        found = workers_health(board)
        assert found.status == "degraded"
        assert found.detail is not None
        assert found.detail.startswith("1 of 2 workers serve")
    finally:
        os.close(board.descriptor)
