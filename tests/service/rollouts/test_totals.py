"""What the metrics show of experiments: how they stand, and what one leader reads of the sums."""

from contextlib import asynccontextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from experiments.standing import Change
from service.events.names import statistics_key
from service.events.statistics import ReadStatistics
from service.rollouts.gauges import show_experiments, show_totals
from service.rollouts.totals import ReadTotals
from service.settings import EventSettings
from service.telemetry.merging import encode_snapshot, merged_page
from service.telemetry.metrics import Metrics
from tests.service.rollouts.test_live import text
from tests.support.replicas import ALICE, Replica, replica
from tests.support.valkey import ValkeyServer

ROLLOUT = "[experiment.rollout]\nstages_bp = [100, 1000, 10000]\n"


class Watched:
    """A replica whose experiments are on a page of metrics."""

    def __init__(self, own: Replica, client: Redis) -> None:
        self.replica, self.client, self.leads = own, client, True
        statistics = ReadStatistics(client, EventSettings(timeout_s=2.0))
        self.totals = ReadTotals(own.live, statistics, lambda: self.leads)
        self.metrics = Metrics((), version="1.0")
        show_experiments(self.metrics, own.live)
        show_totals(self.metrics, self.totals)

    async def counted(self, variant, **sums):
        phase = self.replica.live.standing("e").phase
        await self.client.hset(statistics_key("e", phase, variant), mapping=sums)
        await self.totals.read()

    async def change(self, action, **change):
        await self.replica.changes.change("e", Change(action=action, **change), ALICE)

    def shown(self, name):
        """The values of its labels, in the order of their names, to the figure."""
        page = merged_page([encode_snapshot(list(self.metrics.families()))], "")[0].decode()
        samples = [s for f in text_string_to_metric_families(page) for s in f.samples]
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for sample in samples
            if sample.name == name
        }


@pytest.fixture
def url(valkey):
    return valkey.url


@asynccontextmanager
async def watched(home, url, definitions):
    async with replica(home, url, definitions) as own, Redis.from_url(url) as client:
        yield Watched(own, client)


async def test_the_leader_shows_the_sums_of_the_present_phase(tmp_path, url):
    async with watched(tmp_path, url, text("e") + ROLLOUT) as own:
        await own.counted("old", users=500, impressions=900, clicks=90)
        await own.counted("new", users=480, impressions=870, clicks=99)

        assert own.shown("podium_clicks_total") == {("e", "old"): 90, ("e", "new"): 99}
        assert own.shown("podium_impressions_total") == {("e", "old"): 900, ("e", "new"): 870}
        assert own.shown("podium_units") == {("e", "old"): 500, ("e", "new"): 480}
        assert own.shown("podium_srm_pvalue")["e",] == pytest.approx(0.523, abs=0.001)
        assert own.shown("podium_aggregation_backlog") == {(): 0}


async def test_a_split_that_is_off_shows_and_too_few_units_show_nothing(tmp_path, url):
    async with watched(tmp_path, url, text("e")) as own:
        await own.counted("old", users=3)
        assert own.shown("podium_srm_pvalue") == {}

        await own.counted("old", users=5_400)
        await own.counted("new", users=4_600)
        assert own.shown("podium_srm_pvalue")["e",] < 0.001


async def test_whoever_does_not_lead_shows_no_sums(tmp_path, url):
    async with watched(tmp_path, url, text("e")) as own:
        await own.counted("old", clicks=9)
        own.leads = False

        assert own.shown("podium_clicks_total") == {}
        assert own.shown("podium_experiment_phase") == {("e",): 1}


async def test_without_the_event_server_there_are_no_sums(tmp_path):
    with ValkeyServer() as server:
        async with watched(tmp_path, server.url, text("e")) as own:
            await own.counted("old", clicks=9)
            server.stop()
            await own.totals.read()

            assert own.shown("podium_clicks_total") == {}


async def test_how_an_experiment_stands_follows_its_changes(tmp_path, url):
    async with watched(tmp_path, url, text("e") + ROLLOUT) as own:
        before = own.shown("podium_config_generation")["e",]
        await own.change("ramp", stage=1)

        assert own.shown("podium_rollout_stage") == {("e",): 2}
        assert own.shown("podium_rollout_stages") == {("e",): 3}
        assert own.shown("podium_experiment_traffic_ratio") == {("e",): 0.1}
        assert own.shown("podium_variant_share_ratio") == {("e", "old"): 0.5, ("e", "new"): 0.5}
        assert own.shown("podium_config_generation") == {("e",): before + 1}

        await own.change("pause")
        states = own.shown("podium_experiment_state")
        assert [state for (_, state), is_it in states.items() if is_it] == ["paused"]


async def test_a_file_that_is_refused_shows_until_it_is_mended(tmp_path, url):
    async with watched(tmp_path, url, text("e")) as own:
        assert own.shown("podium_config_last_reload_successful") == {(): 1}
        await own.replica.reread("broken = [")
        assert own.shown("podium_config_last_reload_successful") == {(): 0}
        await own.replica.reread(text("e", traffic_bp=5000))
        assert own.shown("podium_config_last_reload_successful") == {(): 1}
