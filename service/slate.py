"""From scores to an ordered slate, and the order that needs no model."""

import numpy as np

from ranking_models.schema import Float32, Int32
from service.messages import RankedItem


def best(item_ids: tuple[str, ...], scores: Float32, k: int) -> tuple[RankedItem, ...]:
    """The k best candidates, best first; ties keep the order of the candidates.

    Args:
        item_ids: Candidates in the order asked.
        scores: float32 ``[candidates]``, finite.
        k: How many; more than there are candidates gives all of them.
    """
    order = np.argsort(-scores, kind="stable")[:k]
    return tuple(
        RankedItem(item_ids[at], float(scores[at]), rank)
        for rank, at in enumerate(order.tolist(), start=1)
    )


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
