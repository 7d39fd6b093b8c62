"""What a place of a chain promises: who gets calls, when, and what becomes of the others."""

import logging
import re
import threading

import numpy as np
import pytest

from ranking_models.schema import FeatureBatch
from service.engines import EngineInfo
from service.engines.check import Check
from service.engines.golden import Golden
from service.engines.link import EngineLink
from service.errors import EngineFailed
from service.settings import EngineSettings
from service.testing import FakeClock, FakeEngine, FaultyEngine
from tests.support.batches import random_batch

ROWS = random_batch(5)
GOLDEN = Golden(rows=ROWS, scores=FakeEngine.expected(ROWS), tolerance=1e-6)
SETTINGS = EngineSettings(breaker_failures=3, breaker_rate=0.5, breaker_probe_s=1.0)
INFO = FakeEngine("slow to load").info


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def engine():
    return FaultyEngine(FakeEngine("first"))


@pytest.fixture
def link(engine, clock):
    return EngineLink(engine, golden=GOLDEN, settings=SETTINGS, clock=clock)


def blamed(link, clock, times=1):
    for _ in range(times):
        link.blame(started=clock.now(), now=clock.now())
        clock.advance(0.001)


def spoiled(link, clock, invalid):
    """A call with ten scores, of which some are none."""
    link.scored(10, invalid)
    link.blame_in_part(invalid / 10, clock.now())


def opened_again(link, clock):
    """Opened for the second time, so that the first probe is an interval away."""
    blamed(link, clock, 3)
    assert probed(link, clock, after=0.0)
    assert link.status == "ready"
    blamed(link, clock, 3)
    assert link.status == "open"


def probed(link, clock, *, after=1.3):
    """Let the time of a probe come, and ask if it is due."""
    clock.advance(after)
    assert link.probe_is_due(clock.now())
    return Check(link, GOLDEN, clock).proceed()


# --- engines that come and go ---


def test_a_link_without_its_engine_is_loading_and_passed_by(clock):
    link = EngineLink.pending(INFO, clock=clock)

    assert (link.status, link.serves, link.info) == ("loading", False, INFO)
    assert link.begin(clock.now()) is None


def test_an_engine_that_is_put_in_gets_the_next_call(clock):
    link = EngineLink.pending(INFO, clock=clock)
    engine = FakeEngine("other", precision="fp16")

    assert link.install(engine) is None

    assert (link.status, link.serves) == ("ready", True)
    assert link.info == engine.info
    assert link.begin(clock.now()).engine is engine


def test_one_engine_takes_over_from_another_between_two_calls(link, engine, clock):
    call, other = link.begin(clock.now()), FakeEngine("first")

    assert link.install(other) is engine

    assert link.is_calling(engine)
    assert link.begin(clock.now()).engine is other
    assert link.end(call), "the scores of a call that began before are as good as ever"
    assert not link.is_calling(engine)


def test_a_new_engine_does_not_inherit_the_faults_of_the_old(link, clock):
    blamed(link, clock, 3)
    assert link.status == "open"

    link.install(FakeEngine("first"))

    assert (link.status, link.state.opened, link.state.last_error) == ("ready", 1, None)


def test_what_is_refused_says_why(clock):
    link = EngineLink.pending(INFO, clock=clock)

    link.refuse("needs 9 GiB, 4 GiB are free")

    assert (link.status, link.serves) == ("refused", False)
    assert link.state.last_error == link.state.problem == "needs 9 GiB, 4 GiB are free"


def test_a_retired_engine_gets_no_later_call(link, engine, clock):
    assert link.retire() is engine

    assert link.begin(clock.now()) is None
    assert link.begin_probe(clock.now()) is None
    assert link.retire() is None


def test_an_engine_that_was_taken_out_as_it_hung_is_called_until_it_is_back(link, engine, clock):
    call = link.begin(clock.now())
    link.give_up(call, clock.now())

    assert link.retire() is engine

    assert link.is_calling(engine)
    assert not link.end(call)
    assert not link.is_calling(engine)


# --- the breaker ---


def test_it_opens_after_enough_failures_in_a_row_and_is_passed_by(link, clock, caplog):
    caplog.set_level(logging.WARNING)
    link.failed("first: no device")
    blamed(link, clock, 2)
    assert (link.status, link.serves) == ("failing", True)

    blamed(link, clock)

    assert (link.status, link.serves) == ("open", False)
    assert link.begin(clock.now()) is None
    assert (link.state.opened, link.state.since) == (1, clock.wall() - 0.001)
    assert "engine first is open: first: no device" in caplog.text


def test_scores_between_failures_keep_it_closed(link, clock):
    for _ in range(4):
        blamed(link, clock, 2)
        link.scored(5, 0)
        assert link.status == "ready"
        link.scored(5, 0)
        link.scored(5, 0)


