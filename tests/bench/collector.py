"""A collector of traces and metrics that takes everything and keeps nothing."""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection

START_S = 30.0


@contextmanager
def collecting(answer_after_s: float = 0.0) -> Iterator[str]:
    """A collector in a process of its own; its address, for OTEL_EXPORTER_OTLP_ENDPOINT.

    Args:
        answer_after_s: How long it lets every request wait.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_collect, args=(theirs, answer_after_s), daemon=True)
    process.start()
    try:
        if not ours.poll(START_S):
            raise RuntimeError("the collector did not start")
        yield f"http://127.0.0.1:{ours.recv()}"
    finally:
        process.terminate()
        process.join()


def _collect(port: Connection, answer_after_s: float) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            time.sleep(answer_after_s)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Prints nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.send(server.server_port)
    server.serve_forever()
