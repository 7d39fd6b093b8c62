"""Load that costs little: closed loop, or open loop with latency from when a request was due.

A process of its own, ``python -m service.loadgen.generator``, which
takes a `Load` as msgpack on its standard input and gives back a `Met`. It
shares the machine with what it measures, so a request must cost it little:
prepared bytes are written; of a reply only the status, the length and what it
says of the cache are read; due times come from a timerfd, as the timers of
event loops are a millisecond coarse and waiting actively would take a core from
the service.

Closed loop: so many connections, each with one request under way. Open loop:
Poisson arrivals at a constant rate, whether or not earlier requests were
answered; while all connections are taken a due request waits, and its wait
counts. Where it may (as root), it then runs at a higher priority.
"""

import asyncio
import contextlib
import ctypes
import os
import struct
import subprocess
import sys
import time
from collections import deque
from typing import cast

import msgspec
import numpy as np
import uvloop
from msgspec import Struct

from service.errors import StartupError

LONGEST_S = 120.0
LAST_REPLIES_S = 3.0
"""For replies that are still under way when the time is up."""
_RESULT = b'"result":"'
_FROM_CACHE = (b'hit"', b"stale")


class Load(Struct, frozen=True, kw_only=True):
    """What to send. ``rate_per_s`` None is the closed loop."""

    host: str = "127.0.0.1"
    port: int
    requests: list[bytes]
    """Whole HTTP requests; the item pages come first."""
    pages: int
    order: list[int]
    """Which of `requests`, one after the other; from the start again when all were sent."""
    seconds: float
    connections: int
    """Open loop: the most requests under way."""
    rate_per_s: float | None = None
    seed: int = 1
    once: bool = False
    """Closed loop: end when all of `order` was answered."""
    keep_replies: bool = False
    """Return what was replied, to be checked."""


class Asked(Struct):
    """Requests of one kind that were answered with 200."""

    answered: int = 0
    from_cache: int = 0

    @property
    def hits(self) -> float:
        """Share of the answers that came from the cache; 0..1."""
        return self.from_cache / max(1, self.answered)


class Met(Struct, frozen=True, kw_only=True):
    """What load met. Latencies in seconds; of the open loop from when the request was due."""

    latencies: dict[int, list[float]]
    """By status, in order of completion."""
    pages: Asked
    ranks: Asked
    unanswered: int
    """Under way, or still waiting, when the open loop ended."""
    broken: int
    """Connections that the server closed."""
    seconds: float
    late_p99_s: float
    """How long after its due time a request was sent for which a connection was free."""
    cpu_s: float
    """Of this process, connecting excluded."""
    replies: list[tuple[int, bytes]]
    """Index of the request, and body."""

    @property
    def answered(self) -> int:
        """Answers with status 200."""
        return len(self.latencies.get(200, ()))

    @property
    def per_s(self) -> float:
        """Answers with status 200 per second."""
        return self.answered / self.seconds

    @property
    def statuses(self) -> dict[int, int]:
        """How many answers had which status."""
        return {status: len(values) for status, values in self.latencies.items()}

    @property
    def failed(self) -> int:
        """Requests without an answer of status 200."""
        return sum(self.statuses.values()) - self.answered + self.broken + self.unanswered

    def latency_ms(self, quantile: float, status: int = 200) -> float:
        """NaN without any such answer."""
        values = self.latencies.get(status)
        return 1e3 * float(np.quantile(values, quantile)) if values else float("nan")


