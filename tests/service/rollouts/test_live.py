"""Experiments that follow their file and the event server, on several replicas at once."""

import asyncio

import pytest

from experiments.assignment import ForceRefused, Units
from experiments.source import ExperimentInvalid
from experiments.standing import Change
from ranking_models.bundle import Bundle
from service.deployments import Deployments
from service.engines.link import EngineLink
from service.rollouts import store as names
from service.rollouts.copy import StandingCopy
from service.rollouts.fitness import Fitness
from service.rollouts.live import LiveExperiments
from service.rollouts.store import StandingStore
from service.settings import EventSettings, RedisSettings
from service.stores import events_client
from service.testing import FakeClock, FakeEngine
from tests.support.bundles import write_tiny_bundle
from tests.support.rankers import deployment_of
from tests.support.replicas import ALICE, replica
from tests.support.valkey import ValkeyServer, eventually

SPLIT = """
[[experiment]]
key = "{key}"
{fields}
[[experiment.variant]]
name = "old"
share_bp = 5000
[[experiment.variant]]
name = "new"
share_bp = 5000
"""


def text(*keys: str, **fields: object) -> str:
    lines = "\n".join(f"{name} = {value!r}" for name, value in fields.items())
    return "".join(SPLIT.format(key=key, fields=lines) for key in keys)


@pytest.fixture
def url(valkey):
    return valkey.url


async def test_an_edit_of_the_split_is_one_new_phase_on_all_replicas(tmp_path, url):
    async with (
        replica(tmp_path / "a", url, text("e")) as a,
        replica(tmp_path / "b", url, text("e")) as b,
    ):
        edited = text("e", traffic_bp=5000)
        a.write(edited)
        b.write(edited)
        for _ in range(3):
            await asyncio.gather(a.live.look(), b.live.look())

        assert a.in_force == b.in_force == {"e": ("running", 2)}
        assert a.live.current().digest == b.live.current().digest
        history = await a.changes.decisions("e", 10)
        assert [record.reason for record in history] == [
            "the split was edited: phase 2 begins",
            "first read",
        ]
        assert {record.by for record in history} == {"file"}


async def test_replicas_with_different_files_keep_to_their_phases_and_do_not_undo_each_other(
    tmp_path, url
):
    async with (
        replica(tmp_path / "a", url, text("e")) as a,
        replica(tmp_path / "b", url, text("e")) as b,
    ):
        await b.reread(text("e", salt="other"))
        for _ in range(3):
            await a.live.look()
            await b.live.look()

        assert a.in_force == {"e": ("running", 1)}
        assert b.in_force == {"e": ("running", 2)}
        assert a.live.status().status == "other_definition"
        assert b.live.status().status == "ok"
        await b.changes.change("e", Change(action="rollback"), ALICE)
        await a.live.look()
        assert a.in_force == {"e": ("rolled_back", 1)}
        await a.reread(text("e", salt="other"))
        assert a.in_force == b.in_force == {"e": ("rolled_back", 2)}
        assert len(await a.changes.decisions("e", 10)) == 3


async def test_an_invalid_file_is_told_once_and_the_last_good_one_stays(tmp_path, url, caplog):
    async with replica(tmp_path / "a", url, text("e")) as a:
        before = a.live.current()
        a.write(text("e", traffic_bp=-1))
        for _ in range(5):
            await a.live.look()

        assert a.live.current() is before
        status = a.live.status()
        assert status.status == "invalid_file"
        assert "traffic_bp must be 0 to 10000" in (status.problem or "")
        told = [record for record in caplog.records if "last good" in record.message]
        assert len(told) == 1

        await a.reread(text("e", traffic_bp=5000))
        assert a.live.status().status == "ok"
        assert a.in_force == {"e": ("running", 2)}


@pytest.mark.parametrize("broken", ["layer", "missing"])
async def test_a_file_that_overlaps_or_is_gone_leaves_what_was_in_force(tmp_path, url, broken):
    async with replica(tmp_path / "a", url, text("e", layer="l")) as a:
        if broken == "layer":
            a.write(text("e", "f", layer="l"))
        else:
            (a.home / "experiments.toml").unlink()
        for _ in range(3):
            await a.live.look()

        assert a.in_force == {"e": ("running", 1)}
        assert a.live.status().status == "invalid_file"


