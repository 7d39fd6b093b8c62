"""Reports from what a service has: file, standings, audit log, sums of all phases."""

from contextlib import asynccontextmanager

import pytest
from msgspec import Struct
from redis.asyncio import Redis

from experiments.standing import Change
from service.errors import ReportUnavailable, UnknownExperiment
from service.events.names import STREAM, statistics_key
from service.events.statistics import ReadStatistics
from service.rollouts.reporting import CHECKED_AGAIN_S, EARLIER_KEPT_S, ExperimentReports
from service.settings import EventSettings
from tests.service.rollouts.test_live import text
from tests.support.replicas import ALICE, Replica, replica
from tests.support.simulated_rollout import Shoppers, Truth, fields_of
from tests.support.valkey import ValkeyServer

BETTER = (Truth(), Truth(ctr=0.1))
EQUAL = (Truth(), Truth())
ROLLOUT = "[experiment.rollout]\nminimum_users = 50\n"


@pytest.fixture
def url(valkey):
    return valkey.url


class Reporting(Struct):
    """A replica that reports."""

    replica: Replica
    reports: ExperimentReports
    client: Redis

    async def happens(self, truths, *, seed=3):
        """Shoppers of the present phase, added up on the event server."""
        experiment = self.replica.live.current().experiments[0]
        shoppers = Shoppers(truths, (5_000, 5_000), units=20_000, seed=seed)
        shoppers.visit(20_000, 10_000)
        for name, sums in shoppers.figures(experiment, experiment.phase).statistics.items():
            key = statistics_key("e", experiment.phase, name)
            await self.client.hset(key, mapping=fields_of(sums))

    async def change(self, action, **change):
        self.replica.clock.advance(3_600)
        await self.replica.changes.change("e", Change(action=action, **change), ALICE)

    async def report(self, **how):
        return await self.reports.report("e", **how)


@asynccontextmanager
async def reporting(home, url, definitions=None, *, price_per_hour=None):
    async with (
        replica(home, url, definitions or text("e") + ROLLOUT) as own,
        Redis.from_url(url) as client,
    ):
        statistics = ReadStatistics(client, EventSettings(timeout_s=2.0))
        reports = ExperimentReports(
            own.live, own.changes, statistics, own.clock, price_per_hour=price_per_hour
        )
        yield Reporting(own, reports, client)


async def test_a_report_knows_all_phases_the_aa_phase_and_who_decided(tmp_path, url):
    definitions = text("e", state="aa") + ROLLOUT
    async with reporting(tmp_path, url, definitions, price_per_hour=1.0) as own:
        await own.happens(EQUAL)
        own.replica.clock.advance(3_600)
        await own.replica.reread(text("e") + ROLLOUT)
        await own.happens(BETTER)
        await own.change("ramp", stage=4)
        await own.happens(BETTER, seed=4)

        report = await own.report()

    kinds = [(phase.phase, phase.kind) for phase in report.phases]
    assert kinds == [(3, "present"), (2, "earlier"), (1, "before")]
    difference = report.variants[1].difference
    assert difference.pooled.phases == (3, 2)
    assert difference.pooled.change.always.low > 0
    assert difference.cuped.phases == (3, 1)
    assert [made.action for made in report.decisions] == ["ramp", "define", "define"]
    assert report.decisions[0].by == "key:alice"
    assert report.rule.acts == "asked"
    assert report.variants[0].cost is not None
    assert report.since is not None


async def test_a_report_tells_what_its_figures_do_not_hold_yet(tmp_path, url):
    async with reporting(tmp_path, url) as own:
        before = await own.report()
        for _ in range(3):
            await own.client.xadd(STREAM, {b"e": b"anything"})
        waiting = await own.report()

    assert before.notes == ()
    assert waiting.notes == ("3 events are not added up yet, of this experiment or others.",)


async def test_sums_are_in_it_only_if_they_are_asked_for(tmp_path, url):
    async with reporting(tmp_path, url) as own:
        await own.happens(BETTER)

        assert (await own.report()).statistics is None
        found = (await own.report(with_statistics=True)).statistics
        assert set(found["1"]) == {"old", "new"}


async def test_our_own_tests_are_checked_anew_after_a_while(tmp_path, url):
    async with reporting(tmp_path, url, text("e", state="aa")) as own:
        await own.happens(EQUAL)
        first = (await own.report()).self_check
        await own.happens(EQUAL, seed=9)
        own.replica.clock.advance(CHECKED_AGAIN_S / 2)
        assert (await own.report()).self_check is first
        own.replica.clock.advance(CHECKED_AGAIN_S)
        later = (await own.report()).self_check

    assert first.check.of("always-valid, peeking").rate.value <= first.check.alpha
    assert later is not first


async def test_phases_that_are_over_are_read_again_after_a_while_and_the_present_always(
    tmp_path, url
):
    async with reporting(tmp_path, url) as own:
        await own.happens(EQUAL)
        await own.change("ramp", stage=1)
        await own.happens(EQUAL)

        def users(report):
            return [phase.users["new"] for phase in report.phases]

        first = users(await own.report())
        for phase in (1, 2):
            await own.client.hincrby(statistics_key("e", phase, "new"), "users", 5)
        soon = users(await own.report())
        own.replica.clock.advance(EARLIER_KEPT_S)
        later = users(await own.report())

    assert soon == [first[0] + 5, first[1]]
    assert later == [first[0] + 5, first[1] + 5]


async def test_what_is_not_there_has_no_report(tmp_path, url):
    async with reporting(tmp_path, url) as own:
        with pytest.raises(UnknownExperiment, match="the configured ones: e"):
            await own.reports.report("other")


async def test_without_the_event_server_there_is_no_report(tmp_path):
    with ValkeyServer() as server:
        async with reporting(tmp_path, server.url) as own:
            server.stop()
            with pytest.raises(ReportUnavailable):
                await own.report()
