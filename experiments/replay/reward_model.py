"""What an action earns in a position, for the doubly robust estimate.

The mean reward of the action in the position, drawn towards the position's mean
by ``PRIOR_ROWS`` rows of it: actions with few rows are near the position's mean,
those with many near their own. Simple on purpose: it takes variance out where
it is right, and where it is wrong the weighted residuals put the estimate back.
"""

import numpy as np

from experiments.replay.log import Codes, Floats, Log
from experiments.replay.policy import Policy
from experiments.stats import NotEnoughData

PRIOR_ROWS = 50.0


def predictions(log: Log, policy: Policy, *, folds: int) -> tuple[Floats, Floats]:
    """Expected rewards of each row by a model that was made without its cluster's fold.

    Returns:
        Under the policy's choices, and of the action that the log shows; shape ``[rows]`` each.

    Raises:
        NotEnoughData: there are fewer clusters than folds.
    """
    if log.clusters < max(2, folds):
        raise NotEnoughData(f"{log.clusters} clusters, fewer than {max(2, folds)}")
    positions, place = np.unique([position for _, position in log.slots], return_inverse=True)
    width = len(policy.names)
    shown = place[log.slot] * width + log.action
    chosen = place[policy.slot] * width + policy.action
    expected, of_shown = np.empty(len(shown)), np.empty(len(shown))
    fold = log.cluster % folds
    for number in range(folds):
        inside = fold == number
        model = _means(shown[~inside], log.reward[~inside], len(positions), width)
        by_slot = np.bincount(policy.slot, weights=policy.probability * model[chosen])
        expected[inside] = by_slot[log.slot[inside]]
        of_shown[inside] = model[shown[inside]]
    return expected, of_shown


def _means(cell: Codes, reward: Floats, positions: int, width: int) -> Floats:
    """Mean reward per cell (position and action), drawn towards that of the position."""
    size = positions * width
    count = np.bincount(cell, minlength=size).reshape(positions, width)
    total = np.bincount(cell, weights=reward, minlength=size).reshape(positions, width)
    mean = total.sum(axis=1, keepdims=True) / np.maximum(count.sum(axis=1, keepdims=True), 1)
    means: Floats = ((total + PRIOR_ROWS * mean) / (count + PRIOR_ROWS)).ravel()
    return means
