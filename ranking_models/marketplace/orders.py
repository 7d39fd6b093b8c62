"""How good an order of candidates is, by the truth."""

import msgspec
import numpy as np

from ranking_models.marketplace import LONGEST_SLATE, Marketplace, Sessions, examination
from ranking_models.marketplace.exact import Float64


class OrderQuality(msgspec.Struct, frozen=True, kw_only=True):
    """Means over slates of the best `LONGEST_SLATE` candidates of an order."""

    ctr: float
    """Expected clicks per impression."""
    ndcg: float
    """Discounted true relevance over that of the best order (NDCG@10)."""


def true_relevance(marketplace: Marketplace, sessions: Sessions) -> Float64:
    """Click probability of each candidate at the first position, ``[sessions, candidates]``."""
    return marketplace.click_probability(
        sessions.user[:, None],
        sessions.candidates,
        sessions.context.map(lambda values: values[:, None]),
        1,
    )


def order_quality(relevance: Float64, sessions: Sessions, keys: Float64) -> OrderQuality:
    """Judge an order of the candidates of some sessions.

    Args:
        relevance: See `true_relevance`.
        sessions: Whose candidates were ordered.
        keys: Larger is better, ``[sessions, candidates]``; ties keep the candidates' order.
    """
    shown = _best(relevance, keys)
    ideal = _best(relevance, relevance)
    positions = np.arange(1, shown.shape[1] + 1)
    looked_at = examination(positions, sessions.context.device[:, None])
    discount = 1.0 / np.log2(positions + 1.0)
    return OrderQuality(
        ctr=float((shown * looked_at).mean()),
        ndcg=float(((shown * discount).sum(axis=1) / (ideal * discount).sum(axis=1)).mean()),
    )


def _best(relevance: Float64, keys: Float64) -> Float64:
    """The relevance of the first places of an order."""
    order = np.argsort(-keys, axis=1, kind="stable")[:, :LONGEST_SLATE]
    return np.take_along_axis(relevance, order, axis=1)
