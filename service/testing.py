"""Fakes that keep the promises of the protocols they stand for."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ranking_models.schema import FeatureBatch, Float32
from service.cache import CacheCounters, CacheLookup, CacheStatus, SlateKey
from service.cache.store import Fetched, StoreCounters, StoredEntry, StoreStatus
from service.clock import Clock
from service.engines import Engine, EngineInfo
from service.engines.rows import CandidateEngine, CandidateRows, Rows, as_features
from service.errors import EngineFailed, OutOfDeviceMemory

RowPredicate = Callable[[FeatureBatch], npt.NDArray[np.bool_]]
"""Which rows of a batch are meant."""
AnyRows = TypeVar("AnyRows", FeatureBatch, CandidateRows)


class FakeClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, now: float = 1_000.0, wall: float = 1_750_000_000.0) -> None:
        self._now, self._wall = now, wall

    def now(self) -> float:
        return self._now

    def wall(self) -> float:
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass, on both clocks."""
        self._now += seconds
        self._wall += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator or NTP does."""
        self._wall += seconds


class MemoryScoreCache:
    """A score cache in a dictionary; entries are stale after `ttl_s` of its clock, and gone after
    three times that. Nothing in it counts as kept in the process."""

    def __init__(self, clock: FakeClock, *, ttl_s: float = 300.0) -> None:
        self.epoch = 0
        self.lookup_s = 0.0
        """What a lookup takes, on the clock; one whose caller has less time fails when it is up."""
        self.left_alone = False
        """Set to True: nothing is looked up or written, as while Redis is left alone."""
        self.fails = False
        """Set to True: every lookup fails and every write is lost, as with Redis gone."""
        self._clock = clock
        self._ttl_s = ttl_s
        self._entries: dict[str, tuple[float, Float32]] = {}
        self._claims: dict[str, float] = {}
        self._counts: Counter[str] = Counter()

    def peek(self, key: SlateKey) -> CacheLookup | None:
        return None

    def turns_away(self) -> bool:
        if self.left_alone:
            self._counts["left_alone"] += 1
        return self.left_alone

    async def get(self, key: SlateKey, *, timeout_s: float = math.inf) -> CacheLookup:
        if self.turns_away():
            return CacheLookup(outcome="open")
        self._clock.advance(max(0.0, min(self.lookup_s, timeout_s)))
        if self.fails or self.lookup_s >= timeout_s:
            self._counts.update(["errors"] if self.fails else ["errors", "timeouts"])
            return CacheLookup(outcome="error")
        stored_at, scores = self._entries.get(key.text, (0.0, np.empty(0, np.float32)))
        age_s = max(0.0, self._clock.wall() - stored_at)
        if len(scores) != key.count or age_s >= 3 * self._ttl_s:
            self._counts["misses"] += 1
            return CacheLookup(outcome="miss")
        stale = age_s >= self._ttl_s
        self._counts["stale" if stale else "hits"] += 1
        return CacheLookup(
            outcome="stale" if stale else "hit",
            scores=scores,
            age_s=age_s,
            level="server",
            refresh=stale,
        )

    def left(self, key: SlateKey) -> CacheLookup | None:
        return None

    def learn(self, key: SlateKey, scores: Float32, *, computed_s: float) -> None:
        """It keeps nothing in the process."""

    async def put(self, key: SlateKey, scores: Float32, *, computed_s: float) -> None:
        if self.fails:
            self._counts["write_errors"] += 1
        elif self.left_alone or len(scores) != key.count or not np.isfinite(scores).all():
            self._counts["writes_skipped"] += 1
        else:
            kept = scores.copy()
            kept.flags.writeable = False
            self._entries[key.text] = (self._clock.wall(), kept)
            self._counts["writes"] += 1

    def in_demand(self, key: SlateKey) -> bool:
        return False

    async def claim(self, key: SlateKey, *, for_s: float) -> bool | None:
        if self.fails or self.left_alone:
            return None
        if self._claims.get(key.text, -math.inf) > self._clock.now():
            return False
        self._claims[key.text] = self._clock.now() + min(for_s, self._ttl_s / 2)
        return True

    def status(self) -> CacheStatus:
        out = self.fails or self.left_alone
        return CacheStatus(
            state="degraded" if out else "connected",
            breaker="open" if self.left_alone else "closed",
            problem="told to fail" if out else None,
            counters=CacheCounters(**self._counts),
        )


class MemoryStore:
    """A score store in a dictionary; entries and locks live for their time on its clock."""

    def __init__(self, clock: FakeClock) -> None:
        self.epoch = 0
        self.get_s = 0.0
        """What a `get` takes, on the clock; one whose caller has less time fails when it is up."""
        self.left_alone = False
        """Set to True: nothing is read or written, as while the servers are left alone."""
        self.fails = False
        """Set to True: every read fails and every write is lost, as with the server gone."""
        self.asked: list[tuple[str, ...]] = []
        """The keys of every `get` that reached the dictionary, in order."""
        self.entries: dict[str, tuple[bytes, float]] = {}
        """Key to value and when it ends, by `clock.now`. Tests may put anything here."""
        self._locks: dict[str, float] = {}
        self._clock = clock
        self._counts: Counter[str] = Counter()

    async def start(self) -> None:
        """Nothing to look at."""

    async def stop(self) -> None:
        """Nothing to close."""

    def turns_away(self) -> bool:
        if self.left_alone:
            self._counts["left_alone"] += 1
        return self.left_alone

    async def get(self, keys: Sequence[str], *, timeout_s: float = math.inf) -> Fetched:
        nothing = (None,) * len(keys)
        if self.turns_away():
            return Fetched("open", nothing)
        self._clock.advance(max(0.0, min(self.get_s, timeout_s)))
        if self.fails or self.get_s >= timeout_s:
            self._counts.update(["errors"] if self.fails else ["errors", "timeouts"])
            return Fetched("error", nothing)
        self.asked.append(tuple(keys))
        self._counts["lookups"] += 1
        return Fetched("ok", tuple(self._value(key) for key in keys))

    async def put(self, entries: Sequence[StoredEntry]) -> None:
        if self.left_alone or self.fails:
            self._counts["writes_skipped" if self.left_alone else "write_errors"] += len(entries)
            return
        for entry in entries:
            self.entries[entry.key] = (entry.value, self._clock.now() + entry.ttl_s)
        self._counts["writes"] += len(entries)

    async def lock(self, key: str, ttl_s: float) -> bool | None:
        if self.left_alone or self.fails:
            self._counts["lock_errors"] += 1
            return None
        if self._locks.get(key, -math.inf) > self._clock.now():
            return False
        self._locks[key] = self._clock.now() + ttl_s
        return True

    async def unlock(self, key: str) -> None:
        if not (self.left_alone or self.fails):
            self._locks.pop(key, None)

    def status(self) -> StoreStatus:
        out = self.fails or self.left_alone
        return StoreStatus(
            state="degraded" if out else "connected",
            breaker="open" if self.left_alone else "closed",
            problem="told to fail" if out else None,
            counters=StoreCounters(**self._counts),
        )

    def _value(self, key: str) -> bytes | None:
        value, ends_at = self.entries.get(key, (b"", -math.inf))
        return value if self._clock.now() < ends_at else None


class FakeEngine:
    """An engine whose score is a fixed function of each row: cheap, exact, and keeps the contract.

    With a clock, a call lets ``seconds_per_call + rows * seconds_per_row`` pass on it.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        precision: str = "fp32",
        max_batch_rows: int = 4096,
        best_batch_rows: int | None = None,
        clock: FakeClock | None = None,
        seconds_per_call: float = 0.0,
        seconds_per_row: float = 0.0,
    ) -> None:
        self._info = EngineInfo(
            name=name,
            precision=precision,
            model="fake",
            version="00000000",
            max_batch_rows=max_batch_rows,
            best_batch_rows=best_batch_rows,
        )
        self._clock = clock
        self._seconds_per_call, self._seconds_per_row = seconds_per_call, seconds_per_row
        self.calls: list[int] = []
        """Rows of every call, in order."""

    @property
    def info(self) -> EngineInfo:
        return self._info

    def score(self, batch: FeatureBatch) -> Float32:
        if not 1 <= batch.rows <= self._info.max_batch_rows:
            raise ValueError(f"{batch.rows} rows in a call, 1 to {self._info.max_batch_rows} fit")
        self.calls.append(batch.rows)
        if self._clock is not None:
            self._clock.advance(self._seconds_per_call + batch.rows * self._seconds_per_row)
        return self.expected(batch)

    def close(self) -> None:
        """Nothing is held."""

    @staticmethod
    def expected(batch: FeatureBatch) -> Float32:
        """What every FakeEngine scores; nearly all different rows get different scores."""
        arrays = [np.asarray(values, np.float64) for values in batch.inputs().values()]
        logit = np.zeros(batch.rows)
        for number, values in enumerate(arrays, start=1):
            weights = np.cos(number * np.arange(1, values.shape[1] + 1))
            logit += (values * weights).sum(axis=1)  # row by row: no rounding by batch size
        return (1 / (1 + np.exp(-np.clip(logit, -30, 30)))).astype(np.float32)


