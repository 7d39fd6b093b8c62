"""Log loss is scikit-learn's, with a floor under a certain mistake."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss as sklearn_log_loss

from ranking_models import metrics


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=50), st.randoms(use_true_random=False))
def test_log_loss_is_scikit_learns(scores: list[float], random: Random) -> None:
    labels = [0, 1] + [random.randint(0, 1) for _ in scores[2:]]

    expected = sklearn_log_loss(labels, np.array(scores), labels=[0, 1])

    found = metrics.log_loss(np.array(scores), np.array(labels, float))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_certain_mistake_costs_much_but_not_everything() -> None:
    assert metrics.log_loss(np.array([1.0]), np.array([0.0])) == pytest.approx(36.04, abs=0.01)
    assert metrics.log_loss(np.array([1.0]), np.array([1.0])) == pytest.approx(0.0, abs=1e-12)
