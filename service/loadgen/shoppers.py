"""Simulated shoppers: they ask for slates, look, click by the truth, and report it.

Whoever plays them knows the true click probability of everything that was
shown, so the CTR that the service reports can be held against the truth.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, TypeVar

import httpx
import msgspec
import numpy as np
from msgspec import Struct

from ranking_models.errors import InputError
from ranking_models.marketplace import ANONYMOUS, Context, Marketplace, Sessions
from ranking_models.marketplace.exact import Draws, Float64
from ranking_models.marketplace.names import item_id, item_indices, user_id
from ranking_models.marketplace.spec import COUNTRIES, DEVICES, LONGEST_SLATE, SURFACES
from service.messages import EventsReply, RankReply

_CLICKS = 7  # name of the random stream, after those of the marketplace
_NO_ANCHOR = -1

CANDIDATES = 50
"""Of each ranking request."""
TIMEOUT_MS = 500
"""Deadline of each ranking request: shoppers are patient, measurements are not made here."""

Answer = TypeVar("Answer")

_reply = msgspec.json.Decoder(RankReply)
_results = msgspec.json.Decoder(EventsReply)
_encoder = msgspec.json.Encoder()


class Visit(Struct, frozen=True, kw_only=True):
    """One shopper opens one page."""

    number: int
    user: int
    """User index or `ANONYMOUS`."""
    context: Context
    anchor: int
    """The item whose page it is, or -1: a page with a slate of the candidates."""
    candidates: tuple[int, ...]


class Tally(Struct, kw_only=True):
    """What was shown and clicked; the truth beside what happened."""

    slates: int = 0
    impressions: int = 0
    expected_clicks: float = 0.0
    """Sum of the true click probabilities of all impressions."""
    clicks: int = 0

    @property
    def true_ctr(self) -> float:
        """Mean true click probability of the impressions; NaN without any."""
        return self.expected_clicks / self.impressions if self.impressions else float("nan")

    @property
    def ctr(self) -> float:
        """Clicks per impression; NaN without any."""
        return self.clicks / self.impressions if self.impressions else float("nan")

    def add(self, probabilities: Float64, clicked: int) -> None:
        """Count one slate."""
        self.slates += 1
        self.impressions += len(probabilities)
        self.expected_clicks += float(probabilities.sum())
        self.clicks += clicked


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of all visits."""

    everything: Tally
    variants: dict[tuple[str, str], Tally]
    """Experiment key and variant to what its units saw."""
    failures: dict[str, int]
    """What went wrong, in words, and how often; empty if nothing did."""
    degraded: dict[str, int]
    """Slates by kind of degradation."""
    events: dict[str, int]
    """Impressions and clicks by what became of them."""
    elapsed_s: float


def visits(
    marketplace: Marketplace, *, sessions: int, seed: int, candidates: int
) -> Iterator[Visit]:
    """The shoppers' visits, in order of time; the same seed gives the same ones."""
    first = 0
    for drawn in marketplace.sessions(sessions, seed=seed, candidates=candidates):
        yield from visits_of(drawn, first=first)
        first += len(drawn)


def visits_of(drawn: Sessions, *, first: int = 0) -> Iterator[Visit]:
    """Some sessions as visits, numbered from ``first``."""
    for at in range(len(drawn)):
        yield Visit(
            number=first + at,
            user=int(drawn.user[at]),
            context=drawn.context.map(itemgetter(at)),
            anchor=int(drawn.anchor[at]),
            candidates=tuple(drawn.candidates[at].tolist()),
        )


async def play_shoppers(
    marketplace: Marketplace,
    url: str,
    *,
    sessions: int,
    seed: int,
    concurrency: int,
    done: Callable[[int], object] = lambda _: None,
    longest_s: float = 3600.0,
) -> Outcome:
    """Play simulated sessions against a service.

    Args:
        marketplace: The one that the service's model was trained on.
        url: ``http://host:port`` of the service.
        sessions: How many.
        seed: Of who comes when, and of the clicks.
        concurrency: Shoppers at the same time.
        done: Called with 1 when a session is over, for a progress bar.
        longest_s: After so many seconds no further session begins.

    Raises:
        InputError: nobody answers at the URL, or the service shows items of
            another marketplace.
    """
    planned = visits(marketplace, sessions=sessions, seed=seed, candidates=CANDIDATES)
    # Not through a proxy of the environment: shoppers visit the service itself.
    async with httpx.AsyncClient(base_url=url, timeout=10.0, trust_env=False) as client:
        try:
            await client.get("/health/live")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise InputError(
                f"{url}: no service answers ({error}); is `podium serve` up?"
            ) from None
        shoppers = Shoppers(marketplace, client, seed=seed, done=done)
        return await shoppers.play(planned, concurrency=concurrency, longest_s=longest_s)


