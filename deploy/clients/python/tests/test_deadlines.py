"""A call ends at its deadline, whatever is at the other end; and then there still is a slate."""

import asyncio
import json
import time
from functools import partial

import pytest
from podium_client import AsyncClient, Client, RetryPolicy, Settings, TimedOut, Unreachable

USUAL = Settings()
TWO = Settings(max_connections=2)
ROOM_S = 3.0
"""What a busy machine may add to a deadline."""


def asked(peer, timeout_s, *, awaited, settings=USUAL):
    """The slate, and how long it took."""
    started = time.monotonic()
    if awaited:

        async def ask():
            async with AsyncClient(peer.url, settings=settings) as client:
                return await client.rank_or_input_order(["b", "a", "c"], k=2, timeout_s=timeout_s)

        slate = asyncio.run(ask())
    else:
        with Client(peer.url, settings=settings) as client:
            slate = client.rank_or_input_order(["b", "a", "c"], k=2, timeout_s=timeout_s)
    return slate, time.monotonic() - started


@pytest.mark.parametrize("awaited", [False, True])
def test_a_silent_service_costs_the_deadline_and_gives_the_input_order(peer, awaited):
    slate, took_s = asked(peer(None), 0.05, awaited=awaited)

    assert slate.items == ("b", "a")
    assert (slate.is_ranked, slate.reason, slate.exposure) == (False, "timed_out", None)
    assert 0.05 <= took_s < 0.05 + ROOM_S


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize(("keeps", "reason"), [(True, "timed_out"), (False, "unreachable")])
def test_a_body_that_does_not_come_to_its_end_is_no_reply(peer, awaited, keeps, reason):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"

    slate, took_s = asked(peer(head, head, keeps=keeps), 0.2, awaited=awaited)

    assert slate.reason == reason
    assert took_s < 0.2 + ROOM_S


@pytest.mark.parametrize("awaited", [False, True])
def test_nobody_at_the_address_gives_the_input_order_at_once(peer, awaited):
    gone = peer()
    gone.close()

    slate, took_s = asked(gone, 5.0, awaited=awaited)

    assert (slate.items, slate.reason) == (("b", "a"), "unreachable")
    assert took_s < ROOM_S


@pytest.mark.parametrize("awaited", [False, True])
def test_what_is_no_podium_gives_the_input_order(peer, awaited):
    page = b"<html>maintenance</html>"
    answer = b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s"

    slates = [
        asked(peer(answer % (status, len(page), page)), 1.0, awaited=awaited)[0]
        for status in (b"200 OK", b"500 Oops", b"418 Teapot")
    ]

    assert [slate.reason for slate in slates] == ["reply_unreadable", "http_500", "http_418"]


def answer_of(head, body=b""):
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (head, len(body), body)


DEEP = b'{"a":' * 100_000
FROM_TOMORROW = b"Mon, 01 Jan 2024 00:00:00 +99999999999999999999"
NEGATIVE = (
    b'{"type":"about:blank","title":"","status":429,"code":"queue_full","detail":"",'
    b'"retry_after_s":-5.0}'
)
ODD = {
    answer_of(b"302 Found\r\nLocation: https://podium/"): "reply_unreadable",
    answer_of(b"200 OK\r\nContent-Encoding: gzip", b"junk"): "reply_unreadable",
    answer_of(b"200 OK", DEEP): "reply_unreadable",
    answer_of(b"500 Oops", DEEP): "http_500",
    answer_of(b"429 Busy\r\nRetry-After: " + FROM_TOMORROW): "http_429",
    answer_of(b"429 Busy", NEGATIVE): "queue_full",
}
"""Answers that nobody should send, and what the slate says of them."""


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize(("answer", "reason"), ODD.items(), ids=range(len(ODD)))
def test_no_answer_is_odd_enough_to_cost_the_page(peer, awaited, answer, reason):
    slate, _ = asked(peer(answer, answer), 5.0, awaited=awaited)

    assert (slate.items, slate.reason) == (("b", "a"), reason)


