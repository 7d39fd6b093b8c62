from collections import Counter
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.stats import Interval, NotEnoughData
from experiments.stats.quantile import (
    LONGEST_MS,
    RELATIVE_ERROR,
    SHORTEST_MS,
    _binomial_quantile,
    bucket_of,
    least_size,
    merged,
    quantile,
    quantile_change,
    quantile_interval,
    size,
)

latencies = st.floats(SHORTEST_MS, LONGEST_MS)


def sketch(values) -> Counter[int]:
    return Counter(bucket_of(float(value)) for value in values)


@given(st.lists(latencies, min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_a_quantile_is_within_one_percent_of_the_true_one(values, q):
    truth = float(np.quantile(values, q, method="inverted_cdf"))

    assert quantile(sketch(values), q) == pytest.approx(truth, rel=RELATIVE_ERROR + 1e-9)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99, 0.999])
def test_a_quantile_of_many_is_numpys(q):
    values = np.random.default_rng(1).lognormal(1.5, 0.8, 50_000)

    assert quantile(sketch(values), q) == pytest.approx(np.quantile(values, q), rel=0.011)


@given(latencies, latencies)
def test_longer_latencies_are_in_later_buckets(one, other):
    assert (bucket_of(one) <= bucket_of(other)) == (one <= other) or bucket_of(one) == bucket_of(
        other
    )


def test_there_are_a_thousand_buckets_and_no_more():
    assert bucket_of(0.0) == bucket_of(SHORTEST_MS) == 0
    assert bucket_of(LONGEST_MS) == bucket_of(1e12) == 1011


@pytest.mark.parametrize("latency", [nan, inf, -inf, -1.0])
def test_a_latency_that_is_none_has_no_bucket(latency):
    with pytest.raises(ValueError, match="must be a finite number"):
        bucket_of(latency)


@given(st.lists(latencies, max_size=50), st.lists(latencies, max_size=50))
def test_sketches_add_up(one, other):
    assert merged(sketch(one), sketch(other)) == sketch(one + other)
    assert size(merged(sketch(one), sketch(other))) == len(one) + len(other)


@pytest.mark.parametrize(("q", "n"), [(0.5, 40), (0.5, 2000), (0.95, 300), (0.99, 3000)])
def test_the_interval_is_made_of_the_order_statistics_that_scipy_takes(q, n):
    values = np.random.default_rng(n).lognormal(1, 0.5, n)
    theirs = stats.quantile_test(values, p=q).confidence_interval(0.95)

    ours = quantile_interval(sketch(values), q)

    assert theirs.low * 0.98 <= ours.low <= theirs.low
    assert theirs.high <= ours.high <= theirs.high * 1.021


@pytest.mark.parametrize(
    ("q", "n", "runs"),
    [(0.5, 9, 1000), (0.5, 1000, 400), (0.95, 110, 600), (0.99, 555, 400), (0.99, 5000, 200)],
)
def test_the_interval_covers_the_truth_from_the_smallest_sample_on(q, n, runs):
    rng = np.random.default_rng(n)
    truth = stats.lognorm.ppf(q, 0.8)
    covered = 0
    for _ in range(runs):
        interval = quantile_interval(sketch(rng.lognormal(0, 0.8, n)), q)
        covered += interval.low <= truth <= interval.high

    assert covered / runs >= 0.93


def test_many_requests_do_not_make_the_interval_finer_than_the_sketch():
    values = np.full(100_000, 10.0)
    interval = quantile_interval(sketch(values), 0.5)

    assert interval.low < 10.0 <= interval.high


@pytest.mark.parametrize(("q", "needs"), [(0.5, 9), (0.95, 110), (0.99, 555)])
def test_a_sample_too_small_for_its_tail_is_refused(q, needs):
    """One less, and the interval ends at the shortest or longest value there is."""
    values = np.random.default_rng(2).lognormal(0, 1, needs)

    assert least_size(q) == needs
    assert quantile_interval(sketch(values), q).value > 0
    with pytest.raises(NotEnoughData, match=f"{needs - 1} of {needs} requests"):
        quantile_interval(sketch(values[1:]), q)


@pytest.mark.parametrize("n", [2, 3, 9, 110, 554, 555, 12_345, 10**8])
@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("share", [0.005, 0.025, 0.975, 0.995])
def test_the_ranks_come_from_the_binomial_distribution_of_scipy(share, n, q):
    assert _binomial_quantile(share, n, q) == stats.binom.ppf(share, n, q)


@pytest.mark.parametrize("q", [0.5, 0.99])
def test_an_empty_sketch_has_no_quantile(q):
    with pytest.raises(NotEnoughData, match="no latencies yet"):
        quantile({}, q)
    with pytest.raises(NotEnoughData, match="0 of"):
        quantile_interval({}, q)


@pytest.mark.parametrize("factor", [1.0, 1.25])
def test_a_change_covers_the_truth(factor):
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        one, other = rng.lognormal(1, 0.6, 2000), factor * rng.lognormal(1, 0.6, 400)
        change = quantile_change(
            quantile_interval(sketch(one), 0.95), quantile_interval(sketch(other), 0.95)
        )
        covered += change.low <= factor - 1 <= change.high

    assert covered / 200 >= 0.93


def test_a_change_is_relative_to_the_control():
    change = quantile_change(Interval(10.0, 9.0, 11.0), Interval(20.0, 20.0, 20.0))

    assert change.value == pytest.approx(1.0)
    assert change.low == pytest.approx(20 / 11 - 1)
    assert change.high == pytest.approx(20 / 9 - 1)
