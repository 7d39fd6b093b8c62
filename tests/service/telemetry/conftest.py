"""A small application that tells telemetry all, and a collector that listens."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from litestar import Litestar, Request, Response, get, post
from litestar.background_tasks import BackgroundTask
from litestar.params import FromPath

from service.clock import SystemClock
from service.errors import NotReady, RankingError, UnknownItem
from service.messages import CacheReport, ExperimentRef, ModelRef, RankReply, Timing
from service.telemetry import (
    BatchMember,
    BatchRecord,
    EngineCall,
    ExportSettings,
    Telemetry,
    create_telemetry,
    names,
    note_failure,
)
from tests.support.collector import Collector


class Shop:
    """A ranking service of one page: every handler does to telemetry what the real ones do."""

    def __init__(self, telemetry: Telemetry, clock: SystemClock) -> None:
        self.telemetry = telemetry
        self.clock = clock
        self.cache = telemetry.store("cache", address="10.0.0.7", port=6379, database=2)
        self.members: list[BatchMember] = []
        self.after_reply: Callable[[], None] = lambda: None
        self.experiments: tuple[ExperimentRef, ...] = (FP16,)
        self.serving: tuple[ExperimentRef, ...] = (FP16,)
        handlers = [self.rank(), self.item_page(), self.broken(), self.live()]
        self.app = telemetry.middleware(
            Litestar(
                handlers,
                exception_handlers={RankingError: problem, Exception: defect},
                openapi_config=None,
                logging_config=None,
            )
        )

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test:8080") as http:
            yield http

    def rank(self):
        @post("/v1/rank", status_code=200)
        async def rank(request: Request) -> Response[bytes]:
            arrived_at = self.clock.now()
            with self.telemetry.step(names.SPAN_ROUTE):
                asked = await request.json()
            with self.telemetry.ranking(arrived_at, asked.get("request_id")) as ranking:
                ranking.routed(
                    asked.get("surface"),
                    self.experiments,
                    self.serving,
                    config_digest="2886453f6e573542",
                    unit=asked.get("user"),
                )
                with self.cache.call("MGET"):
                    pass
                self.score(arrived_at)
                ranking.answered(reply(), candidates=7)
            return Response(b"{}", background=BackgroundTask(self._after_reply))

        return rank

    async def _after_reply(self) -> None:
        self.after_reply()

    def score(self, arrived_at: float) -> None:
        taken_at = self.clock.now()
        member = BatchMember(
            rows=7,
            arrived_at=arrived_at,
            deadline_at=arrived_at + 0.05,
            request=self.telemetry.sampled_request(),
        )
        self.members.append(member)
        self.telemetry.batch(batch_of(member, taken_at=taken_at, finished_at=self.clock.now()))

    def item_page(self):
        @get("/v1/items/{item_id:str}/recommendations")
        async def item_page(item_id: FromPath[str]) -> None:
            raise UnknownItem(item_id)

        return item_page

    def broken(self):
        @get("/broken/{how:str}")
        async def broken(how: FromPath[str]) -> None:
            raise NotReady("nothing is warm") if how == "not-ready" else KeyError(how)

        return broken

    def live(self):
        @get(["/health/live", "/metrics"])
        async def live() -> str:
            return "ok"

        return live


FP16 = ExperimentRef(key="fp16-rollout", phase=3, variant="fp16", reason="SPLIT")
HELD_OUT = ExperimentRef(key="ranker", phase=1, variant="control", reason="HOLDOUT")


def reply(degraded=None, result="miss") -> RankReply:
    return RankReply(
        slate_id="s1",
        items=(),
        model=ModelRef(name="market", version="3f9c2a1b", precision="fp16", engine="ort-cpu"),
        experiments=(FP16,),
        exposure=None,
        cache=CacheReport(result=result, hits=3, misses=4),
        degraded=degraded,
        timing_ms=Timing(total=4.0, cache=0.5, queue=1.0, engine=2.0),
    )


def batch_of(*members: BatchMember, taken_at=10.0, finished_at=10.002, calls=None) -> BatchRecord:
    rows = sum(member.rows for member in members)
    call = EngineCall(engine="ort-cpu", rows=rows, started_at=taken_at, finished_at=finished_at)
    return BatchRecord(
        model="market@3f9c2a1b",
        version="3f9c2a1b",
        precision="fp16",
        reason="full",
        waiting_rows=rows,
        oldest_wait_s=0.003,
        executing=1,
        duplicate_rows=2,
        arrival_rows_per_s=5000.0,
        fixed_s=0.0005,
        row_s=1e-06,
        taken_at=taken_at,
        finished_at=finished_at,
        members=members,
        calls=(call,) if calls is None else calls,
    )


def problem(request: Request, error: RankingError) -> Response[str]:
    note_failure(error)
    return Response(error.code, status_code=error.status)


def defect(request: Request, error: Exception) -> Response[str]:
    note_failure(error)
    return Response("defect", status_code=getattr(error, "status_code", 500))


@pytest.fixture
def collector(monkeypatch) -> Iterator[Collector]:
    collector = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    yield collector
    collector.close()


@pytest.fixture(autouse=True)
def restore_switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def open_telemetry() -> Iterator[Callable[..., Telemetry]]:
    """Telemetry that sends every trace to the collector of the environment, or as told."""
    opened: list[Telemetry] = []

    def open_one(
        sample_ratio=1.0,
        export=None,
        clock=None,
        surfaces=("home", "search"),
        context_ids=False,
        triton_names=False,
    ) -> Telemetry:
        telemetry = create_telemetry(
            sample_ratio=sample_ratio,
            context_ids=context_ids,
            export=ExportSettings(endpoint_configured=True) if export is None else export,
            surfaces=surfaces,
            version="1.2.3",
            clock=clock or SystemClock(),
            triton_names=triton_names,
        )
        opened.append(telemetry)
        return telemetry

    yield open_one
    for telemetry in opened:
        telemetry.shutdown(timeout_s=0)


@pytest.fixture
def open_shop(open_telemetry) -> Callable[..., Shop]:
    return lambda **options: Shop(open_telemetry(**options), SystemClock())


@pytest.fixture
def quiet(open_telemetry) -> Telemetry:
    """Telemetry without a collector."""
    return open_telemetry(export=ExportSettings())


@pytest.fixture
def make_reply():
    return reply


@pytest.fixture
def make_batch():
    return batch_of


@pytest.fixture
def experiment() -> ExperimentRef:
    return FP16


@pytest.fixture
def held_out() -> ExperimentRef:
    """A decision that keeps the unit out; it names the control all the same."""
    return HELD_OUT
