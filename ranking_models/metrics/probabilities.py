"""How much a score says as a probability."""

import numpy as np

from ranking_models.metrics.inputs import Float64, Scores, finite


def log_loss(scores: Scores, labels: Scores) -> float:
    """Mean of ``-log P(label)``, natural logarithm; 0 is perfect, lower is better.

    Scores are kept one float64 epsilon away from 0 and 1, so that one certain
    mistake costs 36 instead of infinity.
    """
    return float(np.mean(log_losses(scores, labels)))


def log_losses(scores: Scores, labels: Scores) -> Float64:
    """``-log P(label)`` of each row, whose mean is `log_loss`."""
    epsilon = np.finfo(np.float64).eps
    p = np.clip(finite(scores), epsilon, 1 - epsilon)
    clicked = np.asarray(labels, np.float64) > 0
    return -np.where(clicked, np.log(p), np.log1p(-p))
