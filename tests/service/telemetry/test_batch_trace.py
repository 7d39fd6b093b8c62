"""A batch is a trace of its own, linked with the sampled requests in it, both ways."""

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from service.telemetry import BatchMember, EngineCall, Telemetry
from service.testing import FakeClock


def attributes(span) -> dict[str, object]:
    return {
        pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes
    }


@pytest.fixture
def clock():
    return FakeClock(now=10.0, wall=1_750_000_000.0)


@pytest.fixture
def telemetry(collector, open_telemetry, clock) -> Telemetry:
    return open_telemetry(clock=clock, sample_ratio=0.0)


@pytest.fixture
def in_request(telemetry):
    """Runs code inside a request, which is sampled if told so."""

    async def run(work, *, sampled: bool) -> None:
        async def app(scope, receive, send) -> None:
            await send({"type": "http.response.start", "status": 200})
            work()

        async def send(message) -> None:
            """Nobody listens."""

        flag = "01" if sampled else "00"
        context = f"00-{'a' * 32}-{'b' * 16}-{flag}".encode()
        scope = {"type": "http", "method": "GET", "path": "/", "scheme": "http"}
        scope |= {"headers": [(b"traceparent", context)], "http_version": "1.1", "server": None}
        await telemetry.middleware(app)(scope, None, send)

    return run


@pytest.fixture
def members(telemetry, in_request):
    """Jobs of so many sampled and unsampled requests; their requests have been answered."""

    async def make(*, sampled: int, unsampled: int = 0) -> list[BatchMember]:
        made = []

        def take() -> None:
            made.append(
                BatchMember(
                    rows=5,
                    arrived_at=9.997,
                    deadline_at=10.045,
                    request=telemetry.sampled_request(),
                )
            )

        for index in range(sampled + unsampled):
            await in_request(take, sampled=index < sampled)
        return made

    return make


async def test_the_batch_and_its_requests_are_linked_both_ways(
    collector, telemetry, in_request, make_batch
):
    def score() -> None:
        request = telemetry.sampled_request()
        member = BatchMember(rows=5, arrived_at=10.0, deadline_at=10.05, request=request)
        telemetry.batch(make_batch(member))

    await in_request(score, sampled=True)
    await in_request(score, sampled=True)
    telemetry.shutdown()

    servers = {span.span_id: span for span in collector.named("GET")}
    batches = {span.span_id: span for span in collector.named("podium.batch")}
    assert len(servers) == len(batches) == 2
    for batch in batches.values():
        (link,) = batch.links
        assert servers[link.span_id].trace_id == link.trace_id
        assert [back.span_id for back in servers[link.span_id].links] == [batch.span_id]
    scores = collector.named("podium.score")
    assert {score.links[0].span_id for score in scores} == set(batches)


async def test_a_batch_is_the_child_of_no_request(collector, telemetry, members, make_batch):
    telemetry.batch(make_batch(*await members(sampled=2)))
    telemetry.shutdown()

    batch = collector.one("podium.batch")
    assert batch.parent_span_id == b""
    assert batch.trace_id not in {span.trace_id for span in collector.named("GET")}
    engine = collector.one("podium.engine")
    assert (engine.trace_id, engine.parent_span_id) == (batch.trace_id, batch.span_id)


async def test_only_sampled_members_are_linked(collector, telemetry, members, make_batch):
    telemetry.batch(make_batch(*await members(sampled=2, unsampled=3)))
    telemetry.shutdown()

    batch = collector.one("podium.batch")
    assert len(batch.links) == 2
    assert attributes(batch) == {
        "podium.model": "market@3f9c2a1b",
        "podium.precision": "fp16",
        "podium.batch.rows": 25,
        "podium.batch.jobs": 5,
        "podium.batch.reason": "full",
        "podium.batch.waiting_rows": 25,
        "podium.batch.oldest_wait_ms": 3.0,
        "podium.batch.executing": 1,
        "podium.batch.duplicate_rows": 2,
        "podium.batch.arrival_rows_per_s": 5000.0,
        "podium.batch.fixed_ms": 0.5,
        "podium.batch.row_us": 1.0,
    }


async def test_a_batch_without_a_sampled_member_leaves_no_trace(
    collector, telemetry, members, make_batch
):
    telemetry.batch(make_batch(*await members(sampled=0, unsampled=3)))
    telemetry.shutdown()

    assert collector.spans == []


async def test_links_are_capped_and_the_rest_is_counted(collector, telemetry, members, make_batch):
    telemetry.batch(make_batch(*await members(sampled=40)))
    telemetry.shutdown()

    batch = collector.one("podium.batch")
    assert len(batch.links) == 32
    assert attributes(batch)["podium.batch.links_dropped"] == 8
    assert len(collector.named("podium.score")) == 40


async def test_wait_and_scoring_have_the_times_of_the_batcher(
    collector, telemetry, members, make_batch
):
    telemetry.batch(make_batch(*await members(sampled=1), taken_at=10.0, finished_at=10.002))
    telemetry.shutdown()

    at = 1_750_000_000_000  # the fake clock's 10.0 in milliseconds since 1970
    times = {
        name: tuple(
            round(ns / 1e6, 2) for ns in (span.start_time_unix_nano, span.end_time_unix_nano)
        )
        for name in ("podium.queue", "podium.score", "podium.batch", "podium.engine")
        for span in collector.named(name)
    }
    assert times["podium.queue"] == (at - 3, at)
    assert times["podium.score"] == times["podium.batch"] == (at, at + 2)
    assert times["podium.engine"] == (at, at + 2)
    assert attributes(collector.one("podium.queue")) == {
        "podium.rows": 5,
        "podium.deadline_left_ms": 45.0,
    }


async def test_a_fallback_shows_both_engines_and_no_error_of_the_batch(
    collector, telemetry, members, make_batch
):
    calls = (
        EngineCall(
            engine="tensorrt", rows=5, started_at=10.0, finished_at=10.1, error_type="CudaError"
        ),
        EngineCall(engine="ort-cpu", rows=5, started_at=10.1, finished_at=10.2),
    )
    telemetry.batch(make_batch(*await members(sampled=1), finished_at=10.2, calls=calls))
    telemetry.shutdown()

    first, second = sorted(
        collector.named("podium.engine"), key=lambda span: span.start_time_unix_nano
    )
    assert attributes(first) == {
        "podium.engine": "tensorrt",
        "podium.rows": 5,
        "error.type": "CudaError",
    }
    assert first.status.code == Status.STATUS_CODE_ERROR
    assert attributes(second)["podium.engine"] == "ort-cpu"
    assert collector.one("podium.batch").status.code == Status.STATUS_CODE_UNSET
    assert collector.one("podium.score").status.code == Status.STATUS_CODE_UNSET


@pytest.mark.parametrize(
    ("calls", "error_type"),
    [
        ((), "no_engine"),
        (
            (
                EngineCall(
                    engine="ort-cpu",
                    rows=5,
                    started_at=10.0,
                    finished_at=10.1,
                    error_type="EngineFailed",
                ),
            ),
            "EngineFailed",
        ),
    ],
)
async def test_a_batch_that_nothing_scored_is_an_error_for_every_member(
    collector, telemetry, members, make_batch, calls, error_type
):
    telemetry.batch(make_batch(*await members(sampled=2), calls=calls))
    telemetry.shutdown()

    for span in [collector.one("podium.batch"), *collector.named("podium.score")]:
        assert attributes(span)["error.type"] == error_type
        assert span.status.code == Status.STATUS_CODE_ERROR
