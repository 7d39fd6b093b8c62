from math import hypot, log

import pytest

from experiments.stats import Estimate, NotEnoughData
from experiments.stats.effect import compare, compare_always, level
from experiments.stats.estimate import difference
from experiments.stats.sequential import effective_size, reach


def log_ctr(ctr: float, error: float) -> Estimate:
    return Estimate(value=log(ctr), error=error, size=effective_size(error) / 4)


def test_a_level_is_symmetric_on_the_logarithm():
    found = level(log_ctr(0.1, 0.2))

    assert found.value == pytest.approx(0.1)
    assert found.high / found.value == pytest.approx(found.value / found.low)
    assert found.high == pytest.approx(0.1 * 2.718281828459045 ** (1.959964 * 0.2), rel=1e-6)


def test_with_small_errors_the_absolute_interval_is_that_of_the_delta_method():
    control, treatment = log_ctr(0.10, 0.002), log_ctr(0.11, 0.004)
    error = hypot(0.10 * 0.002, 0.11 * 0.004)

    once, always = compare(control, treatment), compare_always(control, treatment)

    assert once.absolute.high - once.absolute.value == pytest.approx(1.96 * error, rel=0.01)
    far = reach(difference(control, treatment))
    assert always.absolute.value - always.absolute.low == pytest.approx(far * error, rel=0.02)


def test_few_clicks_keep_their_skew():
    found = compare(log_ctr(0.01, 0.3), log_ctr(0.01, 0.3))

    assert found.absolute.high == pytest.approx(-found.absolute.low)
    lopsided = compare(log_ctr(0.01, 0.05), log_ctr(0.01, 0.4)).absolute
    assert lopsided.high > 1.5 * -lopsided.low
    assert lopsided.low > -0.01  # a CTR below 0 would be needed for more


def test_a_change_that_could_be_anything_is_not_enough_data():
    wild = Estimate(value=0.0, error=30.0, size=5)

    with pytest.raises(NotEnoughData, match="billionfold"):
        compare(wild, wild)
