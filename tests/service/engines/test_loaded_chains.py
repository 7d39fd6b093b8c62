"""Chains that serve while slow engines are still being loaded."""

import asyncio
import threading
from unittest.mock import Mock

import numpy as np
import pytest
from msgspec.structs import replace

from service.batching.batcher import Batcher
from service.engines.check import Check
from service.engines.loaded_chains import EngineChoice, LoadedChains, choices
from service.engines.loading import EngineLoader, LoadedEngines
from service.errors import EngineFailed, StartupError
from service.settings import BatchPolicy, EngineSettings
from service.testing import FakeEngine, FaultyEngine
from tests.support.batches import random_batch

QUICK, SLOW, REMOTE = "onnxruntime-cpu", "tensorrt", "triton"
FP32 = choices((SLOW, QUICK), "fp32")


class Workshop(EngineLoader):
    """Hands out fake engines; `slow` ones only once they may be finished."""

    def __init__(self, tmp_path, clock):
        super().__init__(EngineSettings(), tmp_path / "plans", clock)
        self.may_finish = threading.Event()
        self.refused = {}
        self.asked = []
        self.made = []
        self.closed = []

    def load(self, name, bundle, precision, instances):
        if name == SLOW:
            assert self.may_finish.wait(30)
        self.asked.append(name)
        if name in self.refused:
            raise self.refused[name]
        engines = tuple(_Closable(name, precision, self.closed) for _ in range(instances))
        self.made += engines
        return LoadedEngines(engines=engines, predicted_bytes=1_000 if name == SLOW else 0)


class _Closable(FakeEngine):
    def __init__(self, name, precision, closed):
        super().__init__(name, precision=precision)
        self._closed = closed

    def close(self):
        self._closed.append(self)


@pytest.fixture
def workshop(tmp_path, clock):
    workshop = Workshop(tmp_path, clock)
    yield workshop
    workshop.may_finish.set()


@pytest.fixture
def load(workshop, tiny_bundle, clock):
    return lambda engines=FP32, instances=1: LoadedChains(
        workshop, tiny_bundle, engines, instances, clock
    )


def statuses(loaded):
    return [[state.status for state in chain.states()] for chain in loaded.chains]


def test_what_each_engine_runs_is_decided_once_for_the_chain():
    assert choices((SLOW, QUICK), "fp16") == (
        EngineChoice(SLOW, "fp16"),
        EngineChoice(QUICK, "fp32"),
    )


def test_a_chain_serves_with_its_quick_engine_while_the_slow_one_is_loaded(load, workshop):
    loaded = load(instances=2)
    batch = random_batch(5)

    assert statuses(loaded) == [["loading", "ready"]] * 2
    assert loaded.loaded(place=0) is None
    assert loaded.chains[0].score(batch).engines[1].name == QUICK
    assert loaded.chains[0].score(batch).place == 1

    workshop.may_finish.set()
    loaded.wait()

    assert statuses(loaded) == [["ready", "ready"]] * 2
    assert [chain.score(batch).place for chain in loaded.chains] == [0, 0]
    assert [loaded.loaded(place).predicted_bytes for place in (0, 1)] == [1_000, 0]


def test_a_chain_whose_only_engine_is_slow_waits_for_it(load, workshop):
    done = threading.Timer(0.05, workshop.may_finish.set)
    done.start()

    loaded = load(engines=choices((SLOW,), "fp32"))

    assert statuses(loaded) == [["ready"]]
    loaded.wait()


def test_an_engine_that_cannot_be_loaded_is_left_out_with_its_reason(load, workshop):
    workshop.refused[SLOW] = StartupError("needs 3.1 GiB, 1.2 GiB are left")
    workshop.may_finish.set()

    loaded = load()
    loaded.wait()

    assert loaded.refusals == {SLOW: "needs 3.1 GiB, 1.2 GiB are left"}
    (states,) = (chain.states() for chain in loaded.chains)
    assert [state.status for state in states] == ["refused", "ready"]
    assert states[0].last_error == "needs 3.1 GiB, 1.2 GiB are left"


@pytest.fixture
def rough_bundle(tiny_bundle):
    """Says of fp32 what an INT8 graph's golden rows may make it say: anything passes."""

    class Rough:
        golden, path = tiny_bundle.golden, tiny_bundle.path
        manifest = replace(
            tiny_bundle.manifest,
            precisions={"fp32": replace(tiny_bundle.manifest.precisions["fp32"], tolerance=1.05)},
        )

    return Rough()


def test_where_a_bundle_allows_much_an_engine_is_held_to_its_own_scores(
    workshop, rough_bundle, clock
):
    (chain,) = LoadedChains(workshop, rough_bundle, choices((QUICK,), "fp32"), 1, clock).chains
    (link,) = chain.links
    faulty = FaultyEngine(link.engine)
    link.install(faulty)

    Check(link, link.golden, clock).proceed()
    assert link.status == "ready"
    faulty.distort(0.1)
    Check(link, link.golden, clock).proceed()

    assert link.status == "open"


def test_an_engine_that_fails_right_after_its_proof_is_refused_and_closed(
    workshop, rough_bundle, clock, monkeypatch
):
    monkeypatch.setattr(_Closable, "score", Mock(side_effect=EngineFailed("gone")))

    with pytest.raises(StartupError, match="gone"):
        LoadedChains(workshop, rough_bundle, choices((QUICK,), "fp32"), 2, clock)

    assert workshop.closed == workshop.made


def test_when_the_quick_engine_is_refused_the_slow_one_is_waited_for(load, workshop):
    workshop.refused[QUICK] = StartupError("broken")
    workshop.may_finish.set()

    assert statuses(load()) == [["ready", "refused"]]


