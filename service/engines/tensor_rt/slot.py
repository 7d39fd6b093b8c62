"""A slot: one batch on its way through the device, with all that it needs to itself.

Two or three slots of one plan keep the device busy: while one computes, the
rows of the next are copied in and the scores of the last are copied out. Each
has its own stream, contexts, buffers and event, so nothing of one is ever read
or written by another.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from msgspec import Struct

from ranking_models.schema import FeatureBatch, Float32
from service.engines import EngineInfo
from service.engines.cuda import Event
from service.engines.tensor_rt.buffers import Buffers
from service.engines.tensor_rt.lane import Lane
from service.engines.tensor_rt.on_device import PlanOnDevice
from service.engines.tensor_rt.ranges import nvtx_ranges
from service.errors import EngineFailed


class Marks(Struct, frozen=True, kw_only=True):
    """Timed events of the last batch of a slot, in the order in which the device passed them."""

    started: Event
    copied_in: Event
    """Recorded by batches that run without a graph."""
    computed: Event
    """Recorded by batches that run without a graph."""
    done: Event


class Slot:
    """An `Engine` on TensorRT. Warmed up when it is there: every bucket has run twice.

    Args:
        closed: Called once, after everything was given back.

    Raises:
        EngineFailed: the device has no room, or a bucket does not run.
    """

    def __init__(self, plan: PlanOnDevice, closed: Callable[[], None]) -> None:
        self._cuda, self._info, self._buckets = plan.cuda, plan.info, plan.buckets
        self._under_way: tuple[Lane, int] | None = None
        self._closed: Callable[[], None] | None = closed
        self._lanes: list[Lane] = []
        self._stream = plan.cuda.stream()
        self._owned = ExitStack()
        self._owned.callback(plan.cuda.destroy_stream, self._stream)
        try:
            self._build(plan)
            self._warm_up(captures=plan.captures)
        except BaseException:
            self._give_back()
            raise

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def captured_buckets(self) -> int:
        """How many buckets replay a graph that was captured here."""
        return sum(lane.is_graph for lane in self._lanes)

    @property
    def marks(self) -> Marks | None:
        """Of the last batch, once its scores are there; None unless the plan is timed."""
        return self._marks

    def score(self, batch: FeatureBatch) -> Float32:
        self.submit(batch)
        return self.collect()

    def submit(self, batch: FeatureBatch) -> None:
        """The first half of `score`: enqueue a batch, and come back before it is done.

        Raises:
            EngineFailed: as `score` does; nothing is then under way.
        """
        if self._under_way is not None:
            raise EngineFailed("a batch is under way in this slot")
        lane = self._lane_for(batch.rows)
        with self._submitting[lane.rows]():
            self._cuda.use()
            lane.host.write(batch)
            self._run(lane)
        self._under_way = (lane, batch.rows)

    def collect(self) -> Float32:
        """The second half of `score`: sleep until the batch is done, and take its scores."""
        if self._under_way is None:
            raise EngineFailed("no batch is under way in this slot")
        (lane, rows), self._under_way = self._under_way, None
        with self._waiting(), self._settled():
            self._cuda.wait(self._done)
        return lane.host.scores(rows)

    def close(self) -> None:
        """Give everything back; with the last slot of a plan, the plan itself."""
        closed, self._closed = self._closed, None
        if closed is not None:
            self._give_back()
            closed()

    def _lane_for(self, rows: int) -> Lane:
        if not 1 <= rows <= self._info.max_batch_rows:
            raise EngineFailed(f"{rows} rows are not 1 to {self._info.max_batch_rows}")
        return self._lanes[bisect_left(self._buckets, rows)]

    def _run(self, lane: Lane) -> None:
        marks = self._marks
        with self._settled():
            if marks is not None:
                self._cuda.record(marks.started, self._stream)
            if marks is not None and not lane.is_graph:
                lane.run_marked(marks.copied_in, marks.computed)
            else:
                lane.run()
            self._cuda.record(self._done, self._stream)

    @contextmanager
    def _settled(self) -> Iterator[None]:
        """After a failure, wait for what was enqueued before it: that still uses the buffers."""
        try:
            yield
        except EngineFailed:
            self._cuda.synchronise(self._stream)
            raise

    def _build(self, plan: PlanOnDevice) -> None:
        cuda, owned = plan.cuda, self._owned
        self._done = self._event(timed=plan.timed)
        self._marks = self._new_marks() if plan.timed else None
        largest = plan.buckets[-1]
        buffers = Buffers(
            cuda, owned, plan.border, largest_rows=largest, scratch_bytes=plan.scratch_bytes
        )
        for rows, profile in zip(plan.buckets, plan.profiles, strict=True):
            lane = Lane(plan, owned, self._stream, buffers, rows=rows, profile=profile)
            owned.callback(lane.close)  # after its graph, before the memory
            self._lanes.append(lane)
        ranges, name = nvtx_ranges(), f"{plan.info.model} {plan.info.precision}"
        self._submitting = {rows: ranges(f"{name}: submit {rows} rows") for rows in plan.buckets}
        self._waiting = ranges(f"{name}: wait")

    def _event(self, *, timed: bool) -> Event:
        event = self._cuda.event(timed=timed)
        self._owned.callback(self._cuda.destroy_event, event)
        return event

    def _new_marks(self) -> Marks:
        started, copied_in, computed = (self._event(timed=True) for _ in range(3))
        return Marks(started=started, copied_in=copied_in, computed=computed, done=self._done)

    def _warm_up(self, *, captures: bool) -> None:
        for lane in self._lanes:
            lane.host.clear()
            self._run(lane)  # the first time loads kernels, which a capture forbids
            self._cuda.wait(self._done)
            if captures:
                lane.capture()
            self._run(lane)
            self._cuda.wait(self._done)

    def _give_back(self) -> None:
        self._under_way = None
        with suppress(EngineFailed):  # a lost device has nothing to wait for
            self._cuda.use()
            self._cuda.synchronise(self._stream)
        self._owned.close()
