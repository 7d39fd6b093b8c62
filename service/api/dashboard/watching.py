"""Everybody who has the live page open is told by one reader per worker process.

It begins with the first of them and ends with the last. What it reads is the
sum over all workers; what it costs does not depend on how many watch.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import msgspec
from litestar.response import ServerSentEventMessage
from msgspec import Struct
from msgspec.structs import replace

from service.api.dashboard.experiments import ExperimentView, figures, standing_views
from service.api.dashboard.history import History
from service.api.dashboard.points import Point
from service.api.dashboard.samples import KEPT_SLOTS, SAMPLES, SLOT_S, slot_at
from service.clock import Clock
from service.deployments.reports import ModelReports
from service.errors import NotReady, RankingError, TooManyWatchers
from service.fleet import Fleet
from service.health import Health, Readiness
from service.messages import ModelsReply
from service.rollouts.live import LiveExperiments
from service.rollouts.reporting import ExperimentReports

MOST_WATCHERS = 64
"""Per worker process."""
TICK_S = 0.5
SETTLE_S = 0.3
"""After the end of a slot, until all workers have it."""
ASK_LIMIT_S = 1.0
REPORT_S = 4.0
"""Between two rounds of reports, unless something was decided."""
REPORT_SHARE = 0.05
"""Of the time that reports may take."""
SILENCE_S = 10.0
"""After which a listener is told that the line still holds."""
_BEHIND = 32
"""Messages that a listener may leave lying about; then it has to ask anew."""

_log = logging.getLogger(__name__)


class Sources(Struct, frozen=True, kw_only=True):
    """Where the page's figures come from."""

    fleet: Fleet
    models: ModelReports
    live: LiveExperiments
    reports: ExperimentReports
    health: Health
    clock: Clock


class Hello(Struct, frozen=True, kw_only=True):
    """The first message of a stream."""

    slot_s: float = SLOT_S
    kept_s: float = SLOT_S * KEPT_SLOTS
    now: float
    """Unix seconds, here."""


class Loaded(Struct, frozen=True, kw_only=True):
    """What serves, and how its parts are."""

    readiness: Readiness
    models: ModelsReply


class Listener:
    """One open page."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[ServerSentEventMessage | None] = asyncio.Queue(_BEHIND)

    def tell(self, message: ServerSentEventMessage) -> None:
        try:
            self._waiting.put_nowait(message)
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """Tell nothing more, not even what waits; it may come again."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put_nowait(None)

    async def messages(self) -> AsyncIterator[ServerSentEventMessage]:
        while True:
            try:
                message = await asyncio.wait_for(self._waiting.get(), SILENCE_S)
            except TimeoutError:
                message = ServerSentEventMessage(comment="still here")
            if message is None:
                return
            yield message


class Watching:
    """Reads while somebody watches. For one event loop; `stop` after use."""

    def __init__(self, sources: Sources) -> None:
        self._from = sources
        self._history = History(self._ask)
        self._listeners: set[Listener] = set()
        self._work: asyncio.Task[None] | None = None
        self._newest = 0
        self._loaded: Loaded | None = None
        self._views: dict[str, ExperimentView] = {}
        self._report_now = asyncio.Event()
        sources.health.on_drain(self._end_all)

    def admit(self) -> None:
        """Raise unless one more may watch.

        Raises:
            NotReady: the service is about to end.
            TooManyWatchers: as many watch as may.
        """
        if self._from.health.is_draining:
            raise NotReady("this server is shutting down")
        if len(self._listeners) >= MOST_WATCHERS:
            raise TooManyWatchers(MOST_WATCHERS)

    async def watch(self, after: int | None) -> AsyncIterator[ServerSentEventMessage]:
        """What a page is told, until the service or the page ends.

        Args:
            after: The last slot that the page knows; None: it is a fresh one.
        """
        self.admit()
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield _message("hello", Hello(now=self._from.clock.wall()))
            for message in self._so_far(after):
                yield message
            if self._work is None:
                self._work = asyncio.create_task(self._read_on(), name="live page")
            async for message in listener.messages():
                yield message
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self.stop()

    def stop(self) -> None:
        """Read no more; whoever watches is let go."""
        self._end_all()
        if self._work is not None:
            self._work.cancel()
            self._work = None
        self._history.clear()
        self._newest, self._loaded, self._views = 0, None, {}

    # --- telling ---------------------------------------------------------------------

    def _so_far(self, after: int | None) -> list[ServerSentEventMessage]:
        """What those who watch already were told before."""
        told: list[ServerSentEventMessage] = []
        if self._work is not None:
            told.append(_message("experiments", list(self._views.values())))
        if points := self._history.after(after):
            told.append(_points(points))
        if self._loaded is not None:
            told.append(_message("loaded", self._loaded))
        return told

    def _tell(self, message: ServerSentEventMessage) -> None:
        for listener in self._listeners:
            listener.tell(message)

    def _end_all(self) -> None:
        for listener in self._listeners:
            listener.end()

    # --- reading ---------------------------------------------------------------------

    async def _read_on(self) -> None:
        """The two go on by themselves: a slow report must not hold up the charts."""
        async with asyncio.TaskGroup() as parts:
            parts.create_task(self._look_on())
            parts.create_task(self._report_on())

    async def _look_on(self) -> None:
        while True:
            await _tried(self._look)
            await asyncio.sleep(TICK_S)

    async def _report_on(self) -> None:
        clock = self._from.clock
        while True:
            began = clock.now()
            self._report_now.clear()
            await _tried(self._report)
            pause = max(REPORT_S, (clock.now() - began) / REPORT_SHARE)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._report_now.wait(), pause)

    async def _look(self) -> None:
        """Tell what was decided at once, and the rest when a slot has ended."""
        self._stand()
        newest = slot_at(self._from.clock.wall() - SETTLE_S) - 1
        if newest == self._newest:
            return
        if points := await self._history.read(newest):
            self._tell(_points(points))
        self._newest = newest
        models = await self._from.models.read()
        loaded = Loaded(readiness=self._from.health.readiness(), models=models)
        if loaded != self._loaded:
            self._loaded = loaded
            self._tell(_message("loaded", loaded))

    def _stand(self) -> None:
        found = {
            key: _with_figures(view, self._views.get(key))
            for key, view in standing_views(self._from.live).items()
        }
        if found != self._views or self._newest == 0:
            self._views = found
            self._tell(_message("experiments", list(found.values())))
            self._report_now.set()

    async def _report(self) -> None:
        for key in list(self._views):
            found, missing = self._views[key].figures, None
            try:
                found = figures(await self._from.reports.report(key))
            except RankingError as why:
                missing = str(why)
            if key in self._views:  # the file may have lost it meanwhile
                self._views[key] = replace(self._views[key], figures=found, missing=missing)
        self._tell(_message("experiments", list(self._views.values())))

    async def _ask(self, after: int) -> list[bytes]:
        return await self._from.fleet.ask(SAMPLES, str(after).encode(), limit_s=ASK_LIMIT_S)


async def _tried(work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Exception:
        # A defect or a lost server must not end the page: the next look may succeed.
        _log.exception("the live page could not be told everything; it tries again")


def _with_figures(view: ExperimentView, before: ExperimentView | None) -> ExperimentView:
    if before is None:
        return view
    return replace(view, figures=before.figures, missing=before.missing)


def _message(event: str, value: object) -> ServerSentEventMessage:
    return ServerSentEventMessage(event=event, data=msgspec.json.encode(value).decode())


def _points(points: Mapping[int, Point]) -> ServerSentEventMessage:
    told = _message("points", list(points.values()))
    told.id = max(points)
    return told
