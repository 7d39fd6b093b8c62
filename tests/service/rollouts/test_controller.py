"""The loop around the rule: one leader, everything on record, nobody overruled."""

from contextlib import asynccontextmanager

import msgspec
import pytest
from msgspec import Struct
from redis.asyncio import Redis

from experiments.standing import Change
from service.engines.link import EngineLink
from service.events.names import statistics_key
from service.events.statistics import ReadStatistics
from service.rollouts.controller import REALLOCATE_EVERY_S, SAID_AGAIN_S, RolloutController
from service.rollouts.lease import Lease
from service.settings import EventSettings
from service.testing import FakeEngine
from tests.service.rollouts.test_live import text
from tests.support.rankers import deployment_of
from tests.support.replicas import ALICE, Replica, replica
from tests.support.simulated_rollout import Shoppers, Truth, fields_of
from tests.support.valkey import ValkeyServer, eventually

EVERY_S = 5.0
STAGE_S = 60.0
BETTER = (Truth(), Truth(ctr=0.1))
WORSE = (Truth(), Truth(ctr=0.02))
EQUAL = (Truth(), Truth())
NAMES = ("old", "new")


def rollout(**fields):
    rule = {"automatic": True, "minimum_stage_s": STAGE_S, "minimum_users": 50} | fields
    lines = "".join(f"{name} = {str(value).lower()}\n" for name, value in rule.items())
    return f"{text('e')}[experiment.rollout]\n{lines}"


@pytest.fixture
def url(valkey):
    return valkey.url


class Leading(Struct):
    """A replica with its controller."""

    replica: Replica
    controller: RolloutController
    client: Redis

    async def step(self, *, after_s=EVERY_S):
        self.replica.clock.advance(after_s)
        await self.replica.live.look()
        return await self.controller.step()

    async def happens(self, truths, *, phase=None, visits=20_000, seed=3):
        """Shoppers of a phase, added up on the event server."""
        phase = self.standing.phase if phase is None else phase
        shoppers = Shoppers(truths, (5_000, 5_000), units=20_000, seed=seed)
        shoppers.visit(visits, 10_000)
        experiment = self.replica.live.current().experiments[0]
        for name, sums in shoppers.figures(experiment, phase).statistics.items():
            await self.client.hset(statistics_key("e", phase, name), mapping=fields_of(sums))

    @property
    def standing(self):
        return self.replica.live.standing("e")

    async def records(self):
        """By the rule, oldest first."""
        found = await self.replica.changes.decisions("e", 100)
        return [record for record in reversed(found) if record.by == "rule"]


@asynccontextmanager
async def leading(home, url, definitions, deployments=None):
    async with (
        replica(home, url, definitions, deployments=deployments) as own,
        Redis.from_url(url) as client,
    ):
        controller = RolloutController(
            own.live,
            own.changes,
            ReadStatistics(client, EventSettings()),
            Lease(client, lasts_s=0.5),
            own.clock,
            every_s=EVERY_S,
        )
        yield Leading(own, controller, client)


async def test_a_better_variant_walks_all_stages_and_every_step_is_on_record(tmp_path, url):
    async with leading(tmp_path / "a", url, rollout()) as a:
        for _ in range(5):
            await a.happens(BETTER)
            await a.step()
            await a.step(after_s=STAGE_S)

        assert (a.standing.state, a.standing.promoted) == ("promoted", "new")
        records = await a.records()
        steps = [(record.action, record.after.traffic_bp) for record in records]
        assert steps == [
            *[("continue", 100), ("advance", 500)],
            *[("continue", 500), ("advance", 2_000)],
            *[("continue", 2_000), ("advance", 5_000)],
            *[("continue", 5_000), ("advance", 10_000)],
            *[("continue", 10_000), ("promote", 10_000)],
        ]
        last = records[-1]
        assert last.reason.startswith("promoted: 'new' has a better CTR than 'old'")
        assert last.evidence["arms"][1]["ctr"]["low"] > 0
        assert last.before.generation + 1 == last.after.generation == a.standing.generation