class Shoppers:
    """Plays visits against a service. For one event loop, used once."""

    def __init__(
        self,
        marketplace: Marketplace,
        client: httpx.AsyncClient,
        *,
        seed: int,
        done: Callable[[int], object],
    ) -> None:
        self._marketplace = marketplace
        self._client = client
        self._seed = seed
        self._done = done
        self._everything = Tally()
        self._variants: dict[tuple[str, str], Tally] = {}
        self._failures: Counter[str] = Counter()
        self._degraded: Counter[str] = Counter()
        self._events: Counter[str] = Counter()

    async def play(
        self, planned: Iterable[Visit], *, concurrency: int, longest_s: float
    ) -> Outcome:
        """Play the visits, at most ``concurrency`` at a time.

        What fails is counted, and the other visits go on.

        Args:
            planned: The visits.
            concurrency: Shoppers at the same time.
            longest_s: After so many seconds no further visit begins; that
                some were left is a failure.

        Raises:
            InputError: the service shows items of another marketplace.
        """
        began = time.monotonic()
        queue = iter(planned)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(self._shop(queue, until=began + longest_s))
        except* InputError as errors:
            raise errors.exceptions[0] from None
        if next(queue, None) is not None:
            self._failures[f"sessions were left after {longest_s:g} s"] += 1
        return Outcome(
            everything=self._everything,
            variants=self._variants,
            failures=dict(self._failures),
            degraded=dict(self._degraded),
            events=dict(self._events),
            elapsed_s=time.monotonic() - began,
        )

    async def _shop(self, queue: Iterator[Visit], *, until: float) -> None:
        while time.monotonic() < until and (visit := next(queue, None)) is not None:
            reply = await self._slate(visit)
            if reply is not None and reply.items:
                await self._look_and_click(visit, reply)
            self._done(1)

    async def _slate(self, visit: Visit) -> RankReply | None:
        if visit.anchor == _NO_ANCHOR:
            request = self._client.build_request(
                "POST", "/v1/rank", json=rank_body(visit, self._session(visit))
            )
        else:
            request = self._client.build_request(
                "GET",
                f"/v1/items/{item_id(visit.anchor)}/recommendations",
                params=page_query(visit, self._session(visit)),
            )
        return await self._send("rank", request, _reply)

    async def _look_and_click(self, visit: Visit, reply: RankReply) -> None:
        shown = item_indices(
            (item.id for item in reply.items), self._marketplace.population.spec.items
        )
        positions = np.arange(1, len(shown) + 1)
        truth = self._marketplace.click_probability(visit.user, shown, visit.context, positions)
        clicked = Draws(_CLICKS, self._seed, visit.number).uniform(len(shown)) < truth
        self._count(reply, truth, int(clicked.sum()))
        await self._report(reply, clicked.tolist())

    def _count(self, reply: RankReply, truth: Float64, clicked: int) -> None:
        self._everything.add(truth, clicked)
        for experiment in reply.experiments:
            tally = self._variants.setdefault((experiment.key, experiment.variant), Tally())
            tally.add(truth, clicked)
        if reply.degraded:
            self._degraded[reply.degraded] += 1

    async def _report(self, reply: RankReply, clicked: list[bool]) -> None:
        request = self._client.build_request(
            "POST",
            "/v1/events",
            content=_encoder.encode(events(reply, clicked, now=datetime.now(UTC))),
            headers={"content-type": "application/json"},
        )
        answer = await self._send("events", request, _results)
        for result in answer.results if answer else ():
            self._events[result.status] += 1
            if result.status == "rejected":
                self._failures[f"events: rejected as {result.code}"] += 1

    async def _send(
        self, what: str, request: httpx.Request, decoder: msgspec.json.Decoder[Answer]
    ) -> Answer | None:
        """The decoded body of a successful answer; anything else is counted."""
        try:
            response = await self._client.send(request)
            if response.is_success:
                return decoder.decode(response.content)
            reason = f"{response.status_code} {_code(response)}".strip()
        except (httpx.HTTPError, msgspec.MsgspecError) as error:
            reason = type(error).__name__
        self._failures[f"{what}: {reason}"] += 1
        return None

    def _session(self, visit: Visit) -> str:
        return f"shopper-{self._seed}-{visit.number}"


def rank_body(visit: Visit, session: str) -> dict[str, Any]:
    """The body of ``POST /v1/rank`` for a visit."""
    user = {} if visit.user == ANONYMOUS else {"user": {"id": user_id(visit.user)}}
    return {
        **user,
        "session_id": session,
        "context": _context(visit.context),
        "candidates": [item_id(at) for at in visit.candidates],
        "k": LONGEST_SLATE,
        "timeout_ms": TIMEOUT_MS,
    }


def page_query(visit: Visit, session: str) -> dict[str, str | int]:
    """The query of an item page for a visit."""
    user = user_id(visit.user)
    return {
        **({} if user is None else {"user_id": user}),
        "session_id": session,
        **_context(visit.context),
        "k": LONGEST_SLATE,
        "timeout_ms": TIMEOUT_MS,
    }


def events(reply: RankReply, clicked: list[bool], *, now: datetime) -> list[dict[str, Any]]:
    """An impression of every item of a slate as shown, then the clicks."""
    types = [("impression", True, at) for at in range(len(clicked))]
    types += [("click", was, at) for at, was in enumerate(clicked)]
    return [
        {
            "event_id": f"{reply.slate_id}-{kind}-{at + 1}",
            "type": kind,
            "slate_id": reply.slate_id,
            "item_id": reply.items[at].id,
            "position": at + 1,
            "timestamp": now.isoformat(),
            "exposure": reply.exposure,
        }
        for kind, happened, at in types
        if happened
    ]


def _context(context: Context) -> dict[str, str | int]:
    return {
        "device": DEVICES[int(context.device)],
        "country": COUNTRIES[int(context.country)],
        "hour": int(context.hour),
        "surface": SURFACES[int(context.surface)],
    }


def _code(response: httpx.Response) -> str:
    """The stable code of a problem; empty if the answer is none."""
    try:
        code = response.json()["code"]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(code)
