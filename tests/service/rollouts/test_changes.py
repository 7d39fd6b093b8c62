"""Changes by people: on record, one after the other, and never half in force."""

import asyncio
import sys
import threading
from itertools import pairwise

import msgspec
import pytest

from experiments.assignment import Units
from experiments.rollout import Bound
from experiments.standing import Change
from service.errors import (
    DefinitionDiffers,
    ExperimentChangeRefused,
    GenerationConflict,
    StoreUnavailable,
    UnknownExperiment,
)
from service.rollouts.changes import Author
from tests.service.rollouts.test_live import text
from tests.support.replicas import ALICE, replica
from tests.support.valkey import ValkeyServer

ROLLOUT = text("e") + "[experiment.rollout]\n"


@pytest.fixture
def url(valkey):
    return valkey.url


async def test_a_change_is_on_record_with_who_why_before_and_after(tmp_path, url):
    async with replica(tmp_path / "a", url, text("e")) as a:
        digest = a.live.current().digest
        changed = await a.changes.change("e", Change(action="pause"), ALICE)
        await a.changes.change("e", Change(action="start"), ALICE)

        resumed, paused, defined = await a.changes.decisions("e", 10)
        assert (paused.action, resumed.action, defined.action) == ("pause", "resume", "define")
        assert (paused.by, paused.reason) == ("key:alice", "because")
        assert paused.at == a.clock.wall()
        assert (paused.before, paused.after) == (defined.after, changed)
        assert paused.config_digest == digest != resumed.config_digest
        assert a.live.current().digest == digest


async def test_what_is_so_already_leaves_no_record(tmp_path, url):
    async with replica(tmp_path / "a", url, text("e")) as a:
        first = await a.changes.change("e", Change(action="rollback"), ALICE)
        again = await a.changes.change("e", Change(action="rollback"), ALICE)

        assert again == first
        assert len(await a.changes.decisions("e", 10)) == 2


async def test_a_change_on_an_older_look_is_a_conflict(tmp_path, url):
    async with replica(tmp_path / "a", url, text("e")) as a:
        await a.changes.change("e", Change(action="pause"), ALICE, if_generation=1)
        with pytest.raises(GenerationConflict, match="is at generation 2, not 1"):
            await a.changes.change("e", Change(action="stop"), ALICE, if_generation=1)
        assert a.in_force == {"e": ("paused", 1)}


async def test_what_does_not_fit_is_refused_and_what_is_not_there_is_unknown(tmp_path, url):
    stopped = text("f", layer="l", state="stopped")
    async with replica(tmp_path / "a", url, text("e", layer="l") + stopped) as a:
        await a.changes.change("e", Change(action="rollback"), ALICE)
        with pytest.raises(ExperimentChangeRefused, match="start it first"):
            await a.changes.change("e", Change(action="promote"), ALICE)
        with pytest.raises(ExperimentChangeRefused, match="overlap in the layer 'l'"):
            await a.changes.change("f", Change(action="start"), ALICE)
        with pytest.raises(UnknownExperiment):
            await a.changes.change("g", Change(action="stop"), ALICE)
        with pytest.raises(UnknownExperiment):
            await a.changes.decisions("g", 10)
        assert len(await a.changes.decisions("f", 10)) == 1


async def test_an_older_file_can_take_off_and_not_put_on(tmp_path, url):
    async with (
        replica(tmp_path / "a", url, text("e")) as a,
        replica(tmp_path / "b", url, text("e")) as b,
    ):
        await b.reread(text("e", salt="other"))
        with pytest.raises(DefinitionDiffers):
            await a.changes.change("e", Change(action="promote"), ALICE)
        await a.changes.change("e", Change(action="rollback"), ALICE)
        assert a.in_force == {"e": ("rolled_back", 1)}
        await b.live.look()
        assert b.in_force == {"e": ("rolled_back", 2)}


async def test_without_the_event_server_changes_are_refused_and_nothing_is_changed(tmp_path):
    with ValkeyServer() as server:
        async with replica(tmp_path / "a", server.url, text("e"), timeout_s=0.2) as a:
            before = a.live.current()
            server.freeze()
            with pytest.raises(StoreUnavailable):
                await a.changes.change("e", Change(action="stop"), ALICE)
            with pytest.raises(StoreUnavailable):
                await a.changes.decisions("e", 1)
            assert a.live.current() is before
            server.thaw()


async def test_a_change_right_after_the_event_server_lost_everything_comes_upon_what_was(tmp_path):
    with ValkeyServer() as server:
        async with replica(tmp_path / "a", server.url, text("e")) as a:
            await a.changes.change("e", Change(action="pause"), ALICE)
            server.command("FLUSHALL")
            stopped = await a.changes.change("e", Change(action="stop"), ALICE)

            assert (stopped.state, stopped.generation) == ("stopped", 3)


async def test_the_rules_decisions_are_on_record_with_their_evidence(tmp_path, url):
    rule = Author(by="rule", reason="too few users", evidence=Bound(missing="3 users"))
    async with replica(tmp_path / "a", url, text("e")) as a:
        standing = a.live.standing("e")
        assert await a.changes.note(standing, "hold", rule, dry_run=True)
        await a.changes.change("e", Change(action="pause"), ALICE)
        assert not await a.changes.note(standing, "hold", rule)

        record = (await a.changes.decisions("e", 10))[1]
        assert (record.action, record.by, record.dry_run) == ("hold", "rule", True)
        assert record.before == record.after == standing
        assert record.evidence["missing"] == "3 users"


