"""Has slates scored by the batcher: once for all who want the same at the same time."""

import asyncio
from collections.abc import Callable
from functools import partial

from msgspec import Struct

from service.batching.batcher import Batcher
from service.batching.records import ScoredRows, ScoredTooLate
from service.cache import CacheLookup, ScoreCache, SlateKey
from service.cache.flights import Flights, Launch
from service.clock import Clock
from service.errors import DeadlineExpired, DeadlineUnreachable
from service.messages import Priority
from service.scoring.slates import Learns, Wanted
from service.telemetry import Telemetry

WAIT_FOR_OTHERS_S = 0.005
"""Another process computes it: what it is given before we do it ourselves."""

End = ScoredRows | CacheLookup | Exception
"""Scores of an engine, or another process's from the cache, or why there are none."""


class Got(Struct, frozen=True):
    """Scores for one of those who waited."""

    end: ScoredRows | CacheLookup
    shared: bool
    """Another one stores them, and pays for them."""


class Computing:
    """What is being scored, by key and priority. For one event loop."""

    def __init__(self, *, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry, self._clock = telemetry, clock
        self._flights: Flights[End] = Flights()

    def is_under_way(self, key: SlateKey, batcher: Batcher, priority: Priority = "low") -> bool:
        """Whether somebody has it scored now, with this priority or a higher one."""
        return _place(key, batcher, priority, self._flights) in self._flights

    async def scores(
        self, wanted: Wanted, cache: ScoreCache, key: SlateKey, *, claims: bool
    ) -> Got:
        """Wait for the scores of a slate until the deadline.

        Args:
            wanted: The request.
            cache: Of the deployment; it learns the scores at once.
            key: Of the slate.
            claims: Whether to ask first if another process computes it already.

        Raises:
            QueueFull, DeadlineUnreachable, NotReady: refused at the door.
            DeadlineExpired: it passed; ScoredTooLate if there are scores now.
            EngineFailed: no engine could score it.
        """
        batcher = wanted.deployment.batcher
        assert batcher is not None
        while True:
            end, first = await self._one_flight(wanted, cache, key, batcher, claims)
            if isinstance(end, CacheLookup):
                return Got(end, shared=True)
            scored = end.scored if isinstance(end, ScoredTooLate) else end
            in_time = self._clock.now() < wanted.deadline
            if isinstance(scored, ScoredRows):
                if in_time:
                    return Got(scored, shared=not first)
                raise ScoredTooLate(scored) if first else DeadlineExpired(_PASSED)
            theirs = isinstance(scored, DeadlineExpired) or (
                isinstance(scored, DeadlineUnreachable) and not first
            )
            if not (theirs and in_time):
                raise scored
            # The deadline of who began it has passed, or would have, and ours has not: once more.

    async def renewed(
        self, wanted: Wanted, cache: ScoreCache, key: SlateKey, deadline: float
    ) -> End:
        """Have a slate scored when there is nothing better to do.

        Raises:
            QueueFull, DeadlineUnreachable, NotReady: refused at the door.
        """
        batcher = wanted.deployment.batcher
        assert batcher is not None
        answer: asyncio.Future[tuple[End, bool]] = asyncio.get_running_loop().create_future()
        launch = self._launch(wanted, cache, key, batcher, deadline, "low")
        place = _place(key, batcher, "low", self._flights)
        seat = self._flights.join(place, launch, partial(_resolve, answer))
        try:
            end, _ = await answer
        finally:
            seat.leave()
        return end

    async def _one_flight(
        self, wanted: Wanted, cache: ScoreCache, key: SlateKey, batcher: Batcher, claims: bool
    ) -> tuple[End, bool]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[End, bool]] = loop.create_future()
        place = _place(key, batcher, wanted.request.priority, self._flights)
        begins = place not in self._flights
        launch = self._launch(wanted, cache, key, batcher, wanted.deadline, None)
        if claims:
            launch = partial(self._claimed, wanted, cache, key, launch)
        seat = self._flights.join(place, launch, partial(_resolve, answer))
        timer: asyncio.TimerHandle | None = None
        # The batcher keeps the deadline of who began it, once it has the rows.
        if claims or not begins:
            left_s = max(0.0, wanted.deadline - self._clock.now())
            expired = DeadlineExpired(_PASSED)
            timer = loop.call_later(left_s, _resolve, answer, expired, False)
        try:
            return await answer
        finally:
            seat.leave()
            if timer is not None:
                timer.cancel()

    def _launch(
        self,
        wanted: Wanted,
        cache: ScoreCache,
        key: SlateKey,
        batcher: Batcher,
        deadline: float,
        priority: Priority | None,
    ) -> Launch[End]:
        def launch(tell: Callable[[End], None]) -> Callable[[], None]:
            return batcher.submit(
                wanted.deployment.features.rows(wanted.rows),
                deadline=deadline,
                then=Learns(cache, key).telling(tell),
                priority=priority or wanted.request.priority,
                deployment=wanted.deployment.name,
                context=self._telemetry.sampled_request() if priority is None else None,
            ).cancel

        return launch

    def _claimed(
        self,
        wanted: Wanted,
        cache: ScoreCache,
        key: SlateKey,
        launch: Launch[End],
        tell: Callable[[End], None],
    ) -> Callable[[], None]:
        """Like `launch`, once it is known that no other process is about to do it."""
        lead = _Lead(cache, key, launch, tell, wanted.deadline, self._clock)
        return lead.begin()


