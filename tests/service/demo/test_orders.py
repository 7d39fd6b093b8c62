"""The demonstration's model is worth having."""

import numpy as np
import pytest

from ranking_models.bundle import Bundle, find_bundle
from ranking_models.marketplace import Marketplace, MarketplaceSpec
from ranking_models.marketplace.orders import order_quality, true_relevance
from ranking_models.onnx_runtime import onnx_runtime_scorer
from service.demo.orders import compare_orders
from service.deployments import bundle_directory
from service.settings import demo_settings_file, load_settings


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    directory = bundle_directory(load_settings(demo_settings_file(), environ={}))
    return Bundle.open(find_bundle(directory, "marketplace"))


@pytest.fixture(scope="module")
def marketplace() -> Marketplace:
    return Marketplace.generate(MarketplaceSpec())


def test_the_model_clearly_beats_popularity_for_shoppers_that_it_was_not_trained_on(
    marketplace, bundle
):
    found = compare_orders(
        marketplace, bundle, onnx_runtime_scorer(bundle.graph("fp32")), sessions=300, seed=2
    )

    assert found["model"].ctr > 1.15 * found["popularity"].ctr
    assert found["model"].ndcg > found["popularity"].ndcg + 0.1
    assert found["popularity"].ctr > 1.5 * found["chance"].ctr
    assert found["best possible"].ctr > found["model"].ctr
    assert found["best possible"].ndcg == pytest.approx(1.0)


def test_the_worst_order_is_worse_than_chance(marketplace):
    drawn = next(marketplace.sessions(100, seed=3))
    relevance = true_relevance(marketplace, drawn)

    worst = order_quality(relevance, drawn, -relevance)
    chance = order_quality(relevance, drawn, np.zeros_like(relevance))

    assert worst.ctr < chance.ctr < order_quality(relevance, drawn, relevance).ctr
    assert 0 < worst.ndcg < chance.ndcg < 1
