from math import inf, nan

import pytest

from experiments.stats import NotEnoughData
from experiments.stats.cost import cost


def test_a_million_rankings_of_a_millisecond_are_a_thousand_seconds():
    spent = cost(compute_us=5_000_000, rankings=5000, predictions=500_000, price_per_hour=3.6)

    assert spent.engine_ms_per_ranking == 1.0
    assert spent.per_million_rankings == pytest.approx(1.0)  # 1000 s at 0.001 each
    assert spent.per_million_predictions == pytest.approx(0.01)


def test_what_the_cache_answers_costs_no_engine_time():
    cached = cost(compute_us=1000, rankings=10, predictions=10, price_per_hour=1.0)
    computed = cost(compute_us=10_000, rankings=10, predictions=100, price_per_hour=1.0)

    assert cached.per_million_rankings == pytest.approx(computed.per_million_rankings / 10)
    assert cached.per_million_predictions == pytest.approx(computed.per_million_predictions)


def test_a_variant_without_an_engine_costs_nothing_and_has_no_predictions():
    free = cost(compute_us=0, rankings=10, predictions=0, price_per_hour=1.0)

    assert (free.per_million_rankings, free.per_million_predictions) == (0.0, None)


def test_without_rankings_there_is_no_cost():
    with pytest.raises(NotEnoughData, match="no rankings yet"):
        cost(compute_us=0, rankings=0, predictions=0, price_per_hour=1.0)


@pytest.mark.parametrize("price", [nan, inf, -1.0])
def test_a_price_that_is_none_is_refused(price):
    with pytest.raises(ValueError, match="price"):
        cost(compute_us=1, rankings=1, predictions=1, price_per_hour=price)
