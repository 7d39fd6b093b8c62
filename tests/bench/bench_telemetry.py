"""What telemetry costs per request, and what a collector costs that is not well.

Run: ``python -m tests.bench telemetry [requests]``

First in one process, in its CPU time, without a service. One request is what a
ranking does: the server span, a step, a call to Redis, a batch of its own with
one engine call, and the figures of all that.
The application does nothing else, so every microsecond beyond ``bare`` is
telemetry's. Time of the exporting thread is included; the collector is
another process. Then over HTTP, with real services: see `served_telemetry`.

All variants are measured in turn, round after round, so that whatever else the
machine does meets them alike; each figure is the median of the rounds.
"""

import asyncio
import os
import statistics
import sys
import time
from typing import Any

from litestar.types import ASGIApp

from service.clock import SystemClock
from service.messages import CacheReport, ExperimentRef, ModelRef, RankReply, Timing
from service.telemetry import (
    BatchMember,
    BatchRecord,
    EngineCall,
    ExportSettings,
    StoreCalls,
    Telemetry,
    create_telemetry,
    names,
)
from tests.bench import served_telemetry
from tests.bench.collector import collecting

CLOCK = SystemClock()
ROUNDS = 7
VARIANTS = (
    ("metrics, no collector", 0.0, False),
    ("metrics, tracing, 0 % sampled", 0.0, True),
    ("metrics, tracing, 10 % sampled", 0.1, True),
    ("metrics, tracing, 100 % sampled", 1.0, True),
)
EXPERIMENTS = (ExperimentRef(key="rollout", phase=1, variant="fp16", reason="SPLIT"),)
REPLY = RankReply(
    slate_id="s",
    items=(),
    model=ModelRef(name="market", version="3f9c2a1b", precision="fp16", engine="ort-cpu"),
    experiments=EXPERIMENTS,
    exposure=None,
    cache=CacheReport(result="partial", hits=80, misses=20),
    degraded=None,
    timing_ms=Timing(total=4.0, cache=0.5, queue=1.0, engine=2.0),
)
HEADERS = [(b"host", b"127.0.0.1:8080"), (b"user-agent", b"bench"), (b"accept", b"*/*")]


def application(telemetry: Telemetry | None) -> ASGIApp:
    """What a ranking tells telemetry, and no ranking."""
    cache = telemetry.store("cache", address="127.0.0.1", port=6379) if telemetry else None

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["path_template"] = "/v1/rank"
        if telemetry is not None and cache is not None:
            tell(telemetry, cache)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})

    return app if telemetry is None else telemetry.middleware(app)


def tell(telemetry: Telemetry, cache: StoreCalls) -> None:
    now = CLOCK.now()
    with telemetry.step(names.SPAN_ROUTE):
        pass
    with telemetry.ranking(now, "r-1") as ranking:
        ranking.routed("home", EXPERIMENTS, EXPERIMENTS)
        with cache.call("MGET"):
            pass
        telemetry.batch(
            BatchRecord(
                model="market@3f9c2a1b",
                version="3f9c2a1b",
                precision="fp16",
                reason="full",
                waiting_rows=20,
                oldest_wait_s=0.003,
                executing=0,
                duplicate_rows=0,
                arrival_rows_per_s=5000.0,
                fixed_s=0.0005,
                row_s=1e-06,
                taken_at=now,
                finished_at=now,
                members=(
                    BatchMember(
                        rows=20,
                        arrived_at=now,
                        deadline_at=now,
                        request=telemetry.sampled_request(),
                    ),
                ),
                calls=(EngineCall(engine="ort-cpu", rows=20, started_at=now, finished_at=now),),
            )
        )
        ranking.answered(REPLY, candidates=100)


async def cpu_us_per_request(app: ASGIApp, requests: int) -> float:
    async def send(message: Any) -> None:
        """Nobody listens."""

    async def receive() -> Any:
        """Nobody asks."""

    began = time.process_time()
    for _ in range(requests):
        scope: Any = {"type": "http", "method": "POST", "path": "/v1/rank", "scheme": "http"}
        scope |= {"headers": HEADERS, "http_version": "1.1", "server": ("127.0.0.1", 8080)}
        await app(scope, receive, send)
    return (time.process_time() - began) / requests * 1e6


def measure(ratio: float | None, *, export: bool, requests: int) -> float:
    """CPU of one request in us, with all its spans sent; ratio None: without telemetry."""
    telemetry = None
    if ratio is not None:
        telemetry = create_telemetry(
            sample_ratio=ratio,
            export=ExportSettings(endpoint_configured=export),
            surfaces=("home",),
            version="bench",
            clock=CLOCK,
        )
    app = application(telemetry)
    asyncio.run(cpu_us_per_request(app, 200))
    spent = asyncio.run(cpu_us_per_request(app, requests))
    if telemetry is not None:
        began = time.process_time()
        telemetry.shutdown(timeout_s=60)
        spent += (time.process_time() - began) / requests * 1e6
    return spent


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with collecting() as collector:
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector
        print_table(requests)
    del os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"]
    served_telemetry.print_tables(requests)


def print_table(requests: int) -> None:
    rounds = []
    for _ in range(ROUNDS):
        bare = measure(None, export=False, requests=requests)
        spent = [measure(ratio, export=export, requests=requests) for _, ratio, export in VARIANTS]
        rounds.append([bare, *(one - bare for one in spent)])
    medians = [statistics.median(column) for column in zip(*rounds, strict=True)]
    print(f"{'in one process':<34}{'CPU us/request':>16}")
    print(f"{'bare':<34}{medians[0]:>16.1f}")
    for (label, _, _), more in zip(VARIANTS, medians[1:], strict=True):
        print(f"{label:<34}{more:>+16.1f}")


if __name__ == "__main__":
    main()
