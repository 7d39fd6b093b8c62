"""Load that checks every reply, in a process of its own: ``python -m tests.chaos.load``.

Closed loop: so many callers, each with one request under way; or all at once, some time
apart. Open loop: Poisson arrivals at a constant rate, on connections that were opened before; a due
request that finds no free one waits, and its wait counts. A storm of further clients goes away
before they are answered. It runs until its standard input is closed, tells on its standard output
how many replies it has seen and how many came from the cache, and writes what it met to a file.
"""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Final, Self, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from service.loadgen.connection import Answer, Connection, Target
from service.loadgen.load import RANK
from service.messages import CacheResult
from tests.chaos.questions import Checker, Question

RESULTS: Final = get_args(CacheResult)
FOUND: Final = tuple(RESULTS.index(name) for name in ("hit", "partial", "stale"))
ANSWERED: Final = (*FOUND, RESULTS.index("miss"))
_RESULT = re.compile(rb'"cache":\{"result":"(' + "|".join(RESULTS).encode() + rb')"')
_FAILED, _WRONG = 100, 101
_TELL_EVERY_S = 0.02
_ANSWER_LIMIT_S = 30.0
_GO_AWAY_WITHIN_S = 0.05


class Plan(Struct, frozen=True, kw_only=True):
    """What to send."""

    url: str
    questions: list[Question]
    """Asked with frequencies of Zipf 0.8, by their place."""
    callers: int = 32
    """Open loop: the most requests under way."""
    rate_per_s: float | None = None
    """Of the open loop; None is the closed one."""
    together_s: float = 0.0
    """Of the closed loop: all callers ask at the same moment, so long after the one before; 0:
    each as soon as it is answered."""
    requests: int | None = None
    """No more than so many; None until it is told to end."""
    storm: int = 0
    """Clients beside the callers that disconnect 0 to 50 ms after they have asked."""
    seed: int = 1


class Met(Struct, frozen=True, kw_only=True):
    """What became of the requests, in order of completion. Times are of the monotonic clock."""

    due_s: npt.NDArray[np.float64]
    latency_s: npt.NDArray[np.float64]
    codes: npt.NDArray[np.int8]
    problems: dict[str, int]
    """What failed or was wrong, in words, and how often."""
    gone: int
    """Requests of clients that went away."""

    @property
    def requests(self) -> int:
        return len(self.codes)

    @property
    def failed(self) -> int:
        """Other statuses than 200, and no answer at all."""
        return int((self.codes == _FAILED).sum())

    @property
    def wrong(self) -> int:
        """Status 200 with other items or scores than the model's."""
        return int((self.codes == _WRONG).sum())

    def between(self, start_s: float, end_s: float) -> "Met":
        """The requests that were due in a time."""
        return self.where((self.due_s >= start_s) & (self.due_s < end_s))

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Met":
        """Some of the requests."""
        return msgspec.structs.replace(
            self,
            due_s=self.due_s[chosen],
            latency_s=self.latency_s[chosen],
            codes=self.codes[chosen],
        )

    def results(self) -> dict[str, int]:
        """Right replies by what the cache gave."""
        return {name: int((self.codes == n).sum()) for n, name in enumerate(RESULTS)}

    def latency_ms(self, quantile: float) -> float:
        """NaN without any reply."""
        right = self.latency_s[self.codes < _FAILED]
        return 1000 * float(np.quantile(right, quantile)) if len(right) else float("nan")


