from math import exp, log

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from experiments.stats import NotEnoughData
from experiments.stats.estimate import relative
from experiments.stats.geometric import (
    LatencySample,
    always_valid_geometric_change,
    design_effect,
    geometric_change,
    geometric_mean,
    log_change,
    log_mean,
)
from experiments.stats.quantile import RELATIVE_ERROR, SHORTEST_MS, quantile_interval
from experiments.stats.sequential import always_valid_interval

CELLS = 1024


def requests(rng, units: int, *, typical_ms: float = 5.0, spread: float = 0.5, within: float = 0.5):
    """Latencies and their unit: units differ, and a few of them send most requests."""
    per_unit = rng.geometric(1 / (1 + rng.pareto(1.5, units) * 5))
    unit = np.repeat(np.arange(units), np.minimum(per_unit, 400))
    mean = np.repeat(rng.normal(log(typical_ms), spread, units), np.minimum(per_unit, 400))
    return np.exp(mean + rng.normal(0, within, len(unit))), unit


def sample_of(latencies, units, cells: int = CELLS) -> LatencySample:
    cell = units * 7919 % cells
    return LatencySample(
        np.bincount(cell, np.log(latencies), cells), np.bincount(cell, minlength=cells)
    )


def test_the_mean_is_scipys_geometric_mean():
    latencies, units = requests(np.random.default_rng(1), 500)

    assert geometric_mean(sample_of(latencies, units)).value == pytest.approx(
        stats.gmean(latencies)
    )


def test_the_error_is_that_of_a_regression_with_clusters():
    latencies, units = requests(np.random.default_rng(2), 900)
    cells = units * 7919 % CELLS
    regression = sm.OLS(np.log(latencies), np.ones(len(latencies))).fit(
        cov_type="cluster", cov_kwds={"groups": cells}
    )

    assert log_mean(sample_of(latencies, units)).error == pytest.approx(regression.bse[0], rel=0.02)


def test_units_of_one_request_each_are_students_t_on_logarithms():
    """A cell per unit: nothing is clustered, and leaving one out changes nothing."""
    latencies = np.random.default_rng(3).lognormal(1, 0.7, 400)
    sample = LatencySample(np.log(latencies), np.ones(400, np.int64))
    low, high = stats.t.interval(0.95, 399, np.log(latencies).mean(), stats.sem(np.log(latencies)))

    interval = geometric_mean(sample)
    assert (interval.low, interval.high) == pytest.approx((exp(low), exp(high)), rel=1e-3)


def test_a_change_is_welchs_test_on_logarithms():
    rng = np.random.default_rng(4)
    a, b = rng.lognormal(1.5, 0.4, 600), rng.lognormal(1.4, 0.6, 300)
    control, treatment = (LatencySample(np.log(x), np.ones(len(x), np.int64)) for x in (a, b))
    expected = stats.ttest_ind(np.log(b), np.log(a), equal_var=False)
    low, high = expected.confidence_interval()

    change = geometric_change(control, treatment)
    assert change.relative.value == pytest.approx(stats.gmean(b) / stats.gmean(a) - 1)
    assert change.relative.low == pytest.approx(exp(low) - 1, rel=2e-3)
    assert change.relative.high == pytest.approx(exp(high) - 1, rel=2e-3)
    assert change.p_value == pytest.approx(expected.pvalue, rel=0.02)


def test_intervals_cover_the_truth_where_a_few_units_send_most_requests():
    """Requests taken as independent would cover it far too rarely."""
    rng = np.random.default_rng(5)
    covered, naive, runs = 0, 0, 400
    for _ in range(runs):
        latencies, units = requests(rng, 400)
        interval = geometric_mean(sample_of(latencies, units))
        covered += interval.low <= 5.0 <= interval.high
        half = 1.96 * stats.sem(np.log(latencies))
        naive += abs(np.log(latencies).mean() - log(5.0)) <= half

    assert 0.92 <= covered / runs <= 0.98
    assert naive / runs < 0.75


def test_what_is_always_valid_is_wider_and_the_same_as_the_estimate_says():
    rng = np.random.default_rng(6)
    control, treatment = (sample_of(*requests(rng, 3000)) for _ in range(2))
    once, always = (
        compare(control, treatment) for compare in (geometric_change, always_valid_geometric_change)
    )

    assert always.relative.low < once.relative.low < once.relative.high < always.relative.high
    assert always.relative == relative(always_valid_interval(log_change(control, treatment)))


@pytest.mark.parametrize(
    ("sample", "missing"),
    [
        (LatencySample(np.zeros(8), np.zeros(8, np.int64)), "no latencies yet"),
        (LatencySample(np.ones(4), np.ones(4, np.int64)), "4.0 of 5 effective units"),
        (LatencySample(np.full(9, log(7.0)), np.ones(9, np.int64)), "the same latency"),
        (LatencySample(np.ones(1), np.ones(1, np.int64)), "1.0 of 5 effective units"),
    ],
)
def test_too_little_says_what_is_missing(sample, missing):
    with pytest.raises(NotEnoughData, match=missing):
        geometric_mean(sample)


def sketch(latencies) -> dict[int, int]:
    exact = np.log(latencies / SHORTEST_MS) / log((1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR))
    buckets, counts = np.unique(np.ceil(exact).astype(int), return_counts=True)
    return dict(zip(buckets.tolist(), counts.tolist(), strict=True))


def test_requests_of_many_units_have_no_design_effect_and_of_few_units_a_large_one():
    rng = np.random.default_rng(7)
    alone = rng.lognormal(1, 0.5, 5000)
    latencies, units = requests(rng, 400, spread=0.5, within=0.2)

    assert design_effect(sample_of(alone, np.arange(5000)), sketch(alone)) < 1.2
    assert design_effect(sample_of(latencies, units), sketch(latencies)) > 5
    assert design_effect(LatencySample(np.zeros(8), np.zeros(8, np.int64)), {}) == 1.0


def test_quantile_intervals_cover_the_truth_where_a_few_units_send_most_requests():
    rng = np.random.default_rng(8)
    truth = exp(stats.norm.ppf(0.9, log(5.0), np.hypot(0.5, 0.5)))
    covered, naive, runs = 0, 0, 200
    for _ in range(runs):
        latencies, units = requests(rng, 1500)
        counts = sketch(latencies)
        effect = design_effect(sample_of(latencies, units), counts)
        wide = quantile_interval(counts, 0.9, design_effect=effect)
        narrow = quantile_interval(counts, 0.9)
        covered += wide.low <= truth <= wide.high
        naive += narrow.low <= truth <= narrow.high

    assert covered / runs >= 0.93
    assert naive / runs < 0.85
