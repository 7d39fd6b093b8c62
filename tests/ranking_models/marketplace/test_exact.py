"""Arithmetic that leaves a machine no choice is still right."""

import numpy as np
import pytest

from ranking_models.marketplace.exact import Draws, exp, sigmoid, zipf


def test_exp_agrees_with_the_library_to_two_units_in_the_last_place():
    x = np.linspace(-700.0, 700.0, 200_001)

    ulps = np.abs(exp(x) - np.exp(x)) / np.spacing(np.exp(x))

    assert ulps.max() <= 2.0
    assert exp(np.array([0.0]))[0] == 1.0


def test_sigmoid_is_symmetric_about_one_half():
    x = np.linspace(-30.0, 30.0, 1001)

    np.testing.assert_allclose(sigmoid(x) + sigmoid(-x), 1.0, rtol=1e-15)
    assert sigmoid(np.array([0.0]))[0] == 0.5


def test_a_stream_follows_from_its_key_alone():
    assert (Draws(1, 2).uniform(100) == Draws(1, 2).uniform(100)).all()
    assert not (Draws(1, 2).uniform(100) == Draws(2, 1).uniform(100)).any()


def test_the_generator_gives_the_numbers_that_every_release_of_it_gave():
    """Pinned: another stream would be another marketplace under the same seed."""
    assert Draws(1, 2).uniform(2).tolist() == [0.44841514333227195, 0.4308819875443376]


def test_normal_draws_have_mean_0_and_variance_1():
    drawn = Draws(5).normal(100_000)

    assert drawn.mean() == pytest.approx(0.0, abs=4 / 100_000**0.5)
    assert drawn.var() == pytest.approx(1.0, abs=4 * (2 / 100_000) ** 0.5)


def test_picks_are_as_likely_as_their_weights():
    weights = np.array([5.0, 0.0, 3.0, 2.0])

    counts = np.bincount(Draws(6).pick(weights, 100_000), minlength=4)

    assert counts[1] == 0
    np.testing.assert_allclose(counts / 100_000, weights / 10.0, atol=4 * (0.25 / 100_000) ** 0.5)


def test_whole_numbers_stay_below_their_end_and_reach_all_values():
    assert set(Draws(7).below(3, 1000).tolist()) == {0, 1, 2}


def test_a_permutation_holds_every_number_once():
    assert sorted(Draws(8).permutation(50).tolist()) == list(range(50))


def test_zipf_weights_fall_like_one_over_the_rank():
    assert zipf(np.array([1, 2, 10]), 0.0).tolist() == [1.0, 0.5, 0.1]
