"""One policy on one log: whether the log can tell, and what every estimator says."""

from collections.abc import Callable
from typing import Literal

from msgspec import Struct

from experiments.replay import estimators
from experiments.replay.log import Floats, Log
from experiments.replay.policy import Policy
from experiments.replay.support import (
    MINIMUM_EFFECTIVE_ROWS,
    ReplayRefused,
    Support,
    check_support,
)
from experiments.stats import Interval, NotEnoughData

Estimator = Literal["logged", "SNIPS", "DR", "IPS", "replay"]


class PolicyValue(Struct, frozen=True, kw_only=True):
    """Expected reward per row, by one estimator."""

    estimator: Estimator
    interval: Interval | None
    """None if the estimator has no answer."""
    missing: str | None = None
    """Why not."""


class Replay(Struct, frozen=True, kw_only=True):
    """What a log says about another policy."""

    rows: int
    clusters: int
    reward: float
    """Sum of all rewards in the log."""
    confidence: float
    support: Support
    logged: PolicyValue
    """What the log's own policy earned."""
    values: tuple[PolicyValue, ...]
    """Of the policy in question; the first is the one to trust first."""


def evaluate(
    log: Log,
    policy: Policy | None = None,
    *,
    confidence: float = 0.95,
    minimum_effective_rows: float = MINIMUM_EFFECTIVE_ROWS,
    folds: int = 5,
) -> Replay:
    """What the policy would have earned per row.

    Args:
        log: What was shown.
        policy: The policy in question; None takes the log's ``target_propensity``,
            which is enough for IPS and SNIPS.
        confidence: Two-sided coverage of the intervals, in ``(0, 1)``.
        minimum_effective_rows: Below it there is no answer.
        folds: Parts of the clusters for the doubly robust estimate.

    Raises:
        ReplayRefused: the log cannot tell, or nothing says what the policy does.
    """
    weights = _weights(log, policy)
    found = check_support(log, weights, policy, minimum_effective_rows=minimum_effective_rows)
    snips = _value("SNIPS", lambda: estimators.snips(log, weights, confidence=confidence))
    ips = _value("IPS", lambda: estimators.ips(log, weights, confidence=confidence))
    return Replay(
        rows=len(weights),
        clusters=log.clusters,
        reward=float(log.reward.sum()),
        confidence=confidence,
        support=found,
        logged=_value("logged", lambda: estimators.logged(log, confidence=confidence)),
        values=(snips, *_of_policy(log, weights, policy, confidence, folds), ips),
    )


def _of_policy(
    log: Log, weights: Floats, policy: Policy | None, confidence: float, folds: int
) -> tuple[PolicyValue, ...]:
    """The estimators that need to know all of the policy."""
    if policy is None:
        why = "the log knows the policy's choice of logged actions only"
        return (PolicyValue(estimator="DR", interval=None, missing=why),)
    robust = _value(
        "DR",
        lambda: estimators.doubly_robust(log, weights, policy, confidence=confidence, folds=folds),
    )
    replay = _value(
        "replay", lambda: estimators.replayed(log, weights, policy, confidence=confidence)
    )
    return robust, replay


def _weights(log: Log, policy: Policy | None) -> Floats:
    if policy is not None:
        return policy.of_rows(log) / log.propensity
    if log.target is None:
        raise ReplayRefused("give a policy, or a log with the column target_propensity")
    return log.target / log.propensity


def _value(estimator: Estimator, estimate: Callable[[], Interval]) -> PolicyValue:
    try:
        return PolicyValue(estimator=estimator, interval=estimate())
    except NotEnoughData as missing:
        return PolicyValue(estimator=estimator, interval=None, missing=str(missing))
