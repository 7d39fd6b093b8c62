"""What each method makes of a tensor's values."""

import numpy as np
import pytest

from ranking_models.quantisation.ranges import METHODS, Range

ROUGHLY_NORMAL = np.random.default_rng(0).normal(size=100_000).astype(np.float32)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_zero_is_inside_and_the_end_of_a_symmetric_range_is_its_start(
    method: str, symmetric: bool
) -> None:
    found = METHODS[method](np.abs(ROUGHLY_NORMAL) + 3, symmetric)

    assert found.low <= 0 < found.high
    if symmetric:
        assert found.low == -found.high
    else:
        assert found.low == 0


def test_min_max_cuts_nothing_off() -> None:
    found = METHODS["min/max"](np.array([-1.0, 0.5, 4.0], np.float32), False)

    assert found == Range(-1.0, 4.0)


@pytest.mark.parametrize(("method", "inside"), [("percentile 99.9", 0.999)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_percentile_holds_its_share_of_the_values(
    method: str, inside: float, symmetric: bool
) -> None:
    found = METHODS[method](ROUGHLY_NORMAL, symmetric)

    within = (found.low <= ROUGHLY_NORMAL) & (found.high >= ROUGHLY_NORMAL)
    assert within.mean() == pytest.approx(inside, abs=1e-4)


def test_least_squares_gives_up_a_lone_outlier_for_finer_steps() -> None:
    values = np.append(ROUGHLY_NORMAL, np.float32(12))

    found = METHODS["least squares"](values, True)

    assert 3 < found.high < 12


def test_a_tensor_of_zeros_has_an_empty_range() -> None:
    for method in METHODS.values():
        assert method(np.zeros(300, np.float32), False) == Range(0.0, 0.0)
