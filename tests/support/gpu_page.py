"""A page of metrics as a service with a GPU has it: our own collector reads a recorded NVML."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from service.gauges import watch_gpu_memory
from service.telemetry import BatchMember, BatchRecord, EngineCall, names
from service.telemetry.gpu import GpuFigures, read_gpus
from service.telemetry.merging import encode_snapshot, merged_page
from service.telemetry.metrics import Metrics
from tests.support.every_metric import Models
from tests.support.fake_nvml import FakeGpu, fake_nvml

GPU_METRICS = re.compile(rf"podium_gpu_|{names.M_BATCH_PADDING}")
"""What only engines on a GPU have: the CPU's pad nothing."""

MODEL, VERSION, ENGINE = "market", "3f9c2a1b", "tensorrt"
PADDED = BatchRecord(
    model=MODEL,
    version=VERSION,
    precision="fp16",
    reason="full",
    waiting_rows=60,
    oldest_wait_s=0.1,
    executing=0,
    duplicate_rows=0,
    arrival_rows_per_s=None,
    fixed_s=None,
    row_s=None,
    taken_at=1.0,
    finished_at=1.2,
    members=(BatchMember(rows=60, arrived_at=0.9, deadline_at=2.0, request=None),),
    calls=(EngineCall(engine=ENGINE, rows=60, started_at=1.0, finished_at=1.1),),
    fallback=None,
)


@contextmanager
def serving_gpu_page() -> Iterator[str]:
    """``host:port`` of the page; each time that it is asked for, one more batch was padded."""
    metrics, figures = Metrics((), version="1.0"), GpuFigures()
    metrics.collect_from(figures)
    metrics.engine_pads(MODEL, VERSION, ENGINE, (64,))
    watch_gpu_memory(metrics, cast(Any, Models()), "worker-0")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            figures.take(read_gpus(fake_nvml(FakeGpu())))
            metrics.batch(PADDED)
            page, content_type = merged_page([encode_snapshot(list(metrics.families()))], "")
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Nothing: the server prints every request otherwise."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
