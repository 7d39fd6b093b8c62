"""Sample ratio mismatch: the observed split is not the planned one.

A mismatch means that units were lost in one arm (crashes, timeouts, bots), and
those that are left are no random sample. About 6 % of experiments have one,
and no analysis of such an experiment can be trusted.

A split is read again and again, by people and by the rollout. Chi-square with a strict
limit is what everybody knows, and alarms early. Beside it stands a p-value that is valid
at every look: the Bayes factor of "some other shares" against "the planned shares".
Below 0.01 it is the surer alarm: it never gets there before chi-square gets to 0.001.

Source:
    Fabijan et al. (2019), "Diagnosing Sample Ratio Mismatch in Online
    Controlled Experiments", KDD.
    Lindon, Malek (2022), "Anytime-Valid Inference For Multinomial Count Data", NeurIPS;
    arXiv:2011.03567 (equations 4 to 6).
"""

from collections.abc import Sequence
from math import exp, log

from msgspec import Struct
from scipy import special

from experiments.stats import NotEnoughData

ALARM_P = 0.001
"""So strict because the test is read again and again."""

CONCENTRATION = 1_000.0
"""How near the plan the other shares are thought to be: for halves, one or two points."""

MINIMUM_EXPECTED = 5.0
"""Units that the plan must give each variant before chi-square is a fair approximation."""


class SplitCheck(Struct, frozen=True):
    """Whether the observed units fit the planned shares."""

    p_value: float
    expected: tuple[float, ...]
    """Units per variant if the split were exactly as planned."""
    always_valid_p: float
    """Holds at every look at once; `p_value` is for one."""

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
        return SplitCheck(0.0, expected, 0.0)
    least = min((plan for _, plan in pairs), default=0.0)
    if least < MINIMUM_EXPECTED:
        raise NotEnoughData(f"{total} units are too few to compare the split with the plan")
    if len(pairs) < 2:
        return SplitCheck(1.0, expected, 1.0)
    distance = sum((n - plan) ** 2 / plan for n, plan in pairs)
    return SplitCheck(
        float(special.chdtrc(len(pairs) - 1, distance)),
        expected,
        always_valid_split_p(units, shares),
    )


def always_valid_split_p(
    units: Sequence[int], shares: Sequence[float], *, concentration: float = CONCENTRATION
) -> float:
    """The p-value of the planned shares that may be read after every unit.

    It is 1 over the Bayes factor of shares from a Dirichlet distribution around the
    plan, so any number of units has one. Counts alone matter, not their order.

    Args:
        units: Distinct units seen per variant.
        shares: Planned shares in the same order, any scale; a variant with share 0
            must have no units.
        concentration: Of the Dirichlet distribution, over all variants; the larger, the
            smaller the deviations it looks for.
    """
    whole = sum(shares)
    planned = [(n, share / whole) for n, share in zip(units, shares, strict=True) if share > 0]
    if sum(n for n, _ in planned) < sum(units):
        return 0.0
    evidence = float(special.gammaln(concentration) - special.gammaln(concentration + sum(units)))
    for n, share in planned:
        prior = concentration * share
        evidence += float(special.gammaln(prior + n) - special.gammaln(prior)) - n * log(share)
    return exp(min(0.0, -evidence))
