"""Load that costs little: closed loop, or open loop with latency from when a request was due.

A process of its own, ``python -m tests.bench.generator``, which takes a `Load`
as msgpack on its standard input and gives back a `Met`. It shares the machine
with what it measures, so a request must cost it little: prepared bytes are
written, of a reply only status and length are read, and due times come from a
timerfd, as the timers of event loops are a millisecond coarse and waiting
actively would take a core from the service. ``python -m tests.bench generator``
measures what a request costs it.

Closed loop: so many connections, each with one request under way. Open loop:
Poisson arrivals at a constant rate, whether or not earlier requests were
answered; while all connections are taken a due request waits, and its wait counts. Where it
may (as root), it then runs at a higher priority.
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

import msgspec
import numpy as np
import uvloop
from msgspec import Struct

MOST_CONNECTIONS = 2_048
LONGEST_S = 120.0
LAST_REPLIES_S = 3.0
"""For replies that are still under way when the time is up."""


class Load(Struct, frozen=True, kw_only=True):
    """What to send. ``rate_per_s`` None is the closed loop."""

    host: str
    port: int
    path: str
    bodies: list[bytes]
    """Sent in turn."""
    seconds: float
    connections: int
    """Open loop: the most requests under way."""
    rate_per_s: float | None = None
    seed: int = 1
    keep_replies: bool = False
    """Return what was replied, to be checked."""

    def __post_init__(self) -> None:
        if not 1 <= self.connections <= MOST_CONNECTIONS or not 0 < self.seconds <= LONGEST_S:
            raise ValueError(f"at most {MOST_CONNECTIONS} connections and {LONGEST_S:g} s")


class Met(Struct, frozen=True, kw_only=True):
    """What load met. Latencies in seconds; of the open loop from when the request was due."""

    latencies: dict[int, list[float]]
    """By status, in order of completion."""
    unanswered: int
    """Under way when it ended."""
    broken: int
    """Connections that the server closed."""
    seconds: float
    late_p99_s: float
    """How long after its due time a request was sent for which a connection was free: this
    process's own share in the latencies."""
    cpu_s: float
    """Of this process, connecting excluded."""
    replies: list[tuple[int, bytes]]
    """Index of the body, and the reply."""

    @property
    def answered(self) -> int:
        """Answers with status 200."""
        return len(self.latencies.get(200, ()))

    @property
    def per_s(self) -> float:
        """Answers with status 200 per second."""
        return self.answered / self.seconds

    def latency_ms(self, quantile: float, status: int = 200) -> float:
        """NaN without any such answer."""
        values = self.latencies.get(status)
        return 1000 * float(np.quantile(values, quantile)) if values else float("nan")


def send(load: Load) -> Met:
    """Run the load in a process of its own.

    Raises:
        RuntimeError: the process failed, with its own words.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.generator"],
        input=msgspec.msgpack.encode(load),
        capture_output=True,
        timeout=LONGEST_S + 30,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr.decode()[-500:]}")
    return msgspec.msgpack.decode(done.stdout, type=Met)


class _Run:
    """One run: what is sent next, and what came back."""

    def __init__(self, load: Load) -> None:
        self.load = load
        head = f"POST {load.path} HTTP/1.1\r\nhost: {load.host}:{load.port}\r\n"
        head += "content-type: application/json\r\ncontent-length: "
        self._requests = [f"{head}{len(b)}\r\n\r\n".encode() + b for b in load.bodies]
        self._sent = 0
        self.latencies: dict[int, list[float]] = {}
        self.replies: list[tuple[int, bytes]] = []
        self.late: list[float] = []
        self.broken = 0
        self.under_way = 0
        self.ends_at = float("inf")
        self.idle: list[_Connection] = []
        self.waiting: deque[float] = deque()

    def start(self, connection: "_Connection", due: float) -> None:
        index = self._sent % len(self._requests)
        self._sent += 1
        self.under_way += 1
        connection.send(self._requests[index], index, due)

    def done(self, connection: "_Connection", status: int, reply: bytes | None) -> None:
        now = time.perf_counter()
        self.under_way -= 1
        latencies = self.latencies.get(status)
        if latencies is None:
            latencies = self.latencies[status] = []
        latencies.append(now - connection.due)
        if reply is not None:
            self.replies.append((connection.index, reply))
        if self.load.rate_per_s is None:
            if now < self.ends_at:
                self.start(connection, now)
        elif self.waiting:
            self.start(connection, self.waiting.popleft())
        else:
            self.idle.append(connection)

    def lost(self, connection: "_Connection") -> None:
        self.broken += 1
        if connection.busy:
            self.under_way -= 1
        elif connection in self.idle:
            self.idle.remove(connection)

    async def __call__(self) -> Met:
        loop, load = asyncio.get_running_loop(), self.load
        for _ in range(load.connections):
            _, connection = await loop.create_connection(
                lambda: _Connection(self), load.host, load.port
            )
            self.idle.append(connection)
        began, cpu_began = time.perf_counter(), time.process_time()
        self.ends_at = began + load.seconds
        if load.rate_per_s is None:
            idle, self.idle = self.idle, []
            for connection in idle:
                self.start(connection, time.perf_counter())
            await asyncio.sleep(load.seconds)
        else:
            await self._open_loop(began, load.rate_per_s)
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu_began
        answered = {status: list(values) for status, values in self.latencies.items()}
        if load.rate_per_s is not None:
            await self._last_replies()
            answered = self.latencies
        return Met(
            latencies=answered,
            unanswered=self.under_way + len(self.waiting),
            broken=self.broken,
            seconds=seconds,
            late_p99_s=float(np.quantile(self.late, 0.99)) if self.late else 0.0,
            cpu_s=cpu_s,
            replies=self.replies,
        )

    async def _last_replies(self) -> None:
        give_up_at = time.perf_counter() + LAST_REPLIES_S
        while (self.under_way or self.waiting) and time.perf_counter() < give_up_at:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def _open_loop(self, began: float, rate_per_s: float) -> None:
        count = int(rate_per_s * self.load.seconds)
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
        await over
        os.close(timer.fd)


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._partial = b""
        self._keep = run.load.keep_replies
        self.busy = False
        self.index, self.due = 0, 0.0

    def send(self, request: bytes, index: int, due: float) -> None:
        self.index, self.due, self.busy = index, due, True
        self._transport.write(request)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._partial:
            data = self._partial + data
        end = data.find(b"\r\n\r\n")
        if end >= 0 and len(data) >= (whole := end + 4 + _length(data[:end])):
            self._partial, self.busy = b"", False
            self._run.done(self, int(data[9:12]), data[end + 4 : whole] if self._keep else None)
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
    load = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Load)
    if load.rate_per_s is not None:
        # It stands for other machines: its own waiting for a core should not count as latency.
        with contextlib.suppress(PermissionError):
            os.nice(-10)
    met = uvloop.run(_Run(load)())
    # Not sys.stdout.buffer: with PYTHONUNBUFFERED that is the raw file, which writes a part.
    with os.fdopen(1, "wb") as out:
        out.write(msgspec.msgpack.encode(met))


if __name__ == "__main__":
    main()
