"""What the load generator itself costs per request, against a server that only answers.

    python -m tests.bench generator

Its CPU, in microseconds per request, and how late its open loop sends.
"""

import asyncio
import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvloop

from tests.bench.bench_peers import FULL, heading, table
from tests.bench.generator import Load, send

BODY = b"x" * 1_060
"""As long as a rank-100 request."""
REPLY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 800\r\n\r\n" + 800 * b"x"
)
SECONDS = 2.0
LOADS: tuple[tuple[int, float | None], ...] = (
    *((connections, None) for connections in (1, 8, 64)),
    *((512, rate) for rate in (100.0, 2_000.0, 8_000.0)),
)


def main() -> None:
    print(heading(FULL).rpartition("\n")[0])
    rows = []
    with answering() as port:
        for connections, rate in LOADS:
            load = Load(
                host="127.0.0.1",
                port=port,
                path="/",
                bodies=[BODY],
                seconds=SECONDS,
                connections=connections,
                rate_per_s=rate,
            )
            met = send(load)
            what = f"{connections} connections" if rate is None else f"{rate:,.0f} requests/s"
            rows.append(
                [
                    f"{'closed' if rate is None else 'open'} loop, {what}",
                    f"{met.per_s:,.0f}",
                    f"{1e6 * met.cpu_s / met.answered:.1f}",
                    f"{1e3 * met.late_p99_s:.2f}" if rate else "-",
                    f"{met.latency_ms(0.5):.2f}",
                ]
            )
    head = ["answered/s", "generator's CPU us", "late, p99 ms", "p50 ms"]
    table("load generator against a server that only answers", head, rows)


@contextmanager
def answering() -> Iterator[int]:
    """A server of one process that gives every request the same reply; its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_answer, args=(listener,), daemon=True)
    process.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        process.terminate()
        process.join()
        listener.close()


def _answer(listener: socket.socket) -> None:
    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(_Answering, sock=listener)
        await server.serve_forever()

    uvloop.run(serve())


class _Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"x"):  # the last part of a request
            self._transport.write(REPLY)


if __name__ == "__main__":
    main()