async def test_a_rollback_is_in_force_on_another_replica_after_its_next_look(tmp_path, url):
    async with (
        leading(tmp_path / "a", url, rollout()) as a,
        replica(tmp_path / "b", url, rollout()) as b,
    ):
        await a.happens(WORSE)
        await a.step()
        assert b.in_force == {"e": ("running", 1)}
        await b.live.look()

        assert b.in_force == a.replica.in_force == {"e": ("rolled_back", 1)}
        (record,) = await a.records()
        assert record.reason.startswith("rolled back: 'new' has a lower CTR than 'old'")
    async with replica(tmp_path / "b", url) as restarted:
        assert restarted.in_force == {"e": ("rolled_back", 1)}


async def test_what_stays_the_same_is_on_record_once(tmp_path, url):
    async with leading(tmp_path / "a", url, rollout()) as a:
        for _ in range(4):
            await a.step()
        await a.happens(EQUAL)
        for _ in range(4):
            await a.step()

        said = [(record.action, record.reason) for record in await a.records()]
        assert said == [
            ("hold", "held: 'old' has no exposures yet"),
            ("continue", "continued: the stage has lasted 25 s of 60 s"),
        ]


async def test_what_goes_to_and_fro_does_not_fill_the_log(tmp_path, url):
    async with leading(tmp_path / "a", url, rollout(minimum_stage_s=1e6)) as a:
        for _ in range(6):
            await a.client.delete(statistics_key("e", 1, "new"))
            await a.step()
            await a.happens(EQUAL, visits=4_000)
            await a.step()
        assert [record.action for record in await a.records()] == ["hold", "continue"]

        await a.client.delete(statistics_key("e", 1, "new"))
        await a.step(after_s=SAID_AGAIN_S)
        assert [record.action for record in await a.records()] == ["hold", "continue", "hold"]


async def test_a_dry_run_records_and_changes_nothing(tmp_path, url):
    async with leading(tmp_path / "a", url, rollout(automatic=False, dry_run=True)) as a:
        await a.happens(WORSE)
        before = a.standing
        for _ in range(3):
            await a.step()

        (record,) = await a.records()
        assert (record.action, record.dry_run, record.after) == ("rollback", True, before)
        assert a.standing == before


async def test_without_automatic_the_rule_keeps_quiet(tmp_path, url):
    async with leading(tmp_path / "a", url, rollout(automatic=False)) as a:
        await a.happens(WORSE)
        await a.step()

        assert a.standing.state == "running"
        assert await a.records() == []


async def test_a_pause_stops_the_rule_and_after_a_change_by_a_person_it_goes_on(tmp_path, url):
    async with leading(tmp_path / "a", url, rollout()) as a:
        await a.happens(WORSE)
        await a.replica.changes.change("e", Change(action="pause"), ALICE)
        await a.step(after_s=STAGE_S)
        assert await a.records() == []

        await a.replica.changes.change("e", Change(action="start"), ALICE)
        await a.replica.changes.change("e", Change(action="ramp", stage=3), ALICE)
        await a.happens(EQUAL)
        await a.step()
        await a.step(after_s=STAGE_S)
        assert (a.standing.stage, a.standing.traffic_bp) == (4, 10_000)


async def test_one_of_many_processes_leads_and_another_takes_over(tmp_path, url):
    async with (
        leading(tmp_path / "a", url, rollout()) as a,
        leading(tmp_path / "b", url, rollout()) as b,
    ):
        assert [await a.step(), await b.step(), await a.step()] == [True, False, True]
        await a.controller.stop()
        assert await b.step()
        assert not await a.step()
        await b.happens(WORSE)

        # The lease runs out by itself if its holder says nothing any more.
        await eventually(a.step)
        assert a.standing.state == "rolled_back"


async def test_a_leader_that_was_paused_cannot_act_on_what_it_knew(tmp_path, url):
    """It judged WORSE, and was paused before it could write; meanwhile a person stepped in."""
    async with (
        leading(tmp_path / "a", url, rollout()) as a,
        replica(tmp_path / "b", url, rollout()) as b,
    ):
        await a.happens(WORSE)
        await b.changes.change("e", Change(action="ramp", stage=4), ALICE)
        # No look: this process still goes by the standing from before.
        assert await a.controller.step()

        assert await a.records() == []
        standing = await b.store.standing("e")
        assert (standing.state, standing.stage) == ("running", 4)


