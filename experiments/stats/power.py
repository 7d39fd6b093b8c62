"""How many users a change of the CTR needs, and which change a number of users can show.

"No difference" from a small experiment is no proof that there is none. So every plan
says what it could find, and every report says what it could have found.

A change is relative to the control (0.02 is 2 % more). ``users`` are the control's; the
treatment has ``ratio`` times as many. A user brings ``impressions`` on average, and the
``design_effect`` says how alike these are: the variance of the CTR over that of
independent impressions. It is 1 for one impression per user and larger the more users
differ in taste and activity; `design_effect` measures it.

``tuning=None`` plans an experiment that is read once. With a tuning it is read as often
as one likes (`experiments.stats.sequential`): finding the change at the last look then
takes 2 to 3 times the users, and it may be found at any look before.

Source:
    Fleiss, Levin, Paik (2003), "Statistical Methods for Rates and Proportions", 3rd ed.,
    chapter 4 (here with unpooled variances and without continuity correction). Kish (1965),
    "Survey Sampling" (design effect).
"""

from collections.abc import Callable
from math import ceil, exp, inf, log, log1p, sqrt

from scipy import special

from experiments.stats import Estimate
from experiments.stats.ratio import RatioSample, log_ratio
from experiments.stats.sequential import effective_size, reach


def users_needed(
    ctr: float,
    change: float,
    *,
    power: float = 0.8,
    confidence: float = 0.95,
    ratio: float = 1.0,
    impressions: float = 1.0,
    design_effect: float = 1.0,
    tuning: float | None = None,
) -> int:
    """The users of the control that find a change with probability ``power``, two-sided.

    Args:
        ctr: Of the control, in ``(0, 1)``.
        change: Relative and not 0; the treatment's CTR stays in ``(0, 1)``.
        power: In ``(0.5, 1)``.
        confidence: Of the interval that is to exclude 0.
        ratio: Users of the treatment per user of the control.
        impressions: Per user.
        design_effect: Variance over that of independent impressions.
        tuning: None if read once, else the tuning of the confidence sequence.
    """
    each = design_effect / impressions
    return ceil(_users(ctr, change, power, confidence, ratio, each, tuning))


def detectable_change(
    ctr: float,
    users: float,
    *,
    power: float = 0.8,
    confidence: float = 0.95,
    ratio: float = 1.0,
    impressions: float = 1.0,
    design_effect: float = 1.0,
    tuning: float | None = None,
) -> float:
    """The smallest relative increase that this many users find: `users_needed` turned around.

    Infinite if not even a treatment on which everybody clicks would be found.
    """
    each = design_effect / impressions

    def missing(logarithm: float) -> float:
        # On the logarithm, because changes range from a millionth to a thousandfold.
        return users - _users(ctr, exp(logarithm), power, confidence, ratio, each, tuning)

    largest = log((1 - ctr) / ctr * (1 - 1e-9))
    if missing(largest) < 0:
        return inf
    return exp(_zero(missing, log(1e-9), largest))


def power_of(
    ctr: float,
    change: float,
    users: float,
    *,
    confidence: float = 0.95,
    ratio: float = 1.0,
    impressions: float = 1.0,
    design_effect: float = 1.0,
    tuning: float | None = None,
) -> float:
    """How often this many users find the change; for no change how often they are fooled."""
    other = _treatment_ctr(ctr, change)
    each = design_effect / impressions / users
    if tuning is None:
        error = sqrt(each * (ctr * (1 - ctr) + other * (1 - other) / ratio))
        far, distance = float(special.ndtri((1 + confidence) / 2)), (other - ctr) / error
    else:
        error = sqrt(each * ((1 - ctr) / ctr + (1 - other) / other / ratio))
        far, distance = _reach(error, confidence, tuning), log1p(change) / error
    return float(special.ndtr(distance - far) + special.ndtr(-distance - far))


def growth_needed(
    change: Estimate,
    smallest: float,
    *,
    power: float = 0.8,
    confidence: float = 0.95,
    tuning: float | None = None,
) -> float:
    """How many times the data of now are needed to find a relative change, if more are alike.

    1 or less: this many are there. It says until when a young experiment has to wait.

    Args:
        change: Logarithm of treatment over control, as it stands.
        smallest: The relative change worth finding, not 0.
    """
    if tuning is None:
        needed = abs(log1p(smallest)) / _both(power, confidence)
    else:
        needed = _error_needed(smallest, power, confidence, tuning)
    return (change.error / needed) ** 2


def design_effect(sample: RatioSample) -> float:
    """The variance of a CTR over the one that independent impressions would have.

    Raises:
        NotEnoughData: no clicks, too few clusters, or none that differs.
    """
    clicks = float(sample.numerator.sum())
    return log_ratio(sample).error ** 2 * clicks / (1 - sample.ratio)


def _users(
    ctr: float,
    change: float,
    power: float,
    confidence: float,
    ratio: float,
    each: float,
    tuning: float | None,
) -> float:
    """Users of the control, of whom each brings ``1 / each`` independent impressions."""
    other = _treatment_ctr(ctr, change)
    if tuning is None:
        spread = each * (ctr * (1 - ctr) + other * (1 - other) / ratio)
        return (_both(power, confidence) / (other - ctr)) ** 2 * spread
    spread = each * ((1 - ctr) / ctr + (1 - other) / other / ratio)
    return spread / _error_needed(change, power, confidence, tuning) ** 2


def _treatment_ctr(ctr: float, change: float) -> float:
    other = ctr * (1 + change)
    if not (0 < ctr < 1 and 0 < other < 1):
        raise ValueError(f"CTRs must be in (0, 1), got {ctr} and {other}")
    return other


def _both(power: float, confidence: float) -> float:
    """How many standard errors a change must be away from 0."""
    return float(special.ndtri((1 + confidence) / 2) + special.ndtri(power))


def _reach(error: float, confidence: float, tuning: float) -> float:
    now = Estimate(value=0.0, error=error, size=effective_size(error))
    return reach(now, confidence=confidence, tuning=tuning)


def _error_needed(change: float, power: float, confidence: float, tuning: float) -> float:
    """The standard error at which the sequence finds a change, on the logarithm."""
    distance, z = abs(log1p(change)), float(special.ndtri(power))

    def missing(logarithm: float) -> float:
        error = exp(logarithm)
        return (_reach(error, confidence, tuning) + z) * error - distance

    return exp(_zero(missing, log(distance) - 10, log(distance)))


def _zero(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that rises crosses 0: by halving, as scipy.optimize takes long to import."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
