"""One process scores for all: together, each its own, and whoever fails or goes fails alone."""

import concurrent.futures
import socket
import threading
from contextlib import closing, contextmanager

import numpy as np
import pytest

from service.engines.host.client import EngineClient
from service.engines.host.host import EngineHost
from service.engines.loading import LoadedEngines
from service.errors import EngineFailed, OutOfDeviceMemory, StartupError
from service.testing import FakeEngine, FaultyEngine
from tests.support.engine_process import LAYOUT, WANTED, hosting, some_rows
from tests.support.valkey import wait_until

LIMIT_S = 10.0


class Counted(FakeEngine):
    """A fake that says when it is closed."""

    def __init__(self):
        super().__init__(max_batch_rows=LAYOUT.rows)
        self.is_closed = threading.Event()

    def close(self):
        self.is_closed.set()


class Host:
    """An engine process on threads, its one engine, and clients of it."""

    def __init__(self):
        self.fake = Counted()
        self.engine = FaultyEngine(self.fake)
        self.loads = []

    def answer(self, wanted):
        self.loads.append(wanted)
        return self.load()

    def load(self):
        return LoadedEngines(engines=(self.engine,), predicted_bytes=7, used_bytes=5)


@contextmanager
def host(**options):
    made = Host()
    with hosting(made.answer, **options) as made.way:
        yield made


@contextmanager
def client(host, *, limit_s=LIMIT_S):
    with closing(EngineClient(host.way, max_execution_s=limit_s)) as made:
        yield made


def engines(client, count=1):
    return client.open(WANTED, LAYOUT, count)[0]


def call(engine, rows):
    """A call on a thread of its own; its outcome, once it has one."""
    outcome = []

    def ask():
        try:
            outcome.append(engine.score(rows))
        except EngineFailed as failure:
            outcome.append(failure)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()

    def result():
        thread.join(LIMIT_S)
        return outcome[0]

    return result


@contextmanager
def held(host, engine):
    """While inside, the engine is at a call; what others ask for meanwhile waits together."""
    with host.engine.hold():
        first = call(engine, some_rows(1))
        assert host.engine.entered.wait(LIMIT_S)
        host.engine.entered.clear()
        yield
    first()


def test_slots_of_several_workers_that_wait_are_scored_in_one_call(monkeypatch):
    heard = count_offers(monkeypatch)
    with host() as process, client(process) as a, client(process) as b:
        (first, second), (third,) = engines(a, 2), engines(b)
        with held(process, first):
            asked = [call(second, some_rows(20, 1)), call(third, some_rows(30, 2))]
            wait_until(lambda: len(heard) == 3, limit_s=LIMIT_S)

        for result, rows in zip(asked, (some_rows(20, 1), some_rows(30, 2)), strict=True):
            np.testing.assert_array_equal(result(), FakeEngine.expected(rows))
        assert process.fake.calls == [1, 50]


def test_rows_that_make_a_call_fail_do_so_for_their_own_slot_alone(monkeypatch):
    heard = count_offers(monkeypatch)
    bad = some_rows(4, 3)
    with host() as process, client(process) as a:
        first, second, third, fourth = engines(a, 4)
        process.engine.fail_on(lambda batch: batch.dense[:, 0] == bad.dense[0, 0])
        with held(process, first):
            asked = [call(second, some_rows(20, 1)), call(third, bad), call(fourth, some_rows(9))]
            wait_until(lambda: len(heard) == 4, limit_s=LIMIT_S)

        np.testing.assert_array_equal(asked[0](), FakeEngine.expected(some_rows(20, 1)))
        np.testing.assert_array_equal(asked[2](), FakeEngine.expected(some_rows(9)))
        assert "ordered for these rows" in str(asked[1]())


def count_offers(monkeypatch):
    """A list that grows with every call that the process hears of."""
    from service.engines.host import schedule

    heard, offer = [], schedule.Schedule.offer
    monkeypatch.setattr(
        schedule.Schedule, "offer", lambda self, call: (offer(self, call), heard.append(call))
    )
    return heard


def test_a_graph_is_loaded_once_for_all_and_closed_with_its_last_slot():
    with host() as process:
        with client(process) as a:
            (kept,) = engines(a)
            with client(process) as b:
                for engine in engines(b, 2):
                    engine.score(some_rows(2))
                    engine.close()
            assert process.loads == [WANTED]
            np.testing.assert_array_equal(
                kept.score(some_rows(5)), FakeEngine.expected(some_rows(5))
            )
            assert not process.fake.is_closed.is_set()
        assert process.fake.is_closed.wait(LIMIT_S)

        with client(process) as again:
            engines(again)
        assert process.loads == [WANTED, WANTED]


def test_a_worker_that_goes_in_the_middle_of_a_call_leaves_the_engine_to_the_others():
    with host() as process, client(process) as staying:
        (engine,) = engines(staying)
        leaving = EngineClient(process.way, max_execution_s=LIMIT_S)
        (left,) = engines(leaving)
        with held(process, left):
            leaving.close()
            asked = call(engine, some_rows(6))

        np.testing.assert_array_equal(asked(), FakeEngine.expected(some_rows(6)))
        assert process.fake.calls == [1, 6]
        assert not process.fake.is_closed.is_set()


