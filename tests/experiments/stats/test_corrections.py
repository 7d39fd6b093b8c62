from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from experiments.stats.corrections import benjamini_hochberg, holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=20)

BENJAMINI_HOCHBERG_1995 = (
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
    0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
)  # fmt: skip
"""The fifteen p-values of section 4.1 of their paper."""


@pytest.mark.parametrize("count", [1, 2, 5, 50])
def test_both_are_those_of_statsmodels(count):
    rng = np.random.default_rng(count)
    p_values = np.round(rng.beta(0.3, 1, count), 2).tolist()  # rounded: some are equal

    assert holm(p_values) == pytest.approx(tuple(multipletests(p_values, method="holm")[1]))
    assert benjamini_hochberg(p_values) == pytest.approx(
        tuple(multipletests(p_values, method="fdr_bh")[1])
    )


def test_the_example_of_the_paper_rejects_what_the_paper_rejects():
    """Four of the fifteen at a false discovery rate of 5 %, three at a familywise 5 %."""
    assert sum(p <= 0.05 for p in benjamini_hochberg(BENJAMINI_HOCHBERG_1995)) == 4
    assert sum(p <= 0.05 for p in holm(BENJAMINI_HOCHBERG_1995)) == 3


def test_a_textbook_example_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.06, 0.06))
    assert benjamini_hochberg([0.01, 0.04, 0.03]) == pytest.approx((0.03, 0.04, 0.04))


@given(P_VALUES)
def test_adjusting_never_helps_and_the_false_discovery_rate_asks_less(p_values):
    for p, bh, familywise in zip(
        p_values, benjamini_hochberg(p_values), holm(p_values), strict=True
    ):
        assert p <= bh + 1e-15
        assert bh <= familywise + 1e-15
        assert familywise <= 1


def test_one_test_needs_no_correction_and_none_has_none():
    assert holm([0.03]) == benjamini_hochberg([0.03]) == (0.03,)
    assert holm([]) == benjamini_hochberg([]) == ()


@pytest.mark.parametrize("wrong", [-0.1, 1.1, nan])
@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_what_is_no_probability_is_refused(adjust, wrong):
    with pytest.raises(ValueError, match="p-values must be in"):
        adjust([0.5, wrong])