async def test_clocks_that_jump_end_no_stage_early(tmp_path, url):
    async with leading(tmp_path / "a", url, rollout()) as a:
        await a.happens(EQUAL)
        await a.step()
        await a.step(after_s=STAGE_S)
        await a.happens(EQUAL)
        assert a.standing.stage == 1

        a.replica.clock.jump(-1_000.0)
        await a.step()
        a.replica.clock.jump(100_000.0)
        await a.step()
        assert a.standing.stage == 1
        await a.step(after_s=STAGE_S)
        assert a.standing.stage == 2


async def test_an_event_server_that_is_away_holds_everything(tmp_path):
    with ValkeyServer(appendonly="yes", appendfsync="always") as server:
        async with leading(tmp_path / "a", server.url, rollout()) as a:
            await a.happens(WORSE)
            server.kill()
            assert not await a.controller.step()
            assert a.standing.state == "running"

            server.start()
            await eventually(a.step)
            assert a.standing.state == "rolled_back"


async def test_an_experiment_that_assigns_nobody_is_held_with_the_reason(
    tmp_path, url, tiny_bundle, clock
):
    pending = EngineLink.pending(FakeEngine("tensorrt").info)
    cold = deployment_of(tiny_bundle, pending, clock=clock, name="cold")
    definitions = rollout().replace('name = "new"', 'name = "new"\ndeployment = "cold"')
    async with leading(tmp_path / "a", url, definitions, {"cold": cold}) as a:
        await a.controller.step()

        (record,) = await a.records()
        assert record.reason == (
            "held: there are no figures: nobody is assigned: variant new, deployment cold: "
            "no engine is warm: tensorrt is loading"
        )


# --- bandits ---------------------------------------------------------------------------------


async def test_a_bandit_moves_traffic_to_the_better_variant_and_says_why(tmp_path, url):
    async with leading(tmp_path / "a", url, text("e", policy="thompson")) as a:
        await a.happens(BETTER)
        await a.step(after_s=REALLOCATE_EVERY_S / 2)
        assert a.standing.shares_bp is None
        await a.step(after_s=REALLOCATE_EVERY_S)

        assert a.standing.shares_bp == {"old": 500, "new": 9_500}
        assert a.standing.phase == 2
        (record,) = await a.records()
        assert record.action == "allocate"
        assert record.reason.endswith("'old' 50 to 5 %, 'new' 50 to 95 %")
        assert record.evidence["arms"][1]["low"] > record.evidence["arms"][0]["high"]
        (experiment,) = a.replica.live.current().experiments
        assert [variant.share_bp for variant in experiment.variants] == [500, 9_500]


async def test_a_bandit_learns_from_earlier_phases_and_leaves_small_moves(tmp_path, url):
    async with leading(tmp_path / "a", url, text("e", policy="thompson")) as a:
        await a.happens(BETTER)
        await a.step(after_s=REALLOCATE_EVERY_S + 1)
        assert a.standing.phase == 2
        # Nothing new: what was learned in phase 1 still holds, so nothing moves.
        await a.step(after_s=REALLOCATE_EVERY_S + 1)
        assert a.standing.phase == 2

        await a.happens(WORSE, visits=200_000)
        await a.step(after_s=REALLOCATE_EVERY_S + 1)
        assert a.standing.shares_bp == {"old": 9_500, "new": 500}


async def test_a_bandit_without_impressions_stays(tmp_path, url):
    async with leading(tmp_path / "a", url, text("e", policy="thompson")) as a:
        await a.step(after_s=2 * REALLOCATE_EVERY_S)

        assert a.standing.shares_bp is None


async def test_the_audit_log_reads_back_as_json(tmp_path, url):
    async with leading(tmp_path / "a", url, rollout()) as a:
        await a.happens(WORSE)
        await a.step()

        (record,) = await a.records()
        assert msgspec.json.decode(msgspec.json.encode(record))["evidence"]["arms"]
