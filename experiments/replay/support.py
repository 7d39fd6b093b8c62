"""When a log can speak for another policy, and a plain refusal when it cannot.

A log says nothing about what it never shows, little about what it shows
rarely, and wrong things if its propensities are not the ones it was made with.
Each of the three would otherwise come out as a confident number.
"""

import numpy as np
from msgspec import Struct

from experiments.replay.log import Floats, Log
from experiments.replay.policy import Policy

MINIMUM_EFFECTIVE_ROWS = 100.0
MOST_UNSUPPORTED = 0.01
"""Share of the policy's choices that the log may have no example of."""
_MEAN_WEIGHT_ERRORS = 5.0
_MEAN_WEIGHT_REACH = 0.05


class ReplayRefused(ValueError):
    """The log cannot tell what this policy would have earned; the text says why."""


class Support(Struct, frozen=True, kw_only=True):
    """How much of the log speaks for the policy."""

    effective_rows: float
    """Rows of equal weight that would be worth as much (Kish)."""
    largest_weight: float
    """Share of the total weight that one row has."""
    mean_weight: float
    """Near 1 if the propensities are right and the policy stays within the log."""
    unsupported: float | None
    """Share of the policy's choices that the log never shows; None if only its choices of
    logged actions are known."""


def support(log: Log, weights: Floats, policy: Policy | None) -> Support:
    """Measure it.

    Raises:
        ReplayRefused: no row of the log is one that the policy would have chosen.
    """
    total = float(weights.sum())
    if total == 0:
        raise ReplayRefused("the log has no row that this policy would have chosen")
    return Support(
        effective_rows=total**2 / float(np.sum(weights**2)),
        largest_weight=float(weights.max()) / total,
        mean_weight=total / len(weights),
        unsupported=None if policy is None else _unsupported(log, policy)[0],
    )


def check_support(
    log: Log, weights: Floats, policy: Policy | None, *, minimum_effective_rows: float
) -> Support:
    """The support, if it is enough.

    Raises:
        ReplayRefused: the policy leaves the log, too few rows speak for it, or
            the weights do not average 1 as those of right propensities do.
    """
    found = support(log, weights, policy)
    if policy is not None and (found.unsupported or 0) > MOST_UNSUPPORTED:
        raise ReplayRefused(_unsupported(log, policy)[1])
    if found.effective_rows < minimum_effective_rows:
        raise ReplayRefused(
            f"the {len(weights)} rows of the log are worth {found.effective_rows:.0f} for this "
            f"policy, and {minimum_effective_rows:.0f} are needed; the policy is too far from the "
            "one that made the log, or the log is too short"
        )
    _check_mean(log, weights, found.mean_weight)
    return found


def _unsupported(log: Log, policy: Policy) -> tuple[float, str]:
    """Share of the choices without an example, and the worst of them in words."""
    width = len(policy.names)
    shown = np.unique(log.slot * width + log.action)
    unseen = ~np.isin(policy.slot * width + policy.action, shown)
    traffic = np.bincount(log.slot, minlength=len(log.slots)) / len(log.slot)
    mass = np.where(unseen, policy.probability * traffic[policy.slot], 0.0)
    share, worst = float(mass.sum()), int(mass.argmax())
    context, position = log.slots[policy.slot[worst]]
    place = f"position {position}" + (f" of the context {context!r}" if context else "")
    return share, (
        f"{100 * share:.1f} % of what this policy would show the log never shows "
        f"({int(unseen.sum())} choices, the largest {policy.names[policy.action[worst]]!r} in "
        f"{place}); a log says nothing about what it does not hold"
    )


def _check_mean(log: Log, weights: Floats, mean: float) -> None:
    residuals = np.bincount(log.cluster, weights=weights - mean)
    error = float(np.sqrt(np.sum(residuals**2))) / len(weights)
    if abs(mean - 1) > max(_MEAN_WEIGHT_REACH, _MEAN_WEIGHT_ERRORS * error):
        raise ReplayRefused(
            f"the weights average {mean:.3f} (standard error {error:.3f}) and must average 1: "
            "the propensities are not those that the log was made with, "
            "or the policy chooses what the log never shows"
        )
