"""Whatever its cache server does, the service answers every request, and rightly.

Each fault happens under load; every reply is compared with what ONNX Runtime
computes for that request alone, item by item and score by score. How long
things take is measured by ``make chaos`` (`tests.chaos`).
"""

import json
from collections.abc import Iterator

import pytest

from tests.chaos.course import Course, replies, run_course
from tests.chaos.faults import FAULTS, Fault
from tests.chaos.load import Load, Plan
from tests.chaos.questions import Checker, Question, differing
from tests.chaos.site import SECRET, Client, Mode, Options, Site, site
from tests.support.valkey import wait_until

QUESTIONS = 200
BEFORE, DURING, AFTER = 150, 250, 100
"""Checked replies per phase, at least."""
CLIENTS: list[Client] = ["lean", "redis-py"]
OF_CONNECTIONS = ["killed", "stopped", "storm", "revoked"]
OF_VALUES = [
    "full",
    "read-only",
    "wrong-type",
    "old-version",
    "strangers",
    "flushed",
]
"""What is found in replies that are in order; so it is the same for every client."""
OF_REPLIES = [name for name, fault in FAULTS.items() if fault.site == "proxied"]
OF_CLUSTERS = [name for name, fault in FAULTS.items() if fault.site == "cluster"]
OF_CLOCKS = [name for name, fault in FAULTS.items() if fault.site == "jumping"]
OF_A_START = ["absent", "crowd"]
"""With settings or circumstances of their own."""


@pytest.fixture(scope="module", params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    chosen: Client = request.param
    return chosen


@pytest.fixture(scope="module")
def at_server(client: Client) -> Iterator[Site]:
    with site("server", Options(client=client)) as running:
        yield running


@pytest.fixture(scope="module")
def proxied(client: Client) -> Iterator[Site]:
    with site("proxied", Options(client=client)) as running:
        yield running


@pytest.fixture(scope="module")
def clustered() -> Iterator[Site]:
    with site("cluster", Options()) as running:
        yield running


@pytest.fixture(scope="module")
def jumping() -> Iterator[Site]:
    with site("jumping", Options()) as running:
        yield running


def survives(running: Site, name: str, mode: Mode = "exact") -> None:
    """Let a fault happen, and see that nobody is the worse for it."""
    fault = FAULTS[name]
    plan = Plan(url=running.server.base_url, questions=running.asked(QUESTIONS, mode))
    counted = running.failures()

    def during(load: Load) -> None:
        if fault.opens:
            wait_until(lambda: running.cache_state == "left alone")
        if fault.refuses:
            wait_until(lambda: running.cache_state == "not written to")
        # Further clients take most of the turns, and their replies are checked as well.
        replies(DURING if fault.beside is None else DURING // 10)(load)
        if fault.shows:
            wait_until(lambda: any(running.failures()[r] > counted[r] for r in fault.shows))

    course = run_course(
        running, fault, plan, before=replies(BEFORE), during=during, after=until_used
    )
    all_is_right(fault, course)


def until_used(load: Load) -> None:
    """Some replies, and among them one from the cache."""
    found = load.found
    replies(AFTER)(load)
    wait_until(lambda: load.found > found or load.is_over)


def all_is_right(fault: Fault, course: Course) -> None:
    assert (course.failed, course.wrong) == (0, 0), course.problems
    assert course.requests >= BEFORE + DURING + AFTER
    assert course.refused_looks == 0, "a failing cache must not turn traffic away"
    assert course.used_again_s is not None, "the cache was not used any more"
    if fault.opens:
        assert course.opened_s is not None
        results = course.met.between(course.opened_s, course.ended_s).results()
        assert results["bypass"] + results["error"] > 0, results
    elif fault.opens is False:
        assert course.opened_s is None, "left alone though it answers"


@pytest.mark.parametrize("name", OF_CONNECTIONS)
def test_a_cache_server_that_cannot_be_asked_fails_no_request(at_server: Site, name: str) -> None:
    survives(at_server, name)

    assert SECRET not in "".join(at_server.server.lines)


@pytest.mark.parametrize("name", OF_REPLIES)
def test_spoiled_replies_reach_no_caller(proxied: Site, name: str) -> None:
    survives(proxied, name)


@pytest.mark.parametrize("client", ["lean"], indirect=True)
@pytest.mark.parametrize("name", ["half-open", "garbage", "swapped"])
def test_rows_of_segments_change_no_score_that_is_shown(proxied: Site, name: str) -> None:
    survives(proxied, name, "segment_rescore")


@pytest.mark.parametrize("name", OF_A_START)
def test_neither_a_late_cache_server_nor_a_small_pool_fails_a_request(
    client: Client, name: str
) -> None:
    usual = FAULTS[name].options
    options = Options(client=client, absent=usual.absent, pool_size=usual.pool_size)
    with site("server", options) as running:
        survives(running, name)


@pytest.mark.parametrize("client", ["lean"], indirect=True)
@pytest.mark.parametrize("name", OF_VALUES)
def test_values_that_are_not_right_reach_no_caller(at_server: Site, name: str) -> None:
    survives(at_server, name)


@pytest.mark.parametrize("name", OF_CLUSTERS)
def test_a_cluster_that_changes_fails_no_request(clustered: Site, name: str) -> None:
    survives(clustered, name)


@pytest.mark.parametrize("name", OF_CLOCKS)
def test_a_clock_that_jumps_makes_no_answer_wrong(jumping: Site, name: str) -> None:
    survives(jumping, name)


def test_every_fault_is_tried() -> None:
    tried = [OF_CONNECTIONS, OF_VALUES, OF_REPLIES, OF_A_START, OF_CLUSTERS, OF_CLOCKS]

    assert sorted(name for names in tried for name in names) == sorted(FAULTS)


@pytest.mark.parametrize("client", ["lean"], indirect=True)
def test_the_check_can_tell_a_wrong_answer_from_a_right_one(at_server: Site) -> None:
    asked = at_server.asked(100)
    got = [at_server.server.rank(**json.loads(one.body)).content for one in asked]
    checker = Checker(asked)

    assert all(checker.is_right(n, reply) for n, reply in enumerate(got))
    assert differing(asked) > 0.99
    assert not any(_takes_anothers(checker, asked, n, got) for n in range(len(asked)))


def _takes_anothers(checker: Checker, asked: list[Question], n: int, got: list[bytes]) -> bool:
    """Whether another question's reply passes that ranks the same candidates."""
    same = [m for m in range(len(asked)) if m != n and {*asked[m].scores} == {*asked[n].scores}]
    assert same
    return any(checker.is_right(n, got[m]) for m in same)
