"""What the benchmark's figures rest on: the check of replies, the clock of the open loop,
the best schedule. No figure is tested."""

import asyncio
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from ranking_models.schema import FeatureBatch
from service.engines import EngineInfo
from tests.bench.bench_device import best_per_s
from tests.bench.generator import Load, Met, send
from tests.bench.simulated_device import (
    CALL_S,
    MOST_ROWS,
    ROW_S,
    SimulatedDevice,
    expected_scores,
    new_device,
    used,
)
from tests.bench.workload import INPUT_WIDTH, SLATE, schema, slate_error

CANDIDATES = [f"i{i}" for i in range(30)]
SCORES = np.linspace(0.1, 0.9, 30).astype(np.float32)
RIGHT = sorted(zip(CANDIDATES, SCORES.tolist(), strict=True), key=lambda pair: -pair[1])[:SLATE]
ANSWER_S = 0.02


def test_the_right_slate_has_no_error_and_a_score_that_is_off_shows():
    assert slate_error(CANDIDATES, SCORES, RIGHT) == 0

    off = [(item, score + 0.001) for item, score in RIGHT]
    assert slate_error(CANDIDATES, SCORES, off) == pytest.approx(0.001)


@pytest.mark.parametrize(
    "wrong",
    [
        RIGHT[::-1],
        RIGHT[:-1],
        [*RIGHT[:-1], RIGHT[0]],
        [*RIGHT[:-1], ("nobody", 0.5)],
        [*RIGHT[:-1], ("i0", 0.1)],
    ],
    ids=["reversed", "short", "twice", "unknown", "worse"],
)
def test_a_wrong_slate_is_refused(wrong):
    with pytest.raises(ValueError, match=r"slate|order"):
        slate_error(CANDIDATES, SCORES, wrong)


def test_the_model_has_the_input_width_that_the_workload_names():
    fields = len(schema().ids) * 16
    assert len(schema().dense) + fields == INPUT_WIDTH


class OneAtATime(asyncio.Protocol):
    """Answers in order, `ANSWER_S` apart, over all connections."""

    free_at = 0.0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        loop = asyncio.get_running_loop()
        OneAtATime.free_at = max(OneAtATime.free_at, loop.time()) + ANSWER_S
        reply = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + data[-2:]
        loop.call_at(OneAtATime.free_at, self.transport.write, reply)


@pytest.fixture
def slow_server() -> Iterator[int]:
    """Its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(OneAtATime, sock=listener))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield listener.getsockname()[1]
    loop.call_soon_threadsafe(server.close)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def load(port: int, *, rate_per_s: float | None) -> Met:
    return send(
        Load(
            host="127.0.0.1",
            port=port,
            path="/",
            bodies=[b"aa", b"bb"],
            seconds=0.2,
            connections=1,
            rate_per_s=rate_per_s,
            keep_replies=True,
        )
    )


def test_the_closed_loop_hides_queueing_and_the_open_loop_shows_it(slow_server):
    """One connection and 50 answers a second; 150 a second are due."""
    closed, opened = load(slow_server, rate_per_s=None), load(slow_server, rate_per_s=150)

    assert min(closed.latencies[200]) >= 0.9 * ANSWER_S
    assert max(opened.latencies[200]) > 10 * ANSWER_S
    assert opened.answered + opened.unanswered == 30


def test_replies_come_back_with_the_number_of_their_request(slow_server):
    met = load(slow_server, rate_per_s=None)

    assert met.replies[:4] == [(0, b"aa"), (1, b"bb"), (0, b"aa"), (1, b"bb")]


def test_no_schedule_beats_the_devices_capacity_and_light_load_is_all_done():
    capacity = MOST_ROWS / (CALL_S + MOST_ROWS * ROW_S) / 100

    assert best_per_s(2 * capacity, 2.0, seed=1) == pytest.approx(capacity, rel=0.01)
    assert best_per_s(0.1 * capacity, 2.0, seed=1) == pytest.approx(0.1 * capacity, rel=0.1)


def test_the_device_is_one_for_all_its_handles_and_counts_what_it_did(tmp_path):
    file = tmp_path / "device"
    new_device(file)
    info = EngineInfo(
        name="tensorrt", precision="fp32", model="m", version="v", max_batch_rows=MOST_ROWS
    )
    rows = FeatureBatch(
        dense=np.zeros((7, 1), np.float32), ids=np.arange(7, dtype=np.int32)[:, None]
    )
    handles = [SimulatedDevice(file, info) for _ in range(2)]

    for handle in handles:
        np.testing.assert_array_equal(handle.score(rows), expected_scores(rows))
        handle.close()

    assert used(file).calls == 2
    assert used(file).rows == 14
    assert used(file).busy_s == pytest.approx(2 * (CALL_S + 7 * ROW_S))