def send(load: Load) -> Met:
    """Run the load in a process of its own.

    Raises:
        StartupError: the process failed, with its own last line: mostly that nobody listens.
    """
    done = subprocess.run(
        [sys.executable, "-m", "service.loadgen.generator"],
        input=msgspec.msgpack.encode(load),
        capture_output=True,
        timeout=LONGEST_S + load.seconds,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise StartupError(f"the load generator failed: {said[-1] if said else done.returncode}")
    return msgspec.msgpack.decode(done.stdout, type=Met)


class _Run:
    """One run: what is sent next, and what came back."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self._sent = 0
        self.latencies: dict[int, list[float]] = {}
        self.pages, self.ranks = Asked(), Asked()
        self.replies: list[tuple[int, bytes]] = []
        self.late: list[float] = []
        self.broken = 0
        self.under_way = 0
        self.is_over = False
        self.all_answered = asyncio.Event()
        self.idle: list[_Connection] = []
        self.waiting: deque[float] = deque()

    def start(self, connection: "_Connection", due: float) -> None:
        order = self.load.order
        index = order[self._sent % len(order)]
        self._sent += 1
        self.under_way += 1
        connection.send(self.load.requests[index], index, due)

    def done(self, connection: "_Connection", reply: bytes, body_at: int) -> None:
        now = time.perf_counter()
        self.under_way -= 1
        if not self.is_over:
            self._count(connection, reply, body_at, now)
        if self.load.rate_per_s is not None:
            self._next_due(connection)
        elif self.load.once and self._sent >= len(self.load.order):
            if not self.under_way:
                self.all_answered.set()
        elif not self.is_over:
            self.start(connection, now)

    def lost(self, connection: "_Connection") -> None:
        """A server that closes a connection has failed; nobody opens it again."""
        if self.is_over:
            return
        self.broken += 1
        if connection.busy:
            self.under_way -= 1
        elif connection in self.idle:
            self.idle.remove(connection)
        if not self.under_way:
            self.all_answered.set()

    def _count(self, connection: "_Connection", reply: bytes, body_at: int, now: float) -> None:
        status = int(reply[9:12])
        latencies = self.latencies.get(status)
        if latencies is None:
            latencies = self.latencies[status] = []
        latencies.append(now - connection.due)
        if status == 200:
            asked = self.pages if connection.index < self.load.pages else self.ranks
            asked.answered += 1
            at = reply.find(_RESULT, body_at)
            if at >= 0 and reply.startswith(_FROM_CACHE, at + len(_RESULT)):
                asked.from_cache += 1
        if self.load.keep_replies:
            self.replies.append((connection.index, reply[body_at:]))

    def _next_due(self, connection: "_Connection") -> None:
        if self.waiting:
            self.start(connection, self.waiting.popleft())
        else:
            self.idle.append(connection)

    async def __call__(self) -> Met:
        loop, load = asyncio.get_running_loop(), self.load
        for _ in range(load.connections):
            _, connection = await loop.create_connection(
                lambda: _Connection(self), load.host, load.port
            )
            self.idle.append(connection)
        began, cpu_began = time.perf_counter(), time.process_time()
        if load.rate_per_s is None:
            await self._closed_loop()
        else:
            await self._open_loop(began, load.rate_per_s)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        if load.rate_per_s is not None:
            await self._last_replies()
        self.is_over = True
        return Met(
            latencies=self.latencies,
            pages=self.pages,
            ranks=self.ranks,
            unanswered=0 if load.rate_per_s is None else self.under_way + len(self.waiting),
            broken=self.broken,
            seconds=seconds,
            late_p99_s=float(np.quantile(self.late, 0.99)) if self.late else 0.0,
            cpu_s=cpu_s,
            replies=self.replies,
        )

    async def _closed_loop(self) -> None:
        idle, self.idle = self.idle, []
        if self.load.once:
            idle = idle[: len(self.load.order)]
        for connection in idle:
            self.start(connection, time.perf_counter())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.all_answered.wait(), self.load.seconds)

    async def _last_replies(self) -> None:
        give_up_at = time.perf_counter() + LAST_REPLIES_S
        while (self.under_way or self.waiting) and time.perf_counter() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _open_loop(self, began: float, rate_per_s: float) -> None:
        count = max(1, int(rate_per_s * self.load.seconds))
        gaps = np.random.default_rng(self.load.seed).exponential(1 / rate_per_s, count)
        arrivals = deque((began + np.cumsum(gaps)).tolist())
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        timer = _Timer()

        def on_time() -> None:
            now = time.perf_counter()
            while arrivals and arrivals[0] <= now:
                due = arrivals.popleft()
                if self.idle:
                    self.late.append(now - due)
                    self.start(self.idle.pop(), due)
                else:
                    self.waiting.append(due)
                now = time.perf_counter()
            if arrivals:
                timer.arm(arrivals[0] - now)
            else:
                loop.remove_reader(timer.fd)
                over.set_result(None)

        loop.add_reader(timer.fd, on_time)
        timer.arm(arrivals[0] - time.perf_counter())
        try:
            await over
        finally:
            os.close(timer.fd)


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._partial = b""
        self.busy = False
        self.index, self.due = 0, 0.0

    def send(self, request: bytes, index: int, due: float) -> None:
        self.index, self.due, self.busy = index, due, True
        self._transport.write(request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if self._partial:
            data = self._partial + data
        end = data.find(b"\r\n\r\n")
        if end >= 0 and len(data) >= end + 4 + _length(data[:end]):
            self._partial, self.busy = b"", False
            self._run.done(self, data, end + 4)
        else:
            self._partial = data

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.lost(self)


def _length(head: bytes) -> int:
    at = head.find(b"ontent-")
    while at >= 0:
        if head[at + 7 : at + 14].lower() == b"length:":
            stop = head.find(b"\r\n", at)
            return int(head[at + 14 : stop if stop >= 0 else None])
        at = head.find(b"ontent-", at + 1)
    raise ValueError(f"a reply without content-length: {head[:200]!r}")


class _Timer:
    """A timerfd: Python has it from 3.13 on, so this is Linux's own."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def arm(self, after_s: float) -> None:
        """Make it readable then. Until it is armed again it stays so: it need not be read."""
        nanoseconds = max(1, int(after_s * 1e9))  # 0 would disarm it
        spec = struct.pack("qqqq", 0, 0, *divmod(nanoseconds, 1_000_000_000))
        if self._libc.timerfd_settime(self.fd, 0, spec, None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")


def main() -> None:
    """Load from standard input, what it met to standard output."""
    load = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Load)
    if load.rate_per_s is not None:
        # It stands for other machines: its own waiting for a core should not count as latency.
        with contextlib.suppress(PermissionError):
            os.nice(-10)

    async def run() -> Met:
        return await _Run(load)()

    met = uvloop.run(run())
    # Not sys.stdout.buffer: with PYTHONUNBUFFERED that is the raw file, which writes a part.
    with os.fdopen(1, "wb") as out:
        out.write(msgspec.msgpack.encode(met))


if __name__ == "__main__":
    main()
