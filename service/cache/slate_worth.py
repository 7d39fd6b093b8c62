"""Whether rank requests ask Redis for whole slates, learnt while serving. Pure: time is passed in.

An item page is asked for by everybody. What a user's ranking of a search asks
for, often nobody asks for again: to look it up, and to store what was computed
then, costs more than to compute it. So for each kind of rank request - those of
a surface, by users with a name or without - asking pays while

    share not known here  x  cost of asking Redis, twice for what it does not have
        <  share found  x  cost of scoring.

Costs are CPU time of this process, so the rule only matters where there is none
to spare: a process that is not busy asks in any case, and spares its callers
the engine. And it only matters for what is asked for the first time: what comes
again is in demand, whatever its kind. Nobody learns who never asks. So one
request in `EXPLORED` always asks, the same ones in every process: what one has
stored the others find, and the share found of these is what the share found of
all would be.
"""

import time
from collections.abc import Callable
from typing import Final, Literal
from zlib import crc32

from msgspec import Struct

from service.cache.costs import Costs
from service.cpu_time import wanted_cpu_s
from service.feature_names import SURFACE
from service.messages import RankRequest

SlatesMode = Literal["auto", "always", "never"]

MARGIN: Final = 2.0
"""How many times as much the dearer way must cost for the rule to change its mind."""
WEIGHT: Final = 0.005
"""Of the newest lookup in the share found: about the last 200 count."""
EXPLORED: Final = 32
"""One request in so many asks although it does not pay."""
REMEMBERED: Final = 16_384
"""So many different requests at least, the newest, are known when they come again."""
BUSY: Final = 0.8
"""Share of one core that this process must want for its time to be worth saving."""
IDLE: Final = 0.5
"""It is busy until it wants less than this."""
LOOK_EVERY_S: Final = 0.25
"""At how busy this process is."""
MOST_KINDS: Final = 64
"""Callers name surfaces; beyond so many, what is left is one kind."""

Kind = tuple[object, bool]
"""A surface, and whether the user has a name."""
_REST: Final[Kind] = (None, False)


class SlateWorthReport(Struct, frozen=True, kw_only=True):
    """What is known of both ways, for metrics and for people who ask why."""

    lookup_s: float | None
    """CPU time of asking Redis for a slate; None: not measured yet."""
    scoring_s: float | None
    """What an engine takes for the rows of a request; None: not learnt yet."""
    declined: int
    """Kinds of rank requests that do not ask now."""


class _Demand:
    """What became of the lookups of one kind: shares of those that were found, and that Redis was
    asked for."""

    __slots__ = ("asked", "found", "pays")

    def __init__(self) -> None:
        self.found, self.asked, self.pays = 1.0, 1.0, True


class SlateWorth:
    """Decides request by request, for one deployment. For one event loop.

    Args:
        mode: auto decides by cost; the others are decided.
        now: A clock that never jumps.
        cpu_s: CPU time that this thread has taken or would have.
    """

    def __init__(
        self,
        mode: SlatesMode,
        *,
        now: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = wanted_cpu_s,
    ) -> None:
        self._mode, self._now, self._cpu_s = mode, now, cpu_s
        self._demand: dict[Kind, _Demand] = {}
        self._costs = Costs()
        self._lately: set[int] = set()
        self._before: set[int] = set()
        self._is_busy = False
        self._looked_at, self._cpu_then_s = now(), cpu_s()

    @property
    def declines(self) -> bool:
        """Whether any rank request does not ask now."""
        if self._mode != "auto":
            return self._mode == "never"
        return self._busy() and any(not one.pays for one in self._demand.values())

    def asks(self, request: RankRequest) -> bool:
        """Whether this rank request asks for its slate."""
        if request.anchor_item is not None:
            return True
        if self._mode != "auto":
            return self._mode == "always"
        demand = self._demand.get(_kind(request))
        if demand is None or demand.pays or not self._busy():
            return True
        name = _name_of(request)
        return self._came_before(name) or _is_explored(name)

    def known_here(self, request: RankRequest) -> None:
        """This process had the slate itself."""
        if request.anchor_item is None:
            self._learn(self._demand_of(_kind(request)), asked=False, found=True)

    def looked_up(self, request: RankRequest, *, found: bool, cpu_s: float | None) -> None:
        """Redis was asked.

        Args:
            request: Whose slate it was.
            found: Whether it was there.
            cpu_s: What it cost; None where that was not measured.
        """
        if request.anchor_item is not None:
            return
        if cpu_s is not None:
            self._costs.looked_up(cpu_s)
        self._learn(self._demand_of(_kind(request)), asked=True, found=found)

    def _learn(self, demand: _Demand, *, asked: bool, found: bool) -> None:
        demand.asked += WEIGHT * (asked - demand.asked)
        demand.found += WEIGHT * (found - demand.found)
        self._decide(demand)

    def scored(self, engine_s: float) -> None:
        """Take in what an engine took for the rows of a request."""
        self._costs.scored(engine_s)

    def report(self) -> SlateWorthReport:
        """How the two ways compare now."""
        declined = sum(not one.pays for one in self._demand.values()) if self.declines else 0
        return SlateWorthReport(
            lookup_s=self._costs.lookup_s,
            scoring_s=self._costs.scoring_s,
            declined=declined,
        )

    def _demand_of(self, kind: Kind) -> _Demand:
        known = self._demand.get(kind)
        if known is None:
            kind = kind if len(self._demand) < MOST_KINDS else _REST
            known = self._demand.setdefault(kind, _Demand())
        return known

    def _decide(self, demand: _Demand) -> None:
        if (known := self._costs.known) is None:
            return
        lookup_s, scoring_s = known
        # What is not found is stored when it is computed, which costs as much again.
        cost_s = lookup_s * (demand.asked + 1 - demand.found)
        saved_s = demand.found * scoring_s
        if demand.pays:
            demand.pays = cost_s <= MARGIN * saved_s
        else:
            demand.pays = MARGIN * cost_s < saved_s

    def _came_before(self, name: str) -> bool:
        """Whether it came lately; it is remembered."""
        short = hash(name)
        if short in self._lately:
            return True
        if len(self._lately) >= REMEMBERED:
            self._lately, self._before = set(), self._lately
        self._lately.add(short)
        return short in self._before

    def _busy(self) -> bool:
        now = self._now()
        passed_s = now - self._looked_at
        if passed_s >= LOOK_EVERY_S:
            cpu_s = self._cpu_s()
            enough = IDLE if self._is_busy else BUSY
            self._is_busy = cpu_s - self._cpu_then_s > enough * passed_s
            self._looked_at, self._cpu_then_s = now, cpu_s
        return self._is_busy


def _kind(request: RankRequest) -> Kind:
    surface = request.context.get(SURFACE)
    return (surface if isinstance(surface, str) else None, request.user.id is not None)


def _name_of(request: RankRequest) -> str:
    """What makes most requests different; to hash all of it would cost as much as a lookup."""
    ids = request.candidate_ids()
    return f"{request.user.id}\0{ids[0]}\0{ids[len(ids) // 2]}\0{ids[-1]}\0{len(ids)}"


def _is_explored(name: str) -> bool:
    """Alike in every process, as `hash` is not."""
    return crc32(name.encode("utf-8", "surrogatepass")) % EXPLORED == 0
