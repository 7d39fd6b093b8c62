"""Missing rows are computed in the background: once, bounded, the most wanted first."""

import asyncio

import numpy as np
import pytest

from ranking_models.bundle import Bundle
from service.cache.rows import RowLevels
from service.deployments.row_fills import EARLY_CREDIT, MOST_WAITING, SHARE
from service.messages import RankRequest
from service.settings import CacheSettings, DeploymentSettings
from service.testing import FakeEngine, MemoryStore
from tests.support.bundles import write_tiny_segmented_bundle
from tests.support.rankers import deployment_of

SPEAKERS = 21
"""Twenty users that speak for four segments, and nobody for segment 0."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return Bundle.open(write_tiny_segmented_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture
def store(clock):
    return MemoryStore(clock)


class Process:
    """A deployment's rows in one process."""

    def __init__(self, bundle, store, clock):
        self.engine = FakeEngine()
        deployment = deployment_of(
            bundle,
            self.engine,
            clock=clock,
            rows=RowLevels.over(store, CacheSettings(), clock),
            settings=DeploymentSettings(model="tiny", cache="segment"),
        )
        self.rows, self.filler = deployment.segments.rows, deployment.segments.filler
        self.context = deployment.features.encode(RankRequest(candidates=("i1",))).context
        self.space = self.rows.space(self.context)

    def want(self, *items, times=2):
        positions = np.array(items, np.int32)
        for _ in range(times):
            self.rows.table.find(self.space.prefix, positions)
        self.filler.want(self.space, self.context, positions)

    @property
    def counters(self):
        return self.rows.status().counters


@pytest.fixture
def process(bundle, store, clock):
    return Process(bundle, store, clock)


async def test_a_row_is_scored_with_every_representative(process, store):
    process.want(1, 2)
    await process.filler.quiet()

    assert process.engine.calls == [2 * SPEAKERS]
    assert sorted(store.entries) == [process.space.key(1), process.space.key(2)]


async def test_what_many_want_at_once_is_computed_once(process):
    for _ in range(50):
        process.want(1, 2)
    await process.filler.quiet()
    process.want(3)
    await process.filler.quiet()

    assert process.engine.calls == [2 * SPEAKERS, SPEAKERS]


async def test_two_processes_compute_a_row_once(bundle, store, clock):
    one, other = Process(bundle, store, clock), Process(bundle, store, clock)
    one.want(1, 2, 3)
    other.want(1, 2, 3)

    await asyncio.gather(one.filler.quiet(), other.filler.quiet())

    assert sum(one.engine.calls) + sum(other.engine.calls) == 3 * SPEAKERS


async def test_what_another_process_has_computed_is_taken_over(bundle, store, clock):
    one, other = Process(bundle, store, clock), Process(bundle, store, clock)
    one.want(1)
    await one.filler.quiet()

    other.want(1)
    await other.filler.quiet()

    assert other.engine.calls == []
    assert other.counters.found_elsewhere == 1


async def test_what_is_asked_for_most_comes_first(process):
    process.want(1, 2, 3, 4, 5, 6)
    for _ in range(5):
        process.rows.table.find(process.space.prefix, np.array([6]))
    credit = process.filler._credit
    process.filler._credit = float(SPEAKERS)

    await process.filler.quiet()

    assert process.rows.table.find(process.space.prefix, np.array([1, 6])).found.tolist() == [
        False,
        True,
    ]
    assert credit == EARLY_CREDIT


async def test_fills_cost_no_more_than_a_share_of_what_is_scored_beside_what_rows_save(process):
    process.filler._credit = 0.0
    process.want(1, 2)
    await process.filler.quiet()
    assert process.engine.calls == []

    process.filler.earn(hits=0, misses=round(SPEAKERS / SHARE))
    process.want(1, 2)
    await process.filler.quiet()
    assert process.engine.calls == [SPEAKERS]

    process.filler.earn(hits=SPEAKERS, misses=0)
    process.want(1, 2)
    await process.filler.quiet()
    assert process.engine.calls == [SPEAKERS, SPEAKERS]


async def test_no_more_rows_wait_than_there_is_room_for(process):
    process.filler._credit = 0.0
    for first in range(0, 3 * MOST_WAITING, 1_000):
        process.want(*range(first, first + 1_000))

    assert process.filler.waiting <= MOST_WAITING


async def test_what_is_filled_ahead_needs_neither_demand_nor_credit(process, store):
    process.filler._credit = 0.0

    computed = await process.filler.fill(process.space, process.context, np.arange(6))
    again = await process.filler.fill(process.space, process.context, np.arange(8))

    assert (computed, again) == (6, 2), "what is there already is not computed again"
    assert process.engine.calls == [4 * SPEAKERS, 2 * SPEAKERS, 2 * SPEAKERS]
    assert sorted(store.entries) == sorted(process.space.key(at) for at in range(8))
    assert process.filler._credit == 0.0


async def test_a_purge_drops_what_waits(process, store):
    process.filler._credit = 0.0
    process.want(1, 2)
    await process.filler.quiet()
    store.epoch += 1

    process.filler.earn(hits=1_000, misses=0)
    process.want(1)
    await process.filler.quiet()

    assert process.engine.calls == []
    assert process.filler.waiting == 0
