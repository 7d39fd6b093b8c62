"""How many rows a batch and a call should have: measured for each model, on the machine at hand.

A small batch pays too often for what the service does beside each. A large call
of the runtime leaves the core's cache, and each of its rows takes longer. So a
batch is scored in several calls, and either size is measured once, when an
engine is loaded: where the best lies depends on the model and on the machine.
"""

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.schema import Encoder
from service.engines import Engine
from service.engines.rows import CandidateEngine, CandidateRows, CandidateTables, Rows, as_features

Timer = Callable[[], float]
Sample = Callable[[int], Rows]

SIZES = (50, 100, 200, 300, 400, 600, 800, 1200, 1600)
ROUNDS = 15
BUDGET_S = 0.5
NEARLY = 0.95
"""Of the best rate: a smaller batch that comes so near is better, for it makes nobody wait, not
those either whose answers or refusals need no engine but the event loop that it scores on."""
BESIDE_S = 75e-6
"""What a batch costs beside the engine's call: taken from the queue, its ids looked up, its rows
put together, its scores handed out, reported. Measured on one core as the difference that fewer
batches make for the same requests, with an engine that does nothing; a core whose sibling is busy
takes twice as long, for this and for the call alike."""
ELSEWHERE_BYTES = 8 << 20
"""Read before each call: more than a core's own cache holds. Between two batches the service has
requests to read and replies to write, and on the core's sibling another worker has batches of its
own. Of calls in a row, each finding its weights and its room in the cache, 400 rows looked a fifth
cheaper than 800; in the running service they were dearer by 5 to 8 %."""
UNMEASURED_ROWS = 400
"""What is taken for the best where nothing is measured: on a CPU most models are near theirs."""
CALL_SIZES = (100, 200, 400)
UNMEASURED_CALL_ROWS = 200
"""As `UNMEASURED_ROWS`, of a call."""
ROWS_PER_REQUEST = 100


def timer_for(threads: int) -> Timer:
    """What measures an engine with so many threads.

    The thread's own time leaves out the work of others on the same core, such
    as workers that load at the same moment; but not all threads are this one.
    """
    return time.thread_time if threads == 1 else time.perf_counter


def best_batch_rows(
    engine: Engine,
    sample: Sample,
    *,
    timer: Timer,
    budget_s: float = BUDGET_S,
    sizes: Sequence[int] = SIZES,
) -> int:
    """The smallest batch at which the service scores nearly the most rows a second.

    Every size is measured several times and its fastest call counts: whatever
    disturbs a call makes it slower, never faster.

    Args:
        engine: Loaded and warm.
        sample: Makes so many rows, others at every call.
        timer: Seconds; only differences are used.
        budget_s: Calls that would take longer than this together are left
            out, the largest first; the smallest size is always measured.
        sizes: Rows of a call, in rising order.
    """
    most = engine.info.max_batch_rows
    sizes = [size for size in sizes if size <= most] or [most]
    score = engine.score_candidates if isinstance(engine, CandidateEngine) else None
    fastest: dict[int, float] = {}
    spent, elsewhere = 0.0, np.ones(ELSEWHERE_BYTES, np.uint8)
    for _ in range(ROUNDS):
        for size in sizes:
            if fastest and spent + _expected(size, fastest) > budget_s:
                break
            rows = sample(size)
            elsewhere.max()
            started = timer()
            if score is not None and isinstance(rows, CandidateRows):
                score(rows)
            else:
                engine.score(as_features(rows))
            took = timer() - started
            spent += took
            fastest[size] = min(took, fastest.get(size, took))
    return _nearly_best(fastest)


def best_call_rows(
    score: Callable[[Rows, int], object],
    sample: Sample,
    *,
    most: int,
    timer: Timer,
    budget_s: float = BUDGET_S,
) -> int:
    """In calls of how many rows a batch takes least time; the fastest of several measurements.

    Args:
        score: Scores rows in calls of so many.
        sample: Makes so many rows, others at every call.
        most: Rows of a batch that the engine takes.
        timer: Seconds; only differences are used.
        budget_s: Not much longer than this is spent.
    """
    batch = min(most, SIZES[-1])
    sizes = [size for size in CALL_SIZES if size < batch] + [batch]
    fastest = dict.fromkeys(sizes, float("inf"))
    spent, elsewhere = 0.0, np.ones(ELSEWHERE_BYTES, np.uint8)
    for number in range(ROUNDS):
        for size in sizes:
            rows = sample(batch)
            elsewhere.max()
            started = timer()
            score(rows, size)
            took = timer() - started
            spent += took
            fastest[size] = min(took, fastest[size])
        if spent * (number + 2) / (number + 1) > budget_s:
            break
    return min(sizes, key=fastest.__getitem__)


def calls(rows: int, call_rows: int) -> Iterator[slice]:
    """The rows of a batch in calls of at most so many, all about as large."""
    count = -(-rows // call_rows)
    size = -(-rows // count)
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))


def sample_of(bundle: Bundle, *, seed: int = 0) -> Callable[[int], CandidateRows]:
    """Rows as requests bring them: users and items at random, no context."""
    tables = CandidateTables.of(bundle)
    random = np.random.default_rng(seed)
    nobody = Encoder(bundle.schema.of("user")).encode_rows([{}])
    context = Encoder(bundle.schema.of("context")).encode_rows([{}])

    def sample(rows: int) -> CandidateRows:
        requests = -(-rows // ROWS_PER_REQUEST)
        known = bundle.users.rows
        users = bundle.users if known else nobody
        return CandidateRows(
            tables=tables,
            users=users.take(random.integers(users.rows, size=requests)),
            contexts=context.take(np.zeros(requests, np.intp)),
            request_of_row=(np.arange(rows) // ROWS_PER_REQUEST).astype(np.int32),
            items=random.integers(bundle.items.rows, size=rows).astype(np.int32),
        )

    return sample


def _expected(size: int, fastest: dict[int, float]) -> float:
    """Seconds of a call; of a size without one, by the largest size below it."""
    if size in fastest:
        return fastest[size]
    below = max(fastest)
    return fastest[below] * size / below


def _nearly_best(fastest: dict[int, float]) -> int:
    rates = {size: size / (took + BESIDE_S) for size, took in fastest.items()}
    best = max(rates.values())
    return min(size for size, rate in rates.items() if rate >= NEARLY * best)
