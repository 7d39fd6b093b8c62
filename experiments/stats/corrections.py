"""Many tests at once: p-values adjusted so that each is compared with one and the same level.

Twenty metrics of two equal variants have a "significant" one two times in three.
Correct the metrics that could each be called a success. Guardrails and non-inferiority
tests that must *all* hold need no correction: requiring all of them is stricter already.

Source:
    Holm (1979), "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6.
    Benjamini, Hochberg (1995), "Controlling the false discovery rate", JRSS B 57.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values, in the order given: the chance of one false alarm or more.

    Rejecting all that are at most ``alpha`` keeps that chance at ``alpha``, however the
    tests depend on each other.

    Raises:
        ValueError: one is not in ``[0, 1]``.
    """
    p = _checked(p_values)
    factors = np.arange(len(p), 0, -1)
    rising = np.argsort(p, kind="stable")
    return _in_order(np.maximum.accumulate(p[rising] * factors), rising)


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values, in the order given: the expected share of false alarms among alarms.

    Rejecting all that are at most ``alpha`` keeps that share at ``alpha`` if the tests are
    independent or positively dependent.

    Raises:
        ValueError: one is not in ``[0, 1]``.
    """
    p = _checked(p_values)
    falling = np.argsort(-p, kind="stable")
    ranks = np.arange(len(p), 0, -1)
    return _in_order(np.minimum.accumulate(p[falling] * len(p) / ranks), falling)


def _checked(p_values: Sequence[float]) -> npt.NDArray[np.float64]:
    p = np.asarray(p_values, np.float64)
    if not bool(np.all((p >= 0) & (p <= 1))):  # NaN is neither
        raise ValueError(f"p-values must be in [0, 1], got {list(p_values)}")
    return p


def _in_order(adjusted: npt.NDArray[np.float64], order: npt.NDArray[np.intp]) -> tuple[float, ...]:
    """Back to the order of the caller, and never above 1."""
    result = np.empty_like(adjusted)
    result[order] = np.minimum(adjusted, 1.0)
    return tuple(result.tolist())
