import pytest
from statsmodels.stats.proportion import proportion_confint

from experiments.stats import NotEnoughData
from experiments.stats.crossover import check_crossovers, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 10), (1, 10), (10, 10), (3, 4000), (38, 10_000)]
)
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_interval_is_wilsons_as_in_statsmodels(successes, trials, confidence):
    low, high = proportion_confint(successes, trials, 1 - confidence, method="wilson")

    found = wilson_interval(successes, trials, confidence=confidence)

    assert found.value == successes / trials
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-15)


@pytest.mark.parametrize(
    ("clicks", "low", "high"),
    [
        (38, 0.00277, 0.00521),
        (42, 0.00311, 0.00567),
        (46, 0.00345, 0.00613),
        (69, 0.00546, 0.00872),
    ],
)
def test_the_open_bandit_samples_have_their_published_intervals(clicks, low, high):
    """Clicks of 10,000 rows of the sample in obp 0.4.1."""
    found = wilson_interval(clicks, 10_000)

    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-6)


@pytest.mark.parametrize(
    ("crossovers", "units", "verdict"),
    [
        (0, 100, "unclear"),  # three in a hundred may be hiding
        (0, 400, "ok"),
        (50, 10_000, "ok"),
        (100, 10_000, "unclear"),
        (130, 10_000, "exceeded"),
        (20, 100, "exceeded"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(crossovers, units, verdict):
    assert check_crossovers(crossovers, units).verdict == verdict


def test_the_limit_is_the_callers():
    assert check_crossovers(130, 10_000, limit=0.05).verdict == "ok"
    assert check_crossovers(0, 400, limit=0.001).verdict == "unclear"


def test_nobody_has_no_share():
    with pytest.raises(NotEnoughData, match="no units yet"):
        check_crossovers(0, 0)


@pytest.mark.parametrize("counts", [(5, 4), (-1, 4)])
def test_impossible_counts_are_refused(counts):
    with pytest.raises(ValueError, match="no share"):
        check_crossovers(*counts)