@pytest.mark.parametrize("awaited", [False, True])
@pytest.mark.parametrize("left_s", [0.0, -0.3])
def test_a_deadline_that_has_passed_before_gives_the_input_order(peer, awaited, left_s):
    there = peer(None)

    slate, _ = asked(there, left_s, awaited=awaited)

    assert (slate.items, slate.reason, there.requests) == (("b", "a"), "timed_out", [])


def test_a_client_that_is_closed_meanwhile_gives_the_input_order(peer):
    there = peer(None, None)

    async def ask():
        client = AsyncClient(there.url)
        asking = asyncio.create_task(client.rank_or_input_order(["a"], timeout_s=5.0))
        while not there.requests:  # noqa: ASYNC110 - the peer is a thread
            await asyncio.sleep(0.001)
        await client.aclose()
        return await asking

    assert asyncio.run(ask()).reason == "unreachable"


def test_the_service_is_told_the_deadline_less_what_the_network_may_take(peer):
    there = peer(None)
    settings = Settings(rank_timeout_s=0.3, network_allowance_s=0.1)

    asked(there, 0.3, awaited=False, settings=settings)

    told = json.loads(there.requests[0].partition(b"\r\n\r\n")[2])["timeout_ms"]
    assert 100 < told <= 200


def test_a_deadline_that_leaves_the_service_nothing_is_not_sent(peer):
    there = peer(None)

    with Client(there.url) as client, pytest.raises(TimedOut, match="network"):
        client.rank(["a"], timeout_s=0.005)

    assert there.requests == []


def test_waiting_for_a_connection_counts(peer):
    settings = Settings(max_connections=1)
    there = peer(None, None)

    async def ask():
        async with AsyncClient(there.url, settings=settings) as client:
            asking = [client.rank_or_input_order(["a"], timeout_s=0.1) for _ in range(3)]
            return await asyncio.gather(*asking)

    started = time.monotonic()
    slates = asyncio.run(ask())

    assert {slate.reason for slate in slates} == {"timed_out"}
    assert time.monotonic() - started < 0.1 + ROOM_S


@pytest.mark.parametrize("awaited", [False, True])
def test_deadlines_that_pass_cost_no_connection(awaited):
    async def teapot(reader, writer):
        await reader.readuntil(b"}")
        await speaks.wait()
        writer.write(answer_of(b"418 Teapot"))
        writer.close()

    async def reason(client, timeout_s):
        if awaited:
            return (await client.rank_or_input_order(["a"], timeout_s=timeout_s)).reason
        ask = partial(client.rank_or_input_order, ["a"], timeout_s=timeout_s)
        return (await asyncio.to_thread(ask)).reason

    async def reasons():
        server = await asyncio.start_server(teapot, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        client = (AsyncClient if awaited else Client)(f"http://{host}:{port}", settings=TWO)
        crowd = (reason(client, 0.02 + n / 2000) for n in range(60))
        late = set(await asyncio.gather(*crowd))
        speaks.set()
        then = await reason(client, 5.0)
        await (client.aclose() if awaited else asyncio.to_thread(client.close))
        server.close()
        return late, then

    speaks = asyncio.Event()
    assert asyncio.run(reasons()) == ({"timed_out"}, "http_418")


def test_an_unreachable_service_is_an_error_where_no_slate_was_asked_for(peer):
    gone = peer()
    gone.close()

    settings = Settings(retry=RetryPolicy(most=0))
    with Client(gone.url, settings=settings) as client, pytest.raises(Unreachable):
        client.models()


@pytest.mark.parametrize(
    "wrong", [{"network_allowance_s": 0.2}, {"network_allowance_s": -0.1}, {"timeout_s": 0.0}]
)
def test_settings_that_leave_no_time_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(rank_timeout_s=0.1, **wrong)


@pytest.mark.parametrize("endless", [float("nan"), float("inf"), 1e12])
def test_a_deadline_that_no_socket_knows_is_refused(peer, endless):
    with Client(peer(None).url) as client, pytest.raises(ValueError, match="86,400"):
        client.rank(["a"], timeout_s=endless)