async def test_of_100_changes_at_once_none_is_lost_and_each_comes_upon_another(tmp_path, url):
    """Two processes' worth of them; every generation is written by exactly one change."""
    async with (
        replica(tmp_path / "a", url, text("e")) as a,
        replica(tmp_path / "b", url, text("e")) as b,
    ):

        async def ramp(n: int):
            of = (a, b)[n % 2]
            change = Change(action="ramp", traffic_bp=1 + n)
            return await of.changes.change("e", change, Author(by=f"key:{n}"))

        answers = await asyncio.gather(*(ramp(n) for n in range(100)))

        assert sorted(s.generation for s in answers) == list(range(2, 102))
        assert {s.traffic_bp for s in answers} == set(range(1, 101))
        records = (await a.changes.decisions("e", 1000))[::-1]
        assert len(records) == 101
        for earlier, later in pairwise(records):
            assert later.before == earlier.after
        await a.live.look()
        await b.live.look()
        assert a.in_force == b.in_force == {"e": ("running", 101)}
        assert a.live.standing("e") == records[-1].after


async def test_of_100_changes_upon_one_look_exactly_one_is_made(tmp_path, url):
    async with (
        replica(tmp_path / "a", url, text("e")) as a,
        replica(tmp_path / "b", url, text("e")) as b,
    ):
        tries = [
            of.changes.change("e", Change(action="ramp", traffic_bp=1 + n), ALICE, if_generation=1)
            for n in range(50)
            for of in (a, b)
        ]
        answers = await asyncio.gather(*tries, return_exceptions=True)

        conflicts = [one for one in answers if isinstance(one, GenerationConflict)]
        assert len(conflicts) == 99
        assert len(await a.changes.decisions("e", 1000)) == 2


async def test_a_decision_is_of_one_generation_whatever_changes_meanwhile(tmp_path, url):
    """Threads decide while 100 changes are made: what they see is always one whole compilation."""
    known = {}
    mixed = []
    done = threading.Event()
    async with replica(tmp_path / "a", url, text("e", "f")) as a:

        def rank() -> None:
            n = 0
            while not done.is_set():
                assigner = a.live.current()
                decision = assigner.decide(Units(f"u{n % 50}"))
                n += 1
                phases = {e.key: e.phase for e in assigner.experiments}
                if {x.key: x.phase for x in decision.assignments} != phases:
                    mixed.append(decision)
                if known.setdefault(assigner.digest, phases) != phases:
                    mixed.append(assigner.digest)

        threads = [threading.Thread(target=rank) for _ in range(2)]
        often = sys.getswitchinterval()
        sys.setswitchinterval(1e-4)
        for thread in threads:
            thread.start()
        try:
            await asyncio.gather(
                *(
                    a.changes.change(key, Change(action="ramp", traffic_bp=1 + n), ALICE)
                    for n in range(50)
                    for key in ("e", "f")
                )
            )
        finally:
            done.set()
            sys.setswitchinterval(often)
            for thread in threads:
                thread.join()

    assert not mixed
    assert known


async def test_a_ramp_walks_the_stages_of_the_file(tmp_path, url):
    async with replica(tmp_path / "a", url, ROLLOUT) as a:
        assert a.live.current().experiments[0].traffic_bp == 100
        await a.changes.change("e", Change(action="ramp"), ALICE)
        assert a.live.current().experiments[0].traffic_bp == 500


async def test_standings_are_json_that_others_can_read(tmp_path, url, valkey):
    async with replica(tmp_path / "a", url, text("e")) as a:
        await a.changes.change("e", Change(action="pause"), ALICE)
        raw = valkey.command("HGET", "podium:standings", "e").partition(b"\r\n")[2]

        assert msgspec.json.decode(raw.strip())["state"] == "paused"
        assert valkey.command("TTL", "podium:audit:e") == b":-1\r\n"


async def test_what_was_answered_survives_a_kill_of_the_event_server(tmp_path):
    """Standing and record are one step: after the kill there are both, or neither."""
    with ValkeyServer(appendonly="yes", appendfsync="always") as server:
        async with replica(tmp_path / "a", server.url, text("e"), timeout_s=0.5) as a:
            answered = []

            async def ramp(n: int) -> None:
                change = Change(action="ramp", traffic_bp=1 + n)
                answered.append(await a.changes.change("e", change, ALICE))
                if len(answered) == 20:
                    server.kill()

            await asyncio.gather(*(ramp(n) for n in range(40)), return_exceptions=True)
            server.start()
            await a.live.look()  # which finds the connection closed
            await a.live.look()
            records = (await a.changes.decisions("e", 1000))[::-1]

            assert len(answered) >= 20
            after = [record.after for record in records]
            assert all(standing in after for standing in answered)
            assert after[-1] == await a.store.standing("e")
            assert [s.generation for s in after] == list(range(1, len(after) + 1))
