"""Timing many engines on one machine so that the comparison is fair.

Whatever disturbs a machine comes and goes. So nobody is measured in one go: in
every round each engine scores a few calls of each batch size, in another order
each time, and a noisy second hits all of them alike. Medians then say what is
typical, and the 95th percentile what a caller may meet.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from msgspec import Struct

from ranking_models.schema import Float32
from service.engines import Engine, valid_scores
from service.engines.calibration import Sample, Timer
from service.engines.rows import CandidateEngine, CandidateRows, Rows, as_features
from service.errors import EngineFailed

ROUNDS = 20
"""That the time is meant for; more follow while there is time."""
LEAST_CALLS, MOST_CALLS = 2, 30
"""Of one engine and size in a round."""

Progress = Callable[[float], None]
"""Told the share of the time that is over, 0..1."""


class Times(Struct, frozen=True, kw_only=True):
    """What was measured."""

    calls_s: Mapping[tuple[int, int], Sequence[float]]
    """Seconds of each call, by the engine's place in the order given and the rows of a call."""
    failed: Mapping[int, str]
    """Engines that failed meanwhile, by their place, and why; nothing of theirs is in `calls_s`."""
    rounds: int
    took_s: float


def measure(
    engines: Sequence[Engine],
    sizes: Sequence[int],
    *,
    sample: Sample,
    timer: Timer,
    seconds: float,
    progress: Progress,
    seed: int = 0,
) -> Times:
    """Time every engine with every size that it takes, in interleaved rounds.

    Args:
        engines: Loaded.
        sizes: Rows of a call.
        sample: Makes so many rows, others at every call.
        timer: Seconds.
        seconds: For all of it; one round is always finished.
        progress: Told how far it is.
        seed: Of the order in each round.
    """
    random = np.random.default_rng(seed)
    cells = _cells(engines, sizes)
    failed: dict[int, str] = {}
    started = timer()

    def each(order: Sequence[int], act: Callable[[_Cell], None]) -> None:
        for cell in (cells[index] for index in order):
            if cell.place not in failed:
                try:
                    act(cell)
                except EngineFailed as failure:
                    failed[cell.place] = str(failure)
                progress(min(1.0, (timer() - started) / seconds))

    visit_s = seconds / ROUNDS / max(1, len(cells))
    each(range(len(cells)), lambda cell: cell.warm_up(sample, timer, visit_s))
    warm, rounds = timer(), 0
    while len(failed) < len({cell.place for cell in cells}):
        each(random.permutation(len(cells)).tolist(), lambda cell: cell.visit(sample, timer))
        rounds += 1
        now = timer()
        if now + (now - warm) / rounds > started + seconds:
            break
    return Times(
        calls_s={(c.place, c.rows): c.seconds for c in cells if c.place not in failed},
        failed=failed,
        rounds=rounds,
        took_s=timer() - started,
    )


def score_rows(engine: Engine, rows: Rows) -> Float32:
    """Score rows in the form that the engine wants, as a batch of the service does.

    Raises:
        EngineFailed: as `Engine.score`.
    """
    if isinstance(rows, CandidateRows) and isinstance(engine, CandidateEngine):
        return engine.score_candidates(rows)
    return engine.score(as_features(rows))


class _Cell:
    """An engine with a batch size, and how long its calls took."""

    def __init__(self, place: int, engine: Engine, rows: int) -> None:
        self.place, self.rows = place, rows
        self.seconds: list[float] = []
        self._engine = engine
        self._calls = LEAST_CALLS

    def warm_up(self, sample: Sample, timer: Timer, visit_s: float) -> None:
        """Call it, look at what it gives, and see how many calls fit into a visit."""
        scores = score_rows(self._engine, sample(self.rows))
        if not valid_scores(scores).all():
            raise EngineFailed(f"a score in a batch of {self.rows} rows is no probability")
        # The faster of two: one that was disturbed would leave the size with few calls for good.
        call_s = min(self._call(sample, timer), self._call(sample, timer))
        self._calls = int(min(MOST_CALLS, max(LEAST_CALLS, visit_s / max(call_s, 1e-9))))

    def visit(self, sample: Sample, timer: Timer) -> None:
        """A few calls. The first is not counted: the one before it was another engine's."""
        self._call(sample, timer)
        self.seconds += [self._call(sample, timer) for _ in range(self._calls)]

    def _call(self, sample: Sample, timer: Timer) -> float:
        rows = sample(self.rows)
        started = timer()
        score_rows(self._engine, rows)
        return timer() - started


def _cells(engines: Sequence[Engine], sizes: Sequence[int]) -> list[_Cell]:
    return [
        _Cell(place, engine, rows)
        for place, engine in enumerate(engines)
        for rows in sizes
        if rows <= engine.info.max_batch_rows
    ]