class FaultyEngine:
    """Any engine, with faults to order. What is not ordered, the engine itself does.

    Faults may be ordered from any thread, and hold for golden rows as for users'.
    To break an engine that serves: ``link.install(FaultyEngine(link.engine))`` for
    a link of ``deployment.chains``; the link keeps its golden rows and settings.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._may_answer = threading.Event()
        self.entered = threading.Event()
        """Set when a call has begun, for tests that `hold` it."""
        self.mend()
        if isinstance(engine, CandidateEngine):
            # An attribute and no method: that is how links tell who takes candidates.
            self.score_candidates = partial(self._answer, engine.score_candidates)

    @property
    def info(self) -> EngineInfo:
        return self._engine.info

    def score(self, batch: FeatureBatch) -> Float32:
        return self._answer(self._engine.score, batch)

    def close(self) -> None:
        self._engine.close()

    # --- faults to order ----------------------------------------------------------------

    def mend(self) -> None:
        """All that was ordered is over; calls that wait go on."""
        self._failing_calls = self._short_calls = self._calls_without_memory = 0
        self._fails_at: Callable[[], bool] | None = None
        self._poison: RowPredicate | None = None
        self._spoiled: RowPredicate | None = None
        self._spoiled_score = float("nan")
        self._off_by = 0.0
        self._may_answer.set()

    def fail(self, calls: int = 1) -> None:
        """The next calls raise EngineFailed."""
        self._failing_calls = calls

    def fail_for(self, seconds: float, clock: Clock) -> None:
        """Calls raise EngineFailed until so much time has passed on a clock."""
        end = clock.now() + seconds
        self._fails_at = lambda: clock.now() < end

    def fail_on(self, rows: RowPredicate) -> None:
        """From now on calls with one of these rows raise EngineFailed: the poisonous request."""
        self._poison = rows

    def refuse_memory(self, calls: int = 1) -> None:
        """The next calls raise OutOfDeviceMemory."""
        self._calls_without_memory = calls

    def answer_short(self, calls: int = 1) -> None:
        """The next calls return one score too few."""
        self._short_calls = calls

    def spoil(self, rows: RowPredicate, score: float = float("nan")) -> None:
        """From now on these rows get this score; `rows` says which of a batch."""
        self._spoiled, self._spoiled_score = rows, score

    def distort(self, by: float = 0.1) -> None:
        """From now on every score is off by so much, yet a probability: silent corruption."""
        self._off_by = by

    def hang(self) -> None:
        """From now on calls do not come back, until `release` or `mend`."""
        self.entered.clear()
        self._may_answer.clear()

    def release(self) -> None:
        """Calls that hang go on."""
        self._may_answer.set()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While inside, calls wait. Only for engines that are called on their own threads."""
        self.hang()
        try:
            yield
        finally:
            self.release()

    # --- what comes of it ---------------------------------------------------------------

    def _answer(self, ask: Callable[[AnyRows], Float32], rows: AnyRows) -> Float32:
        self.entered.set()
        self._may_answer.wait()
        self._raise_what_was_ordered(rows)
        scores = ask(rows)
        if self._short_calls:
            self._short_calls -= 1
            return scores[:-1]
        if self._spoiled is not None:
            bad = self._spoiled(as_features(rows))
            scores = np.where(bad, np.float32(self._spoiled_score), scores)
        if self._off_by:
            off = np.float32(self._off_by)
            scores = np.where(scores + off <= 1, scores + off, scores - off)
        return scores

    def _raise_what_was_ordered(self, rows: Rows) -> None:
        if self._failing_calls:
            self._failing_calls -= 1
            raise EngineFailed("a fault that was ordered")
        if self._calls_without_memory:
            self._calls_without_memory -= 1
            raise OutOfDeviceMemory("memory was refused, as ordered")
        if self._fails_at is not None and self._fails_at():
            raise EngineFailed("a fault that was ordered for a while")
        if self._poison is not None and self._poison(as_features(rows)).any():
            raise EngineFailed("a fault that was ordered for these rows")