def test_a_call_that_takes_too_long_fails_and_its_slot_waits_for_it():
    with host() as process, client(process, limit_s=0.05) as a:
        (engine,) = engines(a)
        with process.engine.hold():
            with pytest.raises(EngineFailed, match=r"did not answer within 0\.05 s"):
                engine.score(some_rows(3))
            with pytest.raises(EngineFailed, match="still at a call that took too long"):
                engine.score(some_rows(4))

        def scored_again():
            try:
                return engine.score(some_rows(4))
            except EngineFailed:
                return None

        wait_until(lambda: scored_again() is not None, limit_s=LIMIT_S)
        np.testing.assert_array_equal(scored_again(), FakeEngine.expected(some_rows(4)))


def test_a_call_that_hangs_costs_the_slots_of_other_engines_nothing():
    with host() as process, client(process) as a:
        process.load = lambda: LoadedEngines(engines=(Counted(), process.engine))
        hanging, other = engines(a, 2)
        with held(process, hanging):
            for _ in range(5):
                scores = other.score(some_rows(7))
                np.testing.assert_array_equal(scores, FakeEngine.expected(some_rows(7)))


def test_what_nobody_waits_for_any_more_is_not_scored():
    with host() as process, client(process) as a, client(process, limit_s=0.05) as hasty:
        (first,), (late,) = engines(a), engines(hasty)
        with held(process, first), pytest.raises(EngineFailed, match="did not answer"):
            late.score(some_rows(77))
        first.score(some_rows(2))

    assert 77 not in process.fake.calls


def test_an_engine_that_does_not_come_back_is_for_a_new_process_to_mend():
    hung = threading.Event()
    with (
        host(max_execution_s=0.02, hangs=hung.set) as process,
        client(process) as a,
        process.engine.hold(),
    ):
        (engine,) = engines(a)
        asked = call(engine, some_rows(1))

        assert hung.wait(LIMIT_S)
        process.engine.release()
        asked()


def test_memory_that_is_refused_is_told_as_such():
    with host() as process, client(process) as a:
        (engine,) = engines(a)
        process.engine.refuse_memory()

        with pytest.raises(OutOfDeviceMemory, match="as ordered"):
            engine.score(some_rows(3))


def test_too_few_scores_are_a_failure():
    with host() as process, client(process) as a:
        (engine,) = engines(a)
        process.engine.answer_short()

        with pytest.raises(EngineFailed, match="3 rows gave scores of shape"):
            engine.score(some_rows(3))


def test_scores_that_are_none_come_back_as_they_are():
    """Whose they are, and what follows, the chain of the worker decides."""
    with host() as process, client(process) as a:
        (engine,) = engines(a)
        process.engine.spoil(lambda batch: np.arange(batch.rows) == 1)

        assert np.isnan(engine.score(some_rows(3))).tolist() == [False, True, False]


def test_a_refusal_says_why_and_the_next_worker_may_ask_again():
    with host() as process, client(process) as a:
        process.load = refuse
        with pytest.raises(StartupError, match=r"needs 3\.0 GiB"):
            engines(a, 2)

        del process.load
        (engine,) = engines(a)
        assert engine.info.shared


def refuse():
    raise StartupError("it needs 3.0 GiB, 1.0 GiB are left")


def test_an_error_that_nobody_thought_of_refuses_too():
    def load():
        raise ZeroDivisionError

    with host() as process, client(process) as a:
        process.load = load
        with pytest.raises(StartupError, match="ZeroDivisionError"):
            engines(a)


def test_what_the_process_said_of_its_engines_is_known_here():
    with host() as process, client(process) as a:
        (engine,), said = a.open(WANTED, LAYOUT, 1)

    assert (said.predicted_bytes, said.used_bytes) == (7, 5)
    assert engine.info.name == "fake"
    assert engine.info.max_batch_rows == LAYOUT.rows


def test_more_slots_than_the_way_holds_wait_for_the_process_to_take_some():
    ways = socket.socketpair()
    ways[0].setblocking(False)
    ways[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel's least: a few
    with concurrent.futures.ThreadPoolExecutor(1) as pool, ways[0], ways[1]:
        with closing(EngineClient(ways[0], max_execution_s=LIMIT_S)) as client:
            asked = pool.submit(engines, client, 40)
            wait_until(lambda: client._waiting, limit_s=LIMIT_S)
            process = Host()
            host = EngineHost(ways[1], process.answer, max_execution_s=LIMIT_S, hangs=lambda: None)
            thread = threading.Thread(target=host.run)
            thread.start()

            for engine in asked.result(LIMIT_S):
                scores = engine.score(some_rows(3))
                np.testing.assert_array_equal(scores, FakeEngine.expected(some_rows(3)))
        ways[0].close()
        thread.join(LIMIT_S)


def test_engines_fail_at_once_when_their_client_is_closed():
    with host() as process:
        with client(process) as a:
            (engine,) = engines(a)

        with pytest.raises(EngineFailed, match="away"):
            engine.score(some_rows(1))
        with pytest.raises(StartupError, match="about to end"):
            engines(a)
