"""What is tried again, when, and how much of it at most."""

import time

import pytest
from podium_client import Client, RankingRefused, RetryPolicy, Unavailable, Unreachable
from podium_client.calls import retry_after_s
from podium_client.deadlines import Deadline
from podium_client.retries import Attempts, RetryBudget

RESET = b""
"""The connection closes without a word."""


def answer(status: int, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def refused(status, code, after_s=None):
    after = "" if after_s is None else f',"retry_after_s":{after_s}'
    return answer(
        status,
        f'{{"type":"t","title":"t","status":{status},"code":"{code}","detail":"d"{after}}}'.encode(),
    )


HEALTHY = answer(200, b'{"status":"ready","components":{},"new":1}')
KEPT = answer(202, b'{"results":[]}')


def test_a_read_is_repeated_once_after_a_reset(peer):
    there = peer(RESET, HEALTHY)

    with Client(there.url) as client:
        assert client.health().status == "ready"

    assert len(there.requests) == 2


def test_it_is_not_repeated_twice(peer):
    there = peer(RESET, RESET, HEALTHY)

    with Client(there.url) as client, pytest.raises(Unreachable):
        client.health()

    assert len(there.requests) == 2


def test_events_are_repeated_with_the_same_ids(peer):
    there = peer(refused(503, "events_unavailable", 0.01), KEPT)

    with Client(there.url) as client:
        client.events([])

    first, second = (request.partition(b"\r\n\r\n")[2] for request in there.requests)
    assert first == second


@pytest.mark.parametrize("failure", [RESET, refused(503, "store_unavailable", 0.01)])
@pytest.mark.parametrize("verb", ["start", "pause", "ramp", "promote", "rollback", "stop"])
def test_a_change_is_sent_once(peer, verb, failure):
    there = peer(failure, HEALTHY)

    with Client(there.url) as client, pytest.raises((Unreachable, Unavailable)):
        getattr(client, verb)("an-experiment")

    assert len(there.requests) == 1


def test_a_refused_ranking_comes_again_after_as_long_as_it_was_told(peer):
    there = peer(refused(429, "queue_full", 0.2), refused(429, "queue_full", 0.2))

    started = time.monotonic()
    with Client(there.url) as client, pytest.raises(RankingRefused) as refusal:
        client.rank(["a"], timeout_s=5)

    assert time.monotonic() - started >= 0.2
    assert refusal.value.retry_after_s == 0.2
    assert len(there.requests) == 2


def test_there_is_no_waiting_for_what_the_deadline_does_not_allow(peer):
    there = peer(refused(429, "queue_full", 1.0), HEALTHY)

    started = time.monotonic()
    with Client(there.url) as client:
        slate = client.rank_or_input_order(["a"], timeout_s=0.5)

    assert time.monotonic() - started < 0.5
    assert (slate.reason, len(there.requests)) == ("queue_full", 1)


def test_the_header_is_heard_where_the_body_is_a_proxys(peer):
    there = peer(answer(503, b"no healthy upstream", "Retry-After: 7"))

    with Client(there.url) as client, pytest.raises(Unavailable) as refusal:
        client.models(timeout_s=1)

    assert (refusal.value.retry_after_s, refusal.value.code) == (7.0, "http_503")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("soon", None), (None, None)],
)
def test_retry_after_is_a_number_or_a_date(header, seconds):
    assert retry_after_s(header) == seconds


def test_while_nothing_answers_repetitions_add_a_tenth_of_the_load():
    policy = RetryPolicy()
    budget = RetryBudget(policy)

    repeated = [
        Attempts(policy, budget, Deadline(10), may_repeat=True).pause_s(Unreachable(), needed_s=0)
        is not None
        for _ in range(1000)
    ]

    assert sum(repeated[:10]) == 10
    assert sum(repeated[20:]) / len(repeated[20:]) == pytest.approx(0.1, abs=0.01)


def test_pauses_differ_and_double():
    policy = RetryPolicy(most=2, backoff_s=0.1)
    budget = RetryBudget(RetryPolicy(budget_burst=1000))

    def pauses():
        attempts = Attempts(policy, budget, Deadline(10), may_repeat=True)
        return [attempts.pause_s(Unreachable(), needed_s=0) for _ in range(3)]

    seen = [pauses() for _ in range(100)]

    firsts, seconds, thirds = zip(*seen, strict=True)
    assert len(set(firsts)) > 90
    assert 0.05 < max(firsts) <= 0.1 < max(seconds) <= 0.2
    assert set(thirds) == {None}