def test_it_opens_when_half_of_the_last_twenty_calls_failed(link, clock):
    for _ in range(9):
        blamed(link, clock)
        link.scored(5, 0)
    assert link.serves, "of 18 calls nothing can be told"

    blamed(link, clock, 2)

    assert link.status == "open"


def test_what_golden_rows_forgave_does_not_open_it(link, clock):
    for _ in range(4):
        blamed(link, clock, 2)
        for _ in range(17):
            spoiled(link, clock, 9)
        link.forgive()
        assert (link.status, link.state.failures_in_a_row) == ("ready", 0)


def test_it_opens_when_half_of_the_rows_are_no_probabilities(link, clock):
    for _ in range(19):
        spoiled(link, clock, 5)
    assert link.status == "ready"

    spoiled(link, clock, 5)

    assert link.status == "open"
    assert link.state.last_error == "first: 5 of 10 scores are not in [0, 1]"


def test_a_few_spoiled_rows_in_every_call_do_not_open_it(link, clock):
    for _ in range(100):
        spoiled(link, clock, 2)

    assert link.status == "ready"
    assert (link.state.rows, link.state.invalid_rows) == (800, 200)


def test_a_call_that_was_too_slow_opens_it_at_once(link, clock):
    link.overran(2.5, clock.now())

    assert link.status == "open"
    assert link.state.last_error == "first: a call took 2.5 s, which is too long"


# --- golden rows ---


def test_only_a_probe_that_passes_closes_it(link, engine, clock):
    blamed(link, clock, 3)
    engine.fail(2)

    assert probed(link, clock)
    assert link.status == "open"
    assert link.state.last_error == "first: a fault that was ordered"
    assert probed(link, clock)
    assert link.status == "open"
    assert probed(link, clock)

    assert (link.status, link.serves) == ("ready", True)
    assert (link.state.opened, link.state.calls) == (1, 0), "golden rows are nobody's call"


def test_it_is_probed_at_once_for_the_fault_may_be_the_requests(link, clock):
    blamed(link, clock, 3)

    assert link.probe_is_due(clock.now())
    assert not link.probe_is_due(clock.now())


@pytest.mark.parametrize(("calm_s", "at_once"), [(9.0, False), (11.0, True)])
def test_one_that_fails_again_soon_after_is_given_a_pause_first(link, clock, calm_s, at_once):
    blamed(link, clock, 3)
    assert probed(link, clock, after=0.0)
    clock.advance(calm_s)
    blamed(link, clock, 3)

    assert link.probe_is_due(clock.now()) == at_once


@pytest.mark.parametrize("fault", ["hung", "wrong"])
def test_one_whose_fault_is_proved_is_given_a_pause(link, engine, clock, fault):
    if fault == "wrong":
        engine.distort()
        Check(link, GOLDEN, clock).proceed()
    else:
        link.overran(3.0, clock.now())

    assert not link.probe_is_due(clock.now())


def test_a_probe_is_due_once_per_interval_give_or_take_a_quarter(link, clock):
    opened_again(link, clock)

    assert not link.probe_is_due(clock.now() + 0.7)
    assert link.probe_is_due(clock.now() + 1.26)
    assert not link.probe_is_due(clock.now() + 1.26 + 0.7)
    assert link.probe_is_due(clock.now() + 1.26 + 1.26)


def test_while_it_is_probed_it_is_still_passed_by(link, clock):
    blamed(link, clock, 3)

    call = link.begin_probe(clock.now())

    assert (link.status, link.serves) == ("probing", False)
    assert link.begin_probe(clock.now()) is None, "one thread at a time calls an engine"
    link.end(call)
    link.passed(call, clock.now())
    assert link.status == "ready"


def test_wrong_golden_scores_open_an_engine_that_seemed_well(link, engine, clock):
    engine.distort()

    assert Check(link, GOLDEN, clock).proceed()

    assert link.status == "open"
    assert re.match(r"first: golden rows: row \d of 5 scores 0", link.state.last_error)
    assert probed(link, clock)
    assert link.status == "open"
    engine.mend()
    assert probed(link, clock)
    assert link.status == "ready"


def test_a_check_of_an_engine_in_use_leaves_it_in_use(link, clock):
    call = link.begin_probe(clock.now())

    assert (link.status, link.serves) == ("ready", True)
    link.end(call)
    link.passed(call, clock.now() + 3)
    assert link.checked_at == clock.now() + 3


def test_without_known_scores_any_probabilities_pass(engine, clock):
    any_scores = Golden(rows=ROWS, scores=None, tolerance=0.0)

    any_scores.check("first", np.full(5, 0.5, np.float32))

    for wrong in (np.full(4, 0.5, np.float32), np.full(5, np.nan, np.float32)):
        with pytest.raises(EngineFailed, match="no probabilities"):
            any_scores.check("first", wrong)


