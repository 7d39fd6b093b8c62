"""Simulated shoppers: they ask for slates, look, click by the truth, and report it.

Whoever plays them knows the true click probability of everything that was
shown, so the CTR that the service reports can be held against the truth.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TypeVar

import httpx
import msgspec
import numpy as np

from ranking_models.errors import InputError
from ranking_models.marketplace import Marketplace
from ranking_models.marketplace.exact import Draws, Float64
from ranking_models.marketplace.names import item_indices
from service.addresses import address_problem
from service.loadgen.outcome import Outcome, Tally
from service.loadgen.visits import (
    NO_ANCHOR,
    Visit,
    events,
    page_path,
    page_query,
    rank_body,
    visits,
)
from service.messages import EventsReply, RankReply

_CLICKS, _RETURNS = 7, 8  # names of the random streams, after those of the marketplace

RETURNS = 0.25
"""Chance that a shopper comes back to the same page, as by the back button, and sees it anew:
what makes a cache of exact answers worth having."""
Answer = TypeVar("Answer")

_reply = msgspec.json.Decoder(RankReply)
_results = msgspec.json.Decoder(EventsReply)
_encoder = msgspec.json.Encoder()


async def play_shoppers(
    marketplace: Marketplace,
    url: str,
    *,
    sessions: int,
    seed: int,
    concurrency: int,
    api_key: str | None = None,
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
        api_key: What they show, with the scopes ``rank`` and ``events``; None shows nothing.
        done: Called with 1 when a session is over, for a progress bar.
        longest_s: After so many seconds no further session begins.

    Raises:
        InputError: nobody answers at the URL, or the service shows items of
            another marketplace.
    """
    if problem := address_problem(url):
        raise InputError(problem)
    planned = visits(marketplace, sessions=sessions, seed=seed)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    # Not through a proxy of the environment: shoppers visit the service itself.
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=10.0, trust_env=False
    ) as client:
        try:
            await client.get("/health/live")
        except httpx.HTTPError as error:
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
            for look in range(self._looks(visit)):
                reply = await self._slate(visit)
                if reply is not None and reply.items:
                    await self._look_and_click(visit, reply, look)
            self._done(1)

    def _looks(self, visit: Visit) -> int:
        returns = Draws(_RETURNS, self._seed, visit.number).uniform(1)[0] < RETURNS
        return 2 if returns else 1

    async def _slate(self, visit: Visit) -> RankReply | None:
        if visit.anchor == NO_ANCHOR:
            request = self._client.build_request(
                "POST", "/v1/rank", json=rank_body(visit, self._session(visit))
            )
        else:
            request = self._client.build_request(
                "GET",
                page_path(visit),
                params=page_query(visit, self._session(visit)),
            )
        return await self._send("rank", request, _reply)

    async def _look_and_click(self, visit: Visit, reply: RankReply, look: int) -> None:
        shown = item_indices(
            (item.id for item in reply.items), self._marketplace.population.spec.items
        )
        positions = np.arange(1, len(shown) + 1)
        truth = self._marketplace.click_probability(visit.user, shown, visit.context, positions)
        clicked = Draws(_CLICKS, self._seed, visit.number, look).uniform(len(shown)) < truth
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


def _code(response: httpx.Response) -> str:
    """The stable code of a problem; empty if the answer is none."""
    try:
        code = response.json()["code"]
    except (ValueError, KeyError, TypeError):
        return ""
    return str(code)
