"""Sample ratio mismatch: the observed split is not the planned one.

A mismatch means that units were lost in one arm (crashes, timeouts, bots), and
those that are left are no random sample. About 6 % of experiments have one,
and no analysis of such an experiment can be trusted.

Source:
    Fabijan et al. (2019), "Diagnosing Sample Ratio Mismatch in Online
    Controlled Experiments", KDD.
"""

from collections.abc import Sequence

from msgspec import Struct
from scipy import special

from experiments.stats import NotEnoughData

ALARM_P = 0.001
"""So strict because the test is read again and again."""

MINIMUM_EXPECTED = 5.0
"""Units that the plan must give each variant before chi-square is a fair approximation."""


class SplitCheck(Struct, frozen=True):
    """Whether the observed units fit the planned shares."""

    p_value: float
    expected: tuple[float, ...]
    """Units per variant if the split were exactly as planned."""

    @property
    def mismatch(self) -> bool:
        return self.p_value < ALARM_P


def check_split(units: Sequence[int], shares: Sequence[float]) -> SplitCheck:
    """Chi-square test of observed units against planned shares.

    Args:
        units: Distinct units seen per variant.
        shares: Planned shares in the same order, any scale; a variant with share 0
            must have no units.

    Raises:
        NotEnoughData: too few units for the test.
    """
    total, whole = sum(units), sum(shares)
    expected = tuple(total * share / whole for share in shares)
    pairs = [(n, plan) for n, plan in zip(units, expected, strict=True) if plan > 0]
    if sum(n for n, _ in pairs) < total:
        return SplitCheck(0.0, expected)
    least = min((plan for _, plan in pairs), default=0.0)
    if least < MINIMUM_EXPECTED:
        raise NotEnoughData(f"{total} units are too few to compare the split with the plan")
    if len(pairs) < 2:
        return SplitCheck(1.0, expected)
    distance = sum((n - plan) ** 2 / plan for n, plan in pairs)
    return SplitCheck(float(special.chdtrc(len(pairs) - 1, distance)), expected)