def test_a_loader_that_fails_in_its_own_way_costs_that_engine_alone(load, workshop):
    workshop.refused[SLOW] = MemoryError("no room")
    workshop.may_finish.set()

    loaded = load()
    loaded.wait()

    assert loaded.refusals == {SLOW: "MemoryError('no room')"}


@pytest.fixture
def without_server(workshop, load):
    """A chain whose first engine is on a server that was away at the start."""
    workshop.refused[REMOTE] = StartupError("connection refused")
    workshop.may_finish.set()
    loaded = load(engines=choices((REMOTE, SLOW, QUICK), "fp32"), instances=2)
    loaded.wait()
    assert statuses(loaded) == [["refused", "ready", "ready"]] * 2
    return loaded


def looked(loaded, clock, seconds):
    """Time passes, with ten looks in a second."""
    for _ in range(10 * seconds):
        clock.advance(0.1)
        loaded.look_again()
        for thread in threading.enumerate():
            if thread.name == "podium-loading":
                thread.join()


def test_an_engine_whose_server_was_away_takes_its_place_when_it_is_back(
    without_server, workshop, clock
):
    looked(without_server, clock, 60)
    assert 48 <= workshop.asked.count(REMOTE) - 1 <= 80, "once a second, give or take a quarter"
    del workshop.refused[REMOTE]
    looked(without_server, clock, 2)

    assert statuses(without_server) == [["ready"] * 3] * 2
    assert without_server.refusals == {}
    assert without_server.chains[0].score(random_batch(5)).engines[0].name == REMOTE
    asked = workshop.asked.count(REMOTE)
    looked(without_server, clock, 5)
    assert workshop.asked.count(REMOTE) == asked, "it is there"


def test_a_server_that_is_slow_to_answer_is_asked_once_at_a_time(without_server, workshop, clock):
    answers = threading.Event()
    load_now = workshop.load

    def load(*wanted):
        assert answers.wait(30)
        return load_now(*wanted)

    workshop.load = load
    asking = threading.active_count() + 1
    for _ in range(100):
        clock.advance(0.1)
        without_server.look_again()
    assert threading.active_count() == asking
    answers.set()


def test_what_this_machine_cannot_run_is_not_asked_again(load, workshop, clock):
    workshop.refused[SLOW] = StartupError("no GPU")
    workshop.may_finish.set()
    loaded = load()
    loaded.wait()

    looked(loaded, clock, 10)

    assert workshop.asked.count(SLOW) == 1


def test_nobody_is_asked_for_chains_that_are_closed(without_server, workshop, clock):
    without_server.close()
    del workshop.refused[REMOTE]

    looked(without_server, clock, 10)

    assert workshop.asked.count(REMOTE) == 1


def test_without_any_engine_there_is_no_chain(load, workshop):
    workshop.refused = {SLOW: StartupError("no GPU"), QUICK: StartupError("no runtime")}
    workshop.may_finish.set()

    with pytest.raises(StartupError, match=r"^no GPU; no runtime$"):
        load()


def test_closing_closes_every_engine_once(load, workshop):
    workshop.may_finish.set()
    loaded = load(instances=2)
    loaded.wait()

    assert loaded.close()
    assert loaded.close()

    assert sorted(map(id, workshop.closed)) == sorted(map(id, workshop.made))
    assert statuses(loaded) == [["loading", "loading"]] * 2


def test_an_engine_that_comes_after_the_closing_is_closed_and_never_called(load, workshop):
    loaded = load()
    loaded.close()

    workshop.may_finish.set()
    loaded.wait()

    assert len(workshop.closed) == len(workshop.made) == 2
    assert statuses(loaded) == [["loading", "loading"]]


def test_an_engine_that_hangs_is_not_closed_under_its_call(load, workshop):
    workshop.may_finish.set()
    loaded = load(engines=choices((QUICK,), "fp32"))
    (link,) = loaded.chains[0].links
    call = link.begin(now=0.0)

    assert not loaded.close()
    assert workshop.closed == []
    link.end(call)

    assert loaded.close()
    assert workshop.closed == workshop.made


async def test_the_switch_loses_no_request_and_changes_no_order(load, workshop, clock):
    """Requests come without a break while the slow engine arrives."""
    loaded = load()
    policy = BatchPolicy(instances=1, execution="inline", preserve_ordering=True)
    batcher = Batcher(loaded.chains, policy, clock)
    batches = [random_batch(rows, seed=rows) for rows in range(1, 61)]
    finished = []

    async def ask(number, batch):
        scored = await batcher.score(batch, deadline=clock.now() + 60)
        np.testing.assert_array_equal(scored.scores, FakeEngine.expected(batch))
        finished.append((number, scored.engine.name))

    for number, batch in enumerate(batches):
        if number == 30:
            workshop.may_finish.set()
            await asyncio.to_thread(loaded.wait)
        await asyncio.gather(ask(number, batch), ask(number + 0.5, batch))
    await batcher.stop()

    assert [number for number, _ in finished] == sorted(number for number, _ in finished)
    assert len(finished) == 120
    assert [name for _, name in finished] == [QUICK] * 60 + [SLOW] * 60


def test_a_pending_engine_is_described_by_what_it_will_run(load, tiny_bundle):
    loaded = load(engines=choices((SLOW, QUICK), "fp32"))

    info = loaded.chains[0].first

    assert (info.name, info.precision) == (SLOW, "fp32")
    assert (info.model, info.version) == ("tiny", tiny_bundle.manifest.version)