async def test_a_file_that_is_being_written_is_not_read(tmp_path, url):
    async with replica(tmp_path / "a", url, text("e", "f")) as a:
        whole = text("e", "f", traffic_bp=5000)
        with (a.home / "experiments.toml").open("w") as file:
            file.write(whole[: len(whole) // 2])
            file.flush()
            await a.live.look()
            assert a.in_force == {"e": ("running", 1), "f": ("running", 1)}
            file.write(whole[len(whole) // 2 :])
        await a.live.look()
        await a.live.look()

        assert a.in_force == {"e": ("running", 2), "f": ("running", 2)}
        assert len(await a.changes.decisions("f", 10)) == 2


async def test_an_experiment_that_is_removed_comes_back_as_it_stood(tmp_path, url):
    async with replica(tmp_path / "a", url, text("e", "f")) as a:
        await a.changes.change("e", Change(action="rollback"), ALICE)
        await a.reread(text("f"))
        assert a.in_force == {"f": ("running", 1)}
        assert (await a.changes.decisions("e", 1))[0].action == "rollback"

        await a.reread(text("e", "f"))
        assert a.in_force == {"e": ("rolled_back", 1), "f": ("running", 1)}


async def test_one_that_was_forgotten_is_found_in_the_audit_log(tmp_path, url, monkeypatch):
    monkeypatch.setattr(names, "MOST_STANDINGS", 2)
    monkeypatch.setattr("service.rollouts.live.MOST_STANDINGS", 2)
    async with replica(tmp_path / "a", url, text("e")) as a:
        await a.changes.change("e", Change(action="stop"), ALICE)
        for other in "fgh":
            a.clock.advance(1.0)
            await a.reread(text(other))
        held = (await a.store.read()).by_key
        assert set(held) == {"g", "h"}

        await a.reread(text("e"))
        assert a.in_force == {"e": ("stopped", 1)}
        assert len((await a.store.read()).by_key) == 2


async def test_the_file_wins_when_its_own_state_changes(tmp_path, url):
    async with replica(tmp_path / "a", url, text("e", state="paused")) as a:
        assert a.in_force == {"e": ("paused", 1)}
        await a.changes.change("e", Change(action="start"), ALICE)
        await a.reread(text("e", state="paused") + "# a comment\n")
        assert a.in_force == {"e": ("running", 1)}

        await a.reread(text("e", state="stopped"))
        assert a.in_force == {"e": ("stopped", 1)}


async def test_a_rollback_survives_restarts_with_and_without_the_event_server(tmp_path):
    with ValkeyServer(appendonly="yes", appendfsync="always") as server:
        async with replica(tmp_path / "a", server.url, text("e")) as a:
            await a.changes.change("e", Change(action="rollback"), ALICE)
            await a.live.look()
        server.kill()
        async with replica(tmp_path / "a", server.url) as again:
            assert again.in_force == {"e": ("rolled_back", 1)}
            assert again.live.status().status == "store_unavailable"
            server.start()
            await again.live.look()
            assert again.live.status().status == "ok"
            assert again.in_force == {"e": ("rolled_back", 1)}


async def test_a_rollback_survives_the_loss_of_everything_on_the_event_server(tmp_path):
    with ValkeyServer() as server:
        async with replica(tmp_path / "a", server.url, text("e")) as a:
            await a.changes.change("e", Change(action="rollback"), ALICE)
            await a.live.look()
            server.kill()
            server.start()
            await a.live.look()  # which finds the connection closed
            await a.live.look()

            assert a.in_force == {"e": ("rolled_back", 1)}
            async with replica(tmp_path / "b", server.url, text("e")) as b:
                assert b.in_force == {"e": ("rolled_back", 1)}


async def test_an_unknown_standing_assigns_nobody(tmp_path):
    """A first start while the event server is away: it may have been rolled back."""
    with ValkeyServer() as server:
        server.kill()
        async with replica(tmp_path / "a", server.url, text("e")) as a:
            assert "not known" in a.live.unready["e"]
            (assignment,) = a.live.current().decide(Units("u")).assignments
            assert (assignment.reason, assignment.counts) == ("NOT_READY", False)
            server.start()
            await a.live.look()
            (assignment,) = a.live.current().decide(Units("u")).assignments
            assert assignment.reason == "SPLIT"


async def test_while_the_event_server_is_away_nothing_changes_but_what_the_file_takes_off(
    tmp_path,
):
    with ValkeyServer(appendonly="yes", appendfsync="always") as server:
        async with replica(tmp_path / "a", server.url, text("e", "f"), timeout_s=1.0) as a:
            before = a.live.current()
            server.freeze()
            await a.live.look()
            assert a.live.current() is before
            await a.reread(text("e", salt="s") + text("f", state="paused"))
            assert a.in_force == {"e": ("running", 1), "f": ("paused", 1)}
            status = a.live.status()
            assert status.status == "store_unavailable"
            assert "the edited file waits for it" in (status.problem or "")

            server.thaw()
            await a.live.look()
            assert a.in_force == {"e": ("running", 2), "f": ("paused", 1)}
            assert a.live.status().status == "ok"


async def test_a_copy_that_cannot_be_written_is_told(tmp_path, url):
    async with replica(tmp_path / "a", url, text("e")) as a:
        file = tmp_path / "a" / "standings.json"
        file.unlink()
        file.mkdir()
        await a.changes.change("e", Change(action="pause"), ALICE)
        await a.live.look()

        assert a.live.status().status == "no_copy"
        assert a.in_force == {"e": ("paused", 1)}
        file.rmdir()
        await a.live.look()
        assert a.live.status().status == "ok"


async def test_an_unreadable_copy_is_no_copy(tmp_path, url):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "standings.json").write_bytes(b'{"e": 3')
    async with replica(tmp_path / "a", url, text("e")) as a:
        assert a.in_force == {"e": ("running", 1)}


async def test_a_first_file_that_is_invalid_is_no_start(tmp_path, url):
    with pytest.raises(ExperimentInvalid, match="traffic_bp"):
        async with replica(tmp_path / "a", url, text("e", traffic_bp=-1)):
            pass


async def test_a_worker_that_starts_again_goes_by_what_its_service_has_read_well(tmp_path, url):
    home, good = tmp_path / "a", text("e") + text("f", traffic_bp=5000)
    async with replica(home, url, good, service="s-1") as a:
        before = a.live.current().experiments
        await a.reread("[[experiment")

    async with replica(home, url, service="s-1") as again:
        assert again.live.current().experiments == before
        assert again.live.status().status == "invalid_file"
        assert "the last good definitions stay" in again.live.troubles["invalid_file"]
        await again.reread(text("f", traffic_bp=6000))
        assert again.live.status().status == "ok"
        assert [e.traffic_bp for e in again.live.current().experiments] == [6000]

    (home / "experiments.toml").write_text("[[experiment")
    with pytest.raises(ExperimentInvalid):  # another service starts with its file, or not at all
        async with replica(home, url, service="s-2"):
            pass


async def test_two_files_that_overlap_stop_the_one_that_began_later(tmp_path, url):
    """No file of one replica leads here; the others must not miss a rollback for it."""
    early = text("e", layer="l", state="stopped")
    async with (
        replica(tmp_path / "a", url, early + text("f", layer="l")) as a,
        replica(tmp_path / "b", url, text("e", layer="l", state="stopped")) as b,
    ):
        b.clock.advance(60)
        await b.changes.change("e", Change(action="start"), ALICE)
        await a.live.look()

        assert a.in_force == {"e": ("stopped", 1), "f": ("running", 1)}
        assert a.live.status().status == "overlapping"
        await b.changes.change("e", Change(action="stop"), ALICE)
        await a.live.look()
        assert a.live.status().status == "ok"


async def test_without_news_the_compiled_experiments_stay_the_same_object(tmp_path, url):
    async with replica(tmp_path / "a", url, text("e")) as a:
        before = a.live.current()
        for _ in range(3):
            await a.live.look()

        assert a.live.current() is before


async def test_without_a_file_nothing_is_connected_and_nothing_runs(tmp_path):
    nowhere = f"unix://{tmp_path}/nobody.sock"
    settings = EventSettings(timeout_s=0.1)
    async with events_client(nowhere, RedisSettings(), settings) as client:
        tasks = asyncio.all_tasks()
        live = LiveExperiments(
            None,
            lambda: (),
            Fitness({}),
            store=StandingStore(client, settings),
            copy=StandingCopy(tmp_path),
            clock=FakeClock(),
        )
        await live.start()

        assert asyncio.all_tasks() == tasks
        assert live.current().experiments == ()
        assert live.status().status == "ok"
        assert not list(tmp_path.iterdir())
        await live.stop()


async def test_while_it_runs_it_looks_by_itself_and_survives_what_nobody_thought_of(
    tmp_path, url, monkeypatch, caplog
):
    monkeypatch.setattr("service.rollouts.live.LOOK_S", 0.01)
    async with (
        replica(tmp_path / "a", url, text("e")) as a,
        replica(tmp_path / "b", url, text("e")) as b,
    ):
        await b.live.start()
        monkeypatch.setattr(b.store, "version", None)
        await eventually(lambda: "what is in force stays" in caplog.text)
        monkeypatch.undo()
        await a.changes.change("e", Change(action="rollback"), ALICE)
        await eventually(lambda: b.in_force == {"e": ("rolled_back", 1)})
        await b.live.stop()


async def test_nobody_is_assigned_before_the_engine_of_a_variant_is_warm(
    tmp_path, url, tiny_bundle, clock
):
    cold = deployment_of(tiny_bundle, EngineLink.pending(FakeEngine("gpu").info), clock=clock)
    warm = deployment_of(tiny_bundle, FakeEngine("gpu"), clock=clock)
    deployments = {"new": cold}
    definition = text("e") + 'deployment = "new"\n'

    async with replica(tmp_path / "a", url, definition, deployments=deployments) as a:

        def reason():
            return a.live.current().decide(Units("u")).assignments[0].reason

        assert reason() == "NOT_READY"
        assert a.live.unready["e"].endswith("no engine is warm: gpu is loading")
        await a.changes.change("e", Change(action="pause"), ALICE)
        with pytest.raises(ForceRefused, match="gpu is loading"):
            a.live.current().decide(Units("u"), forced={"e": "new"})
        await a.changes.change("e", Change(action="start"), ALICE)
        deployments["new"] = warm
        await a.live.look()
        assert reason() == "SPLIT"
        deployments["new"] = cold
        await a.live.look()
        assert reason() == "SPLIT"
        await a.changes.change("e", Change(action="ramp", traffic_bp=9999), ALICE)
        assert reason() == "NOT_READY"


TWO_MODELS = """
[[experiment]]
key = "e"
[[experiment.variant]]
name = "old"
share_bp = 5000
deployment = "fast"
[[experiment.variant]]
name = "new"
share_bp = 5000
deployment = "good"
"""


async def test_another_version_of_a_model_is_one_new_phase_on_all_replicas(tmp_path, url, clock):
    first, second = (Bundle.open(write_tiny_bundle(tmp_path, seed=seed)) for seed in (0, 1))

    def served(bundle, name):
        return deployment_of(bundle, FakeEngine(name), clock=clock, name=name)

    def two():
        return Deployments([served(first, "fast"), served(first, "good")])

    on_a, on_b = two(), two()
    async with (
        replica(tmp_path / "a", url, TWO_MODELS, deployments=on_a) as a,
        replica(tmp_path / "b", url, TWO_MODELS, deployments=on_b) as b,
    ):
        on_a.replace([served(second, "good")])
        for _ in range(2):
            await a.live.look()
            await b.live.look()  # which still has the version before, and undoes nothing
        assert a.in_force == b.in_force == {"e": ("running", 2)}

        on_b.replace([served(second, "good")])
        for _ in range(2):
            await b.live.look()
            await a.live.look()
        assert a.in_force == b.in_force == {"e": ("running", 2)}
        old, new = (bundle.manifest.version for bundle in (first, second))
        assert [record.reason for record in await a.changes.decisions("e", 10)] == [
            f"another model serves, good by tiny@{new} instead of tiny@{old}: phase 2 begins",
            "first read",
        ]
        await a.changes.change("e", Change(action="rollback"), ALICE)
        on_a.replace([served(first, "good")])
        await a.live.look()
        assert a.in_force == {"e": ("rolled_back", 2)}
        await a.changes.change("e", Change(action="start"), ALICE)
        await a.live.look()
        assert a.live.standing("e").models["good"] == f"tiny@{old}"
    async with replica(tmp_path / "a", url, deployments=on_a) as restarted:
        assert restarted.in_force == {"e": ("running", 3)}


async def test_a_replica_with_an_older_file_does_not_undo_the_newer_one_when_its_model_changes(
    tmp_path, url, clock
):
    first, second = (Bundle.open(write_tiny_bundle(tmp_path, seed=seed)) for seed in (0, 1))

    def served(bundle, name):
        return deployment_of(bundle, FakeEngine(name), clock=clock, name=name)

    own = Deployments([served(first, "fast"), served(first, "good")])
    async with (
        replica(tmp_path / "a", url, TWO_MODELS, deployments=own) as a,
        replica(tmp_path / "b", url, TWO_MODELS, deployments=own) as b,
    ):
        await b.reread(TWO_MODELS.replace('key = "e"', 'key = "e"\ntraffic_bp = 5000'))
        await a.live.look()
        own.replace([served(second, "good")])
        await a.live.look()
        assert a.in_force == {"e": ("running", 1)}
        await b.live.look()
        await a.live.look()
        assert b.in_force == {"e": ("running", 3)}
        assert a.live.status().status == "other_definition"
