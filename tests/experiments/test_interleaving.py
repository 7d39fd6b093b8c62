"""Team draft and its credit: by hand, by properties, and with planted rankers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.interleaving import coins, preference, sign_test, team_draft
from experiments.stats import NotEnoughData

ALIKE = list(range(6))


def test_by_hand():
    """Control ranks 0 1 2 3, treatment 1 3 0 2; treatment begins, then control."""
    draft = team_draft([0, 1, 2, 3], [1, 3, 0, 2], 4, [1, 0])

    assert draft.order == (1, 0, 2, 3)
    assert draft.teams == (1, 0, 0, 1)


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.tuples(st.permutations(range(n)), st.permutations(range(n)))
    ),
    st.integers(1, 40),
    st.integers(0, 2**30),
)
def test_a_draft_is_a_slate_of_both(rankings, k, seed):
    first, second = rankings
    draft = team_draft(first, second, k, coins(str(seed), "s", 20))

    assert len(draft.order) == min(k, len(first)) == len(set(draft.order))
    picks = Counter(draft.teams)
    assert abs(picks[0] - picks[1]) <= 1
    # Every pick was the best that its team could take then.
    for at, (item, team) in enumerate(zip(draft.order, draft.teams, strict=True)):
        left = [i for i in rankings[team] if i not in draft.order[:at]]
        assert item == left[0]


def test_equal_rankers_give_the_slate_of_either():
    draft = team_draft(ALIKE, ALIKE, 4, coins("a", "b", 2))

    assert draft.order == (0, 1, 2, 3)


def test_coins_are_fair_repeatable_and_another_experiments_are_others():
    flips = np.array([coins(f"slate {at}", "salt", 10) for at in range(4000)])

    assert abs(flips.mean(axis=0) - 0.5).max() < 0.035  # 4.4 standard errors
    assert abs(np.corrcoef(flips.T) - np.eye(10)).max() < 0.07
    assert coins("slate 1", "salt", 10) == tuple(flips[1])
    assert coins("slate 1", "other", 64) != coins("slate 1", "salt", 64)


def clicks(rng, slates, *, first, second, appeal, k=5):
    """Clicks by team: an item is clicked with its appeal, less further down."""
    seen = 0.9 ** np.arange(k)
    won = np.zeros((2, slates), np.int64)
    for at in range(slates):
        draft = team_draft(first, second, k, coins(f"{rng.integers(2**60)}", "e", k))
        clicked = rng.random(k) < seen * appeal[list(draft.order)]
        for team in np.array(draft.teams)[clicked]:
            won[team, at] += 1
    return won


def test_the_better_ranker_wins():
    rng = np.random.default_rng(1)
    appeal = np.linspace(0.3, 0.02, 20)
    better = list(range(20))
    worse = [*range(4, 20), 0, 1, 2, 3]

    found = preference(*clicks(rng, 2500, first=worse, second=better, appeal=appeal))

    assert found.delta.low > 0
    assert found.p_value < 0.01
    assert found.wins > found.losses
    back = preference(*clicks(rng, 2500, first=better, second=worse, appeal=appeal))
    assert back.delta.high < 0


def test_equal_rankers_are_told_apart_in_one_of_twenty():
    """1500 experiments of 120 users who each have clicks of their own number, up to dozens."""
    rng = np.random.default_rng(2)
    false = 0
    for _ in range(1500):
        n = 1 + rng.poisson(rng.lognormal(0.5, 1.0, 120))
        treatment = rng.binomial(n, 0.5)
        false += preference(n - treatment, treatment).p_value < 0.05

    assert false / 1500 == pytest.approx(0.05, abs=0.017)  # 3 standard errors


def test_the_interval_covers_a_small_preference():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(1000):
        n = 1 + rng.poisson(2.0, 300)
        treatment = rng.binomial(n, 0.54)
        interval = preference(n - treatment, treatment).delta
        covered += interval.low <= 0.08 <= interval.high

    assert covered / 1000 == pytest.approx(0.95, abs=0.021)


def test_wins_losses_and_ties_by_hand():
    control = np.array([1, 0, 2, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1])
    treatment = np.array([0, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 2])

    found = preference(np.tile(control, 2), np.tile(treatment, 2))

    assert (found.wins, found.losses, found.ties, found.clicks) == (14, 8, 2, 34)
    assert found.delta.value == pytest.approx((10 - 7) / 17)


@pytest.mark.parametrize(("wins", "losses"), [(7, 4), (40, 60), (5, 5), (0, 12), (0, 0)])
def test_the_sign_test_is_scipys(wins, losses):
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0

    assert sign_test(wins, losses) == pytest.approx(expected)


def test_a_side_that_gets_all_clicks_is_preferred():
    found = preference(np.zeros(40, np.int64), np.ones(40, np.int64))

    assert found.delta.value == 1.0
    assert 0.6 < found.delta.low < 1.0 == found.delta.high


@pytest.mark.parametrize(
    ("control", "treatment", "why"),
    [
        ([0] * 50, [0] * 50, "0.0 of 10"),
        ([1] * 5, [0] * 5, "5.0 of 10"),
        ([500, *[1] * 30], [400, *[1] * 30], "1.1 of 10"),
        ([1] * 20, [1] * 20, "tie"),
    ],
)
def test_too_little_is_said(control, treatment, why):
    with pytest.raises(NotEnoughData, match=why):
        preference(np.array(control), np.array(treatment))
