"""Shoppers' visits, and what each of them sends over the public API."""

from collections.abc import Iterator
from datetime import datetime
from operator import itemgetter
from typing import Any

from msgspec import Struct

from ranking_models.marketplace import ANONYMOUS, Context, Marketplace, Sessions
from ranking_models.marketplace.names import item_id, user_id
from ranking_models.marketplace.spec import COUNTRIES, DEVICES, LONGEST_SLATE, SURFACES
from service.messages import RankReply

CANDIDATES = 50
"""Of each ranking request."""
TIMEOUT_MS = 500
"""Deadline of each ranking request: shoppers are patient, measurements are not made here."""

NO_ANCHOR = -1


class Visit(Struct, frozen=True, kw_only=True):
    """One shopper opens one page."""

    number: int
    user: int
    """User index or `ANONYMOUS`."""
    context: Context
    anchor: int
    """The item whose page it is, or -1: a page with a slate of the candidates."""
    candidates: tuple[int, ...]


def visits(marketplace: Marketplace, *, sessions: int, seed: int) -> Iterator[Visit]:
    """The shoppers' visits, in order of time; the same seed gives the same ones."""
    first = 0
    for drawn in marketplace.sessions(sessions, seed=seed, candidates=CANDIDATES):
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


def page_path(visit: Visit) -> str:
    """The path of the page of a visit's anchor."""
    return f"/v1/items/{item_id(visit.anchor)}/recommendations"


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
