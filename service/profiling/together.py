"""One engine in several processes at once: what the whole machine scores.

Cores share caches, memory and power, so two of them rarely do twice the work of
one. The workers of the service are processes; so are these. In turns one of
them scores alone, then all do, so that noise hits both alike.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.errors import InputError
from service.clock import SystemClock
from service.engines.calibration import sample_of
from service.errors import EngineFailed
from service.profiling.measuring import score_rows
from service.profiling.opening import Opener
from service.profiling.values import Contender, LeftOut
from service.settings import EngineSettings

TURNS = 5
SAMPLES = 32
_ENTRY = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from service.profiling.together import score_when_told; score_when_told()"
)


class Job(Struct, frozen=True, kw_only=True):
    """What a process scores."""

    bundle: str
    contender: Contender
    settings: EngineSettings
    plans: str
    rows: int
    turn_s: float
    seed: int


class _Said(Struct, frozen=True, kw_only=True):
    """A line of a process: it is ready, or what it scored, or why it cannot."""

    rows_per_s: float = 0.0
    problem: str | None = None


class Rates(Struct, frozen=True, kw_only=True):
    """Rows a second, medians of the turns."""

    alone: float
    """Of one process while the others wait."""
    together: float
    """Of all processes at once, added up."""


def rates_of(job: Job, processes: int) -> Rates:
    """Let processes score alone and together.

    Raises:
        InputError: one of them cannot be started, load the engine, or score.
    """
    with ExitStack() as stack:
        children = [
            stack.enter_context(_Child(msgspec.structs.replace(job, seed=job.seed + number)))
            for number in range(processes)
        ]
        for child in children:
            child.heard()  # ready
        alone, together = [], []
        for _ in range(TURNS):
            alone.append(_turn(children[:1]))
            together.append(_turn(children))
        return Rates(alone=statistics.median(alone), together=statistics.median(together))


def _turn(children: "Sequence[_Child]") -> float:
    for child in children:
        child.go()
    return sum(child.heard() for child in children)


class _Child:
    """A process with its engine. Ends with the block, or when its pipe closes."""

    def __init__(self, job: Job) -> None:
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and our own module
            [sys.executable, "-P", "-c", _ENTRY, str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for its parent, who ends it
        )
        self._tell(msgspec.json.encode(job))

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def go(self) -> None:
        """Score for a turn, from now on."""
        self._tell(b"go")

    def heard(self) -> float:
        """Rows a second of the turn that it was told to do; 0 when it has only become ready."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise InputError("a process that was to score at the same time has ended")
        said = msgspec.json.decode(line, type=_Said)
        if said.problem is not None:
            raise InputError(said.problem)
        return said.rows_per_s

    def _tell(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: so `heard` will say


def score_when_told() -> None:
    """In the child: load, say so, and score for a turn at every line of standard input."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    try:
        turn = _turns_of(job)
        _say(_Said())  # ready
        for _line in sys.stdin.buffer:
            _say(_Said(rows_per_s=turn()))
    except (InputError, EngineFailed) as error:
        _say(_Said(problem=str(error)))
    except BrokenPipeError:
        pass  # whoever asked has ended


def _turns_of(job: Job) -> Callable[[], float]:
    bundle = Bundle.open(Path(job.bundle))
    opener = Opener(bundle, job.settings, Path(job.plans), SystemClock())
    opened = opener.open(job.contender)
    if isinstance(opened, LeftOut):
        raise InputError(f"{opened.what}: {opened.reason}")
    engine, sample = opened.engine, sample_of(bundle, seed=job.seed)
    batches = [sample(job.rows) for _ in range(SAMPLES)]
    score_rows(engine, batches[0])  # the first call is slower

    def turn() -> float:
        calls, took, started = 0, 0.0, time.perf_counter()
        while took < job.turn_s:
            score_rows(engine, batches[calls % SAMPLES])
            calls, took = calls + 1, time.perf_counter() - started
        return calls * job.rows / took

    return turn


def _say(said: _Said) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()
