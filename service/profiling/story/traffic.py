"""The requests that every step is given: item pages by popularity, and rankings of candidates.

An item page names no user, so there is one slate per item: that is what a cache
of exact answers is good for. A rank request names a known user, a context and
candidates at random, and is never asked twice.
"""

from functools import cached_property
from typing import NamedTuple
from urllib.parse import quote

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.bundle import Bundle
from ranking_models.errors import InputError

PAGE_SHARE = 0.9
ZIPF = 1.07
CANDIDATES = 100
SLATE = 20
TIMEOUT_MS = 1000
"""Of every request: nobody is to be given up while a step is measured at its maximum."""

Places = npt.NDArray[np.int64]


class Page(NamedTuple):
    """``GET /v1/items/{item_id}/recommendations``."""

    item_id: str

    def encode(self) -> bytes:
        """The HTTP request."""
        path = f"/v1/items/{quote(self.item_id, safe='')}/recommendations"
        query = f"k={SLATE}&timeout_ms={TIMEOUT_MS}"
        return f"GET {path}?{query} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode("ascii")


class Rank(NamedTuple):
    """``POST /v1/rank``."""

    body: bytes

    def encode(self) -> bytes:
        """The HTTP request."""
        head = "POST /v1/rank HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(self.body)}\r\n\r\n".encode("ascii") + self.body


class Stream(NamedTuple):
    """Requests in order: ``requests[i]`` for every ``i`` of ``order``; the pages come first."""

    requests: list[Page | Rank]
    pages: int
    """So many of `requests` are pages, each of them another one."""
    order: list[int]


class Shoppers:
    """Draws requests for one bundle.

    Raises:
        InputError: the bundle has no item page.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._candidates = min(CANDIDATES, len(bundle.item_ids))
        self._popular = self._with_page()
        if not len(self._popular):
            raise InputError(
                f"{bundle.path}: no item has candidates beside it, so there are no item pages"
            )
        weights = np.arange(1, len(self._popular) + 1) ** -ZIPF
        self._chance = weights / weights.sum()
        self._context = [s for s in bundle.schema.of("context").ids if s.vocabulary]

    @property
    def items(self) -> int:
        """That have a page."""
        return len(self._popular)

    @property
    def candidates(self) -> int:
        """Of a rank request."""
        return self._candidates

    @cached_property
    def predictions_per_request(self) -> float:
        """Candidates of a request, in the mean."""
        beside = (self._bundle.candidates[self._popular] >= 0).sum(axis=1)
        return float(
            PAGE_SHARE * (beside * self._chance).sum() + (1 - PAGE_SHARE) * self._candidates
        )

    def popular(self, count: int) -> Stream:
        """The pages of the most popular items, each once."""
        ids = self._bundle.item_ids[self._popular[:count]].tolist()
        return Stream([Page(name) for name in ids], len(ids), [*range(len(ids))])

    def stream(self, count: int, *, seed: int) -> Stream:
        """So many requests, other ones with every seed."""
        random = np.random.default_rng([7, seed])
        is_page = random.random(count) < PAGE_SHARE
        asked = self._ranks(random, int(is_page.sum()))
        drawn, which = np.unique(asked, return_inverse=True)
        ids = self._bundle.item_ids[self._popular[drawn]].tolist()
        ranks = [self._rank(random) for _ in range(count - len(asked))]
        order = np.empty(count, np.int64)
        order[is_page] = which
        order[~is_page] = len(ids) + np.arange(len(ranks))
        return Stream([*map(Page, ids), *ranks], len(ids), order.tolist())

    def _with_page(self) -> Places:
        """Catalogue positions by falling popularity; a path cannot carry an id with a slash."""
        bundle = self._bundle
        popular = bundle.popularity.astype(np.int64)
        if not bundle.candidates.size:
            return popular[:0]
        there = (bundle.candidates[popular] >= 0).any(axis=1)
        there &= np.char.find(bundle.item_ids[popular].astype(str), "/") < 0
        return popular[there]

    def _ranks(self, random: np.random.Generator, count: int) -> Places:
        """Places in the popularity order, by Zipf's law."""
        found = np.searchsorted(self._chance.cumsum(), random.random(count))
        return np.minimum(found, len(self._chance) - 1)

    def _rank(self, random: np.random.Generator) -> Rank:
        bundle = self._bundle
        users = bundle.user_ids
        known = {"user": {"id": str(users[random.integers(len(users))])}} if len(users) else {}
        # Sets of numbers at random: choosing without replacement costs in proportion to the items.
        drawn: dict[int, None] = {}
        while len(drawn) < self._candidates:
            drawn |= dict.fromkeys(random.integers(len(bundle.item_ids), size=128).tolist())
        items = bundle.item_ids[[*drawn][: self._candidates]].tolist()
        return Rank(
            msgspec.json.encode(
                {
                    **known,
                    "context": {
                        s.name: s.vocabulary[random.integers(len(s.vocabulary))]
                        for s in self._context
                    },
                    "candidates": items,
                    "k": SLATE,
                    "timeout_ms": TIMEOUT_MS,
                }
            )
        )
