"""What a bundle's order is worth in the marketplace that it was trained on."""

from collections.abc import Callable

import msgspec
import numpy as np

from ranking_models.bundle import Bundle
from ranking_models.marketplace import Marketplace, Sessions
from ranking_models.marketplace.exact import Draws, Float64
from ranking_models.marketplace.names import item_id
from ranking_models.marketplace.orders import OrderQuality, order_quality, true_relevance
from ranking_models.schema import FeatureBatch, Float32
from service.engines.rows import as_features
from service.features import BundleFeatures
from service.loadgen.visits import CANDIDATES, rank_body, visits_of
from service.messages import RankRequest
from service.slate import PopularityOrder


def compare_orders(
    marketplace: Marketplace,
    bundle: Bundle,
    score: Callable[[FeatureBatch], Float32],
    *,
    sessions: int,
    seed: int,
) -> dict[str, OrderQuality]:
    """The truth about several orders of the candidates that shoppers are shown.

    Args:
        marketplace: The one that the bundle was trained on.
        bundle: Its features and popularity.
        score: Its graph, or any other function of the model's input rows.
        sessions: How many, at most what is drawn in one piece.
        seed: Of the sessions.

    Returns:
        By order: the best possible one, the model's, popularity, and chance.
    """
    drawn = next(marketplace.sessions(sessions, seed=seed, candidates=CANDIDATES))
    relevance = true_relevance(marketplace, drawn)
    orders = {
        "best possible": relevance,
        "model": _model_keys(bundle, score, drawn),
        "popularity": _popularity_keys(bundle, drawn),
        "chance": Draws(seed).uniform(*relevance.shape),
    }
    return {name: order_quality(relevance, drawn, keys) for name, keys in orders.items()}


def _model_keys(
    bundle: Bundle, score: Callable[[FeatureBatch], Float32], drawn: Sessions
) -> Float64:
    """Scores through the feature code that serves, of requests as shoppers send them."""
    features = BundleFeatures(bundle)
    requests = [
        msgspec.convert(rank_body(visit, "session"), RankRequest) for visit in visits_of(drawn)
    ]
    batches = [as_features(features.rows(features.encode(request))) for request in requests]
    return np.stack([score(batch) for batch in batches]).astype(np.float64)


def _popularity_keys(bundle: Bundle, drawn: Sessions) -> Float64:
    """The scores of popularity slates."""
    position = {item: at for at, item in enumerate(bundle.item_ids.tolist())}
    shown = [[position[item_id(at)] for at in row] for row in drawn.candidates.tolist()]
    scores = PopularityOrder(bundle.popularity).scores(np.array(shown, np.int32))
    return scores.astype(np.float64)