class _Lead:
    """Asks the other processes first, then computes."""

    def __init__(
        self,
        cache: ScoreCache,
        key: SlateKey,
        launch: Launch[End],
        tell: Callable[[End], None],
        deadline: float,
        clock: Clock,
    ) -> None:
        self._cache, self._key, self._launch, self._tell = cache, key, launch, tell
        self._deadline, self._clock = deadline, clock
        self._computing: Callable[[], None] | None = None

    def begin(self) -> Callable[[], None]:
        self._task = asyncio.create_task(self._run())
        return self._call_off

    def _call_off(self) -> None:
        self._task.cancel()
        if self._computing is not None:
            self._computing()

    async def _run(self) -> None:
        try:
            theirs = await self._theirs()
            if theirs is not None:
                self._tell(theirs)
                return
            self._computing = self._launch(self._tell)
        except Exception as error:  # refused at the door: told to all who wait
            self._tell(error)

    async def _theirs(self) -> CacheLookup | None:
        """The scores of another process that was just about to compute them."""
        left_s = self._deadline - self._clock.now()
        if await self._cache.claim(self._key, for_s=max(0.001, left_s)) is not False:
            return None
        left_s = self._deadline - self._clock.now()
        await asyncio.sleep(max(0.0, min(WAIT_FOR_OTHERS_S, left_s / 2)))
        left_s = self._deadline - self._clock.now()
        found = await self._cache.get(self._key, timeout_s=max(0.0, left_s / 2))
        return None if found.scores is None else found


_PASSED = "the deadline passed before the rows were scored"
_FIRST_TO_LAST: tuple[Priority, ...] = ("high", "normal", "low")
_Place = tuple[Batcher, str, Priority]


def _place(key: SlateKey, batcher: Batcher, priority: Priority, under_way: Flights[End]) -> _Place:
    """Where to wait for a slate: with the first who has it scored, and who goes before us or with
    us. To join one who is let wait longer would cost more than to compute twice."""
    before = _FIRST_TO_LAST[: _FIRST_TO_LAST.index(priority)]
    for other in before:
        if (place := (batcher, key.text, other)) in under_way:
            return place
    return (batcher, key.text, priority)


def _resolve(answer: "asyncio.Future[tuple[End, bool]]", end: End, first: bool) -> bool:
    # The future of a cancelled task is done at once, and the task leaves only when it runs again.
    if answer.done():
        return False
    answer.set_result((end, first))
    return True