def test_an_engine_that_was_replaced_while_it_was_probed_says_nothing_about_the_new(link, clock):
    blamed(link, clock, 3)
    call = link.begin_probe(clock.now())
    link.install(FakeEngine("first"))

    link.end(call)
    link.not_passed(call, "first: wrong", clock.now(), wrong=True)

    assert (link.status, link.state.last_error) == ("ready", None)


# --- calls that hang ---


def test_a_call_that_hangs_is_given_up_and_its_engine_left_alone_until_it_is_back(link, clock):
    call = link.begin(clock.now())
    clock.advance(2.5)

    assert link.give_up(call, clock.now())

    assert (link.status, link.serves) == ("hung", False)
    assert link.state.last_error == "first: a call took 2.5 s, which is too long"
    clock.advance(60)
    assert not link.probe_is_due(clock.now()), "its thread is still in there"
    assert not link.end(call), "its scores come too late"
    assert link.status == "open"
    assert link.probe_is_due(clock.now())
    Check(link, GOLDEN, clock).proceed()
    assert link.status == "ready"


def test_a_call_is_given_up_only_once_and_only_while_it_is_under_way(link, clock):
    call = link.begin(clock.now())
    assert link.give_up(call, clock.now())
    assert not link.give_up(call, clock.now())
    link.end(call)

    assert not link.give_up(call, clock.now())
    assert link.status == "open"


def test_a_new_engine_serves_while_a_call_of_the_old_one_hangs(link, engine, clock):
    call = link.begin(clock.now())
    link.give_up(call, clock.now())

    link.install(other := FakeEngine("first"))

    assert (link.status, link.begin(clock.now()).engine) == ("ready", other)
    assert link.is_calling(engine)
    assert not link.end(call)
    assert (link.status, link.is_calling(engine)) == ("ready", False)


def test_either_the_caller_or_the_watch_has_a_call_never_both(clock):
    """The end of a call and its giving up race; whoever wins goes on with the batch."""
    link = EngineLink(FakeEngine(), clock=clock)
    for _ in range(200):
        link.install(FakeEngine())
        call, winners = link.begin(clock.now()), []
        start = threading.Barrier(2)

        def end(call=call, start=start, winners=winners):
            start.wait()
            winners.append(link.end(call))

        thread = threading.Thread(target=end)
        thread.start()
        start.wait()
        given_up = link.give_up(call, clock.now())
        thread.join()

        assert winners == [not given_up]


# --- what it is asked ---


def test_more_rows_than_an_engine_takes_are_asked_for_in_cuts(clock):
    fake = FakeEngine(max_batch_rows=100)
    link, rows = EngineLink(fake, clock=clock), random_batch(250)

    scores = link.score(link.begin(clock.now()), rows)

    np.testing.assert_array_equal(scores, FakeEngine.expected(rows))
    assert fake.calls == [100, 100, 50]


def test_an_engine_that_takes_no_candidates_is_told_so(clock):
    class Split(FakeEngine):
        def score_candidates(self, rows):
            return np.zeros(rows.rows, np.float32)

    plain = EngineLink(FakeEngine(), clock=clock).begin(0.0)
    split = EngineLink(Split(), clock=clock).begin(0.0)
    faulty = EngineLink(FaultyEngine(Split()), clock=clock).begin(0.0)

    assert [c.takes_candidates for c in (plain, split, faulty)] == [False, True, True]


class Panic(BaseException):
    """What native code may raise, such as a panic of Rust: no `Exception`."""


@pytest.mark.parametrize("raised", [KeyError("no such input"), Panic("index out of bounds")])
def test_whatever_an_engine_raises_is_a_failure_with_its_name(raised, clock):
    class Wrong(FakeEngine):
        def score(self, batch: FeatureBatch):
            raise raised

    link = EngineLink(Wrong("odd"), clock=clock)

    with pytest.raises(EngineFailed, match=r"^odd: "):
        link.score(link.begin(0.0), ROWS)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (np.zeros((5, 1), np.float32), "scores of shape (5, 1)"),
        (np.zeros(5, np.float16), "float16 scores of shape (5,)"),
        (np.zeros(5, np.int32), "int32 scores of shape (5,)"),
        (None, "NoneType as scores"),
        ([0.5] * 5, "list as scores"),
    ],
)
def test_whatever_else_than_a_score_per_row_it_answers_is_one_too(answer, told, clock):
    class Wrong(FakeEngine):
        def score(self, batch: FeatureBatch):
            return answer

    odd = EngineLink(Wrong("odd"), clock=clock)

    with pytest.raises(EngineFailed, match=rf"^odd: 5 rows gave {re.escape(told)}$"):
        odd.score(odd.begin(0.0), ROWS)


def test_the_description_of_an_engine_is_as_good_as_pending(clock):
    info = EngineInfo(name="x", precision="fp16", model="m", version="1", max_batch_rows=8)

    assert EngineLink(info, clock=clock).status == "loading"