class Load:
    """A running load; a context that ends it."""

    def __init__(self, plan: Plan) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="podium-load-"))
        self.replies = 0
        """Seen so far, about 20 ms ago."""
        self.found = 0
        """Those that the cache gave."""
        self._plan = plan

    def __enter__(self) -> Self:
        plan = self._directory / "plan"
        plan.write_bytes(msgspec.msgpack.encode(self._plan))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.load", str(plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._wait()
        for file in self._directory.iterdir():
            file.unlink()
        self._directory.rmdir()

    @property
    def is_over(self) -> bool:
        """Whether all requests of the plan were sent and answered."""
        return self._process.poll() is not None

    def end(self) -> Met:
        """Let the requests under way be answered, and tell what was met."""
        self._wait()
        assert self._process.returncode == 0, "the load failed, see its words above"
        with np.load(self._directory / "met.npz") as arrays:
            due_s, latency_s, codes = (arrays[name] for name in ("due_s", "latency_s", "codes"))
        problems, gone = msgspec.json.decode(
            (self._directory / "problems").read_bytes(), type=tuple[dict[str, int], int]
        )
        return Met(due_s=due_s, latency_s=latency_s, codes=codes, problems=problems, gone=gone)

    def _wait(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(timeout=2 * _ANSWER_LIMIT_S)
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.replies, self.found = map(int, line.split())


class _Run:
    """One load: what is sent next, and what came back."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._target = Target.of(plan.url)
        self._requests = [self._target.post(RANK, one.body) for one in plan.questions]
        self._checker = Checker(plan.questions)
        self._random = np.random.default_rng(plan.seed)
        weights = np.arange(1, len(plan.questions) + 1) ** -0.8
        self._weights = weights / weights.sum()
        self._drawn: deque[int] = deque()
        self._ending = asyncio.Event()
        self._left = plan.requests
        self._gone = self._found = 0
        self.due_s: list[float] = []
        self.latency_s: list[float] = []
        self.codes: list[int] = []
        self.problems: dict[str, int] = {}

    async def __call__(self) -> None:
        telling = asyncio.create_task(self._tell())
        storm = [asyncio.create_task(self._go_away(n)) for n in range(self._plan.storm)]
        if self._plan.rate_per_s is None:
            await self._closed_loop()
        else:
            await self._open_loop(self._plan.rate_per_s)
        self._ending.set()
        for task in (telling, *storm):
            task.cancel()
        await asyncio.gather(telling, *storm, return_exceptions=True)

    def end(self) -> None:
        self._ending.set()

    def write(self, directory: Path) -> None:
        np.savez(
            directory / "met.npz",
            due_s=np.array(self.due_s),
            latency_s=np.array(self.latency_s),
            codes=np.array(self.codes, np.int8),
        )
        told = msgspec.json.encode((self.problems, self._gone))
        (directory / "problems").write_bytes(told)

    async def _tell(self) -> None:
        while not self._ending.is_set():
            # In one piece, as whoever reads may end us at any time.
            print(f"{len(self.codes)} {self._found}", flush=True)
            await asyncio.sleep(_TELL_EVERY_S)

    def _takes_one(self) -> bool:
        """Whether another request is to be sent."""
        if self._ending.is_set() or self._left == 0:
            return False
        if self._left is not None:
            self._left -= 1
        return True

    def _draw(self) -> int:
        if not self._drawn:
            self._drawn.extend(self._random.choice(len(self._weights), 4096, p=self._weights))
        return self._drawn.popleft()

    async def _closed_loop(self) -> None:
        async def call() -> None:
            connection = Connection(self._target)
            while self._takes_one():
                await self._ask(connection, time.monotonic())
                if every_s := self._plan.together_s:
                    await asyncio.sleep(every_s - time.monotonic() % every_s)
            connection.close()

        await asyncio.gather(*(call() for _ in range(self._plan.callers)))

    async def _open_loop(self, rate_per_s: float) -> None:
        idle = [Connection(self._target) for _ in range(self._plan.callers)]
        for connection in idle:  # a backend keeps its own: to connect is no part of a request
            await connection.open()
        waiting: deque[float] = deque()
        asking: set[asyncio.Task[None]] = set()

        async def ask(connection: Connection, due: float) -> None:
            await self._ask(connection, due)
            while waiting:
                await self._ask(connection, waiting.popleft())
            idle.append(connection)

        due = time.monotonic()
        while self._takes_one():
            due += float(self._random.exponential(1 / rate_per_s))
            if (left := due - time.monotonic()) > 0:
                await asyncio.sleep(left)
            if idle:
                # From now and not from `due`: a timer's own lateness is not the service's.
                task = asyncio.create_task(ask(idle.pop(), time.monotonic()))
                asking.add(task)
                task.add_done_callback(asking.discard)
            else:
                waiting.append(due)
        await asyncio.gather(*asking)
        for connection in idle:
            connection.close()

    async def _ask(self, connection: Connection, due: float) -> None:
        index = self._draw()
        try:
            answer = await connection.send(self._requests[index], timeout_s=_ANSWER_LIMIT_S)
        except (OSError, TimeoutError) as error:
            code = self._problem(_FAILED, type(error).__name__)
        else:
            code = self._judge(index, answer)
        self.due_s.append(due)
        self.latency_s.append(time.monotonic() - due)
        self.codes.append(code)
        self._found += code in FOUND

    def _judge(self, index: int, answer: Answer) -> int:
        if answer.status != 200:
            return self._problem(_FAILED, f"{answer.status} {answer.body[:200]!r}")
        if not self._checker.is_right(index, answer.body):
            return self._problem(_WRONG, f"question {index}: {answer.body[:300]!r}")
        said = _RESULT.search(answer.body)
        if said is None:
            return self._problem(_WRONG, f"no cache result: {answer.body[-300:]!r}")
        return RESULTS.index(said.group(1).decode())

    def _problem(self, code: int, words: str) -> int:
        if words in self.problems or len(self.problems) < 20:
            self.problems[words] = self.problems.get(words, 0) + 1
        return code

    async def _go_away(self, number: int) -> None:
        random = np.random.default_rng([self._plan.seed, number])
        while True:
            connection = Connection(self._target)
            with contextlib.suppress(OSError, TimeoutError):
                self._gone += 1
                await connection.send(
                    self._requests[self._draw()],
                    timeout_s=float(random.uniform(0, _GO_AWAY_WITHIN_S)),
                )
            connection.close()
            await asyncio.sleep(0)


async def _main(run: _Run) -> None:
    loop = asyncio.get_running_loop()
    # Whoever started us closes it, or has died: both is the end.
    loop.add_reader(0, lambda: run.end() if not os.read(0, 1) else None)
    await run()


if __name__ == "__main__":
    given = Path(sys.argv[1])
    running = _Run(msgspec.msgpack.decode(given.read_bytes(), type=Plan))
    asyncio.run(_main(running))
    running.write(given.parent)
