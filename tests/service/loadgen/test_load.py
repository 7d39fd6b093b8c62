"""Load is bounded, counts everything, and does not hide queueing."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import numpy as np
import pytest

from ranking_models.bundle import Bundle
from service.loadgen.connection import Connection, Target
from service.loadgen.load import LoadReport, closed_loop, open_loop, rank_bodies
from service.messages import RankRequest
from tests.support.bundles import write_tiny_bundle

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CLOSE = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
BUSY = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"


class Server:
    """Answers every request with what ``answer(number, body)`` returns; None hangs up."""

    def __init__(self, answer: Callable[[int, bytes], Awaitable[bytes | None]]) -> None:
        self.answer = answer
        self.bodies: list[bytes] = []
        self.heads: list[bytes] = []
        self.connections = 0
        self.under_way = 0
        self.most_under_way = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                self.heads.append(head)
                self.bodies.append(await reader.readexactly(length))
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                answer = await self.answer(len(self.bodies), self.bodies[-1])
                self.under_way -= 1
                if answer is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(answer):
    server = Server(answer)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listener:
        yield server, f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


def always(answer):
    async def reply(_number, _body):
        await asyncio.sleep(0)
        return answer

    return reply


async def test_a_closed_loop_sends_so_many_requests_with_the_bodies_in_turn():
    async with serving(always(OK)) as (server, url):
        report = await closed_loop(url, [b"a", b"bb"], callers=1, requests=5, longest_s=60)

    assert server.bodies == [b"a", b"bb", b"a", b"bb", b"a"]
    assert server.heads[0].startswith(b"POST /v1/rank HTTP/1.1\r\nhost: 127.0.0.1:")
    assert b"content-type: application/json\r\n" in server.heads[0]
    assert server.connections == 1
    assert report.statuses == {200: 5}
    assert report.failures == {}
    assert len(report.latencies_s) == 5
    assert report.answered_per_s == pytest.approx(5 / report.elapsed_s)


async def test_a_closed_loop_has_one_request_per_caller_under_way():
    gate = asyncio.Event()

    async def wait_for_four(number, _body):
        if number == 4:
            gate.set()
        await gate.wait()
        return OK

    async with serving(wait_for_four) as (server, url):
        await closed_loop(url, [b"x"], callers=4, requests=40, longest_s=60)

    assert server.most_under_way == server.connections == 4
    assert len(server.bodies) == 40


async def test_a_closed_loop_ends_when_its_time_is_up():
    async with serving(always(OK)) as (server, url):
        report = await closed_loop(url, [b"x"], callers=2, requests=1_000_000, longest_s=0.05)

    assert 0 < len(server.bodies) < 1_000_000
    assert 0.05 <= report.elapsed_s < 5


async def test_only_answers_with_200_have_a_latency():
    async def every_other(number, _body):
        return OK if number % 2 else BUSY

    async with serving(every_other) as (_, url):
        report = await closed_loop(url, [b"x"], callers=1, requests=10, longest_s=60)

    assert report.statuses == {200: 5, 429: 5}
    assert len(report.latencies_s) == 5


@pytest.mark.parametrize("answer", [CLOSE, CHUNKED])
async def test_servers_that_close_or_send_chunks_are_understood(answer):
    async with serving(always(answer)) as (server, url):
        report = await closed_loop(url, [b"x"], callers=1, requests=3, longest_s=60)

    assert report.statuses == {200: 3}
    assert server.connections == (3 if answer is CLOSE else 1)


@pytest.mark.parametrize(
    ("answer", "failure"), [(None, "ConnectionResetError"), (b"220 smtp\r\n", "ConnectionError")]
)
async def test_a_broken_answer_is_counted_and_the_next_request_has_a_new_connection(
    answer, failure
):
    async def second_is_broken(number, _body):
        return answer if number == 2 else OK

    async with serving(second_is_broken) as (server, url):
        report = await closed_loop(url, [b"x"], callers=1, requests=4, longest_s=60)

    assert report.failures == {failure: 1}
    assert report.statuses == {200: 3}
    assert server.connections == 2


async def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_one():
    async def first_is_late(number, body):
        if number == 1:
            await asyncio.sleep(0.2)
        return b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n" + body

    async with serving(first_is_late) as (_, url):
        target = Target.of(url)
        connection = Connection(target)
        with pytest.raises(TimeoutError):
            await connection.send(target.post("/", b"1"), timeout_s=0.02)
        answer = await connection.send(target.post("/", b"2"), timeout_s=10)
        connection.close()

    assert answer == (200, b"2")


async def test_an_open_loop_sends_at_random_times_at_the_asked_rate():
    async with serving(always(OK)) as (server, url):
        report = await open_loop(url, [b"x"], rate_per_s=1000, requests=200, seed=1)

    due = np.random.default_rng(1).exponential(1 / 1000, 200).sum()
    assert report.statuses == {200: 200}
    assert len(server.bodies) == 200
    assert due <= report.elapsed_s < due + 5


async def test_an_open_loop_counts_the_wait_of_all_that_a_stall_holds_up():
    """One slow answer delays those behind it; a closed loop would have seen one slow request."""

    async def first_stalls(number, _body):
        if number == 1:
            await asyncio.sleep(0.2)
        return OK

    async with serving(first_stalls) as (_, url):
        report = await open_loop(url, [b"x"], rate_per_s=1000, requests=50, seed=1, connections=1)

    assert (report.latencies_s > 0.1).sum() > 40
    assert report.latency_s(0.5) > 0.1


async def test_nobody_at_the_address_is_counted_for_every_request():
    async with serving(always(OK)) as (_, url):
        pass

    report = await closed_loop(url, [b"x"], callers=2, requests=6, longest_s=60)

    assert report.failures == {"ConnectionRefusedError": 6}
    assert report.statuses == {}
    assert str(report.latency_s(0.99)) == "nan"


def test_quantiles_are_those_of_the_latencies():
    report = LoadReport(
        latencies_s=np.arange(101) / 1000, statuses={200: 101}, failures={}, elapsed_s=2.0
    )

    assert report.latency_s(0.5) == pytest.approx(0.05)
    assert report.latency_s(0.99) == pytest.approx(0.099)
    assert report.answered_per_s == 50.5


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:8080", "http://"])
def test_an_address_that_is_not_plain_http_is_refused(url):
    with pytest.raises(ValueError, match="not of the form http://host:port"):
        Target.of(url)


def test_bodies_are_valid_requests_for_known_items_users_and_contexts(tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path))

    bodies = rank_bodies(bundle, count=20, candidates=30, seed=1)

    assert bodies == rank_bodies(bundle, count=20, candidates=30, seed=1)
    assert len(set(bodies)) == 20
    for body in bodies:
        request = msgspec.json.decode(body, type=RankRequest)
        assert len(request.candidates) == 30
        assert set(request.candidate_ids()) <= set(bundle.item_ids.tolist())
        assert request.user.id in bundle.user_ids
        assert request.context["device"] in {"android", "ios", "web"}


def test_bodies_for_a_bundle_without_users_are_anonymous(tmp_path):
    bundle = Bundle.open(write_tiny_bundle(tmp_path, users=0))

    (body,) = rank_bodies(bundle, count=1, candidates=5, seed=1)

    assert msgspec.json.decode(body, type=RankRequest).user.id is None
