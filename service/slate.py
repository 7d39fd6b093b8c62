"""From scores to an ordered slate, and the order that needs no model."""

from collections.abc import Iterable
from itertools import count
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.schema import Float32, Int32
from service.messages import RankedItem

_FEW: Final = 16
"""So many are sorted alike in either way."""


def best(item_ids: tuple[str, ...], scores: Float32, k: int) -> tuple[RankedItem, ...]:
    """The k best candidates, best first; ties keep the order of the candidates.

    Args:
        item_ids: Candidates in the order asked.
        scores: float32 ``[candidates]``, finite.
        k: How many; more than there are candidates gives all of them.
    """
    order = _order(scores, k)
    return ranked_items(item_ids, order.tolist(), scores.take(order).tolist())


class BestOfEach(Struct, frozen=True):
    """The best candidates of each of several requests, found together."""

    places: list[list[int]]
    """Request by request their places among its candidates, best first."""
    scores: list[list[float]]


def best_of_each(scores: Float32, k: int) -> BestOfEach:
    """What `best` finds, for several requests at once.

    Args:
        scores: float32 ``[requests, candidates]``, finite.
        k: How many of each.
    """
    candidates = scores.shape[1]
    starts = np.arange(0, scores.size, candidates)[:, None]
    if candidates > _FEW:
        order = (-scores).argsort(axis=1)[:, : k + 1]
        found = scores.take(order + starts)
        if (found[:, 1:] != found[:, :-1]).all():
            return BestOfEach(order[:, :k].tolist(), found[:, :k].tolist())
    order = (-scores).argsort(axis=1, kind="stable")[:, :k]
    return BestOfEach(order.tolist(), scores.take(order + starts).tolist())


def ranked_items(
    item_ids: tuple[str, ...], places: Iterable[int], scores: Iterable[float]
) -> tuple[RankedItem, ...]:
    """The slate of candidates that are in order: their places and their scores."""
    return tuple(map(RankedItem, map(item_ids.__getitem__, places), scores, count(1)))


def _order(scores: Float32, k: int) -> npt.NDArray[np.intp]:
    if len(scores) > _FEW:
        # Of 100 new scores this takes 3 us and a stable sort 8: numpy vectorises it. Among k + 1
        # best that are all different there is no order to keep.
        order = (-scores).argsort()[: k + 1]
        if len(set(scores.take(order).tolist())) == len(order):
            return order[:k]
    return (-scores).argsort(kind="stable")[:k]


class PopularityOrder:
    """Scores every item by its place in the bundle's popularity order.

    The scores order a slate and are not click probabilities: the most popular
    of n items gets 1, the next 1 - 1/n, an item that the catalogue does not
    hold gets 0 and so comes last.
    """

    def __init__(self, popularity: Int32) -> None:
        n = len(popularity)
        self._scores = np.zeros(n + 1, np.float32)  # the last place is for unknown items
        self._scores[popularity] = 1 - np.arange(n, dtype=np.float32) / n

    def scores(self, items: Int32) -> Float32:
        """float32 ``[candidates]`` for catalogue positions, -1 for unknown."""
        return self._scores[items]
