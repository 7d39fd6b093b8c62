"""Values of a policy from another policy's log.

Every row of the log is weighted with ``w = target / propensity``: how much more
often the policy in question would have made this choice. Sums over clusters
carry the variance, as rows of one user depend on each other.

* IPS, ``sum(w r) / rows``: unbiased, and moved by every large weight.
* SNIPS, ``sum(w r) / sum(w)``: never outside the rewards, far steadier, bias of
  order 1/rows (Swaminathan, Joachims (2015), "The Self-Normalized Estimator for
  Counterfactual Learning", NIPS).
* DR: the reward model's value plus the weighted residuals of the log: right if
  either the propensities or the model are (Dudik, Langford, Li (2011), "Doubly
  Robust Policy Evaluation and Learning", ICML; arXiv:1103.4601). The model is
  `reward_model`, each row judged by one that has not seen its cluster.
* replay: the mean of the rows that a deterministic policy would have chosen as
  well, for a log made uniformly at random (Li, Chu, Langford, Wang (2011), WSDM;
  arXiv:1003.5956).
"""

from math import sqrt

import numpy as np
from scipy import special

from experiments.replay.log import Floats, Log
from experiments.replay.policy import Policy
from experiments.replay.reward_model import predictions
from experiments.stats import Interval, NotEnoughData
from experiments.stats.ratio import RatioSample, ratio_interval

_UNIFORM = 1e-6
"""Relative difference of propensities that are the same."""


def ips(log: Log, weights: Floats, *, confidence: float) -> Interval:
    """Inverse propensity score.

    Raises:
        NotEnoughData: no reward, or too few clusters for an interval.
    """
    return _of_sums(log, weights * log.reward, np.ones(len(weights)), confidence)


def snips(log: Log, weights: Floats, *, confidence: float) -> Interval:
    """Self-normalised inverse propensity score.

    Raises:
        NotEnoughData: no reward, or too few clusters for an interval.
    """
    return _of_sums(log, weights * log.reward, weights, confidence)


def doubly_robust(
    log: Log, weights: Floats, policy: Policy, *, confidence: float, folds: int
) -> Interval:
    """Doubly robust; may leave the range of the rewards.

    Raises:
        NotEnoughData: fewer clusters than folds, or rewards that are all alike.
    """
    if np.ptp(log.reward) == 0:
        # Every residual is 0, and so would be the width of the interval.
        raise NotEnoughData("all rewards are the same so far")
    expected, logged = predictions(log, policy, folds=folds)
    values = expected + weights * (log.reward - logged)
    mean = float(values.mean())
    residuals = np.bincount(log.cluster, weights=values - mean)
    count = len(residuals)
    error = sqrt(count / (count - 1) * float(np.sum(residuals**2))) / len(values)
    reach = float(special.stdtrit(count - 1, (1 + confidence) / 2)) * error
    return Interval(mean, mean - reach, mean + reach)


def replayed(log: Log, weights: Floats, policy: Policy, *, confidence: float) -> Interval:
    """Mean reward where the log did what the policy does.

    Raises:
        NotEnoughData: the policy is not deterministic, the log not uniform, or
            what is left has no reward.
    """
    if not policy.deterministic:
        raise NotEnoughData("the policy is not deterministic")
    if np.ptp(log.propensity) > _UNIFORM * float(log.propensity.max()):
        raise NotEnoughData("the log was not made uniformly at random")
    matched = (weights > 0).astype(np.float64)
    return _of_sums(log, matched * log.reward, matched, confidence)


def logged(log: Log, *, confidence: float) -> Interval:
    """What the policy of the log itself earned per row.

    Raises:
        NotEnoughData: no reward, or too few clusters for an interval.
    """
    return _of_sums(log, log.reward, np.ones(len(log.reward)), confidence)


def _of_sums(log: Log, above: Floats, below: Floats, confidence: float) -> Interval:
    if not above.any():
        raise NotEnoughData("no rewards among the rows that count")
    if float(above.min()) < 0:
        raise NotEnoughData("negative rewards have no interval here; shift them above 0")
    sample = RatioSample(
        np.bincount(log.cluster, weights=above), np.bincount(log.cluster, weights=below)
    )
    return ratio_interval(sample, confidence=confidence)
