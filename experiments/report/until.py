"""Until when, in a sentence: what a young experiment lacks, and how long it takes."""

from math import ceil
from typing import get_args

from experiments.definition import WHOLE_BP, State
from experiments.report.document import Need
from experiments.report.inputs import Case
from experiments.report.words import minute, percent, rfc3339, units
from experiments.rollout.wording import signed
from experiments.standing import Counted
from experiments.stats.power import users_needed
from experiments.stats.sequential import TUNING

DAY_S = 86_400.0
COUNTED = frozenset(get_args(Counted))
"""States in which data come."""
_TYPICAL_CTR = 0.05
_SOON_S = 3_600.0
"""Younger phases do not know the traffic of a day."""


def until_when(
    case: Case,
    *,
    smallest: float,
    seconds: float | None,
    needs: tuple[Need, ...],
    refused: str | None,
    spoiled: str | None,
) -> str:
    """What is missing, and until when, in a sentence.

    Args:
        case: The sums.
        smallest: The relative change that is looked for.
        seconds: How long units were counted in this phase.
        needs: Of each treatment.
        refused: Why variants are not compared by their sums; None if they are.
        spoiled: Why more data of this kind show nothing; None if they do.
    """
    nothing = _nothing_to_wait_for(case.experiment.state, refused, spoiled)
    return nothing or _waiting(case, smallest, seconds, needs) + _minima(case)


def _nothing_to_wait_for(state: State, refused: str | None, spoiled: str | None) -> str | None:
    if refused is not None:
        return f"No sample size is planned: {refused}."
    if state not in COUNTED:
        return f"No more data come: the experiment is {state.replace('_', ' ')}."
    if state == "aa":
        return (
            "An A/A phase looks for no change; it is the pre-period of the comparison, "
            "and the longer it lasts the more noise CUPED can take away."
        )
    if spoiled is not None:
        return f"More data do not help: {spoiled}. Mend that, then begin a new phase."
    return None


def _waiting(case: Case, smallest: float, seconds: float | None, needs: tuple[Need, ...]) -> str:
    missing = next((need for need in needs if need.missing is not None), None)
    if missing is not None:
        return _too_early(case, missing, smallest, seconds)
    slowest = max(needs, key=lambda need: need.growth_always or 0.0)
    looked_for = f"a change of {signed(smallest)} in CTR"
    if (slowest.growth_always or 0.0) <= 1:
        return (
            f"There are enough data for {looked_for}: it would be found 8 times in 10, "
            "at whatever time one looks."
        )
    return f"{_time_left(case, slowest, seconds)} until {looked_for} is found 8 times in 10, " + (
        "whenever one looks"
        f" ({_if_read_once(slowest)}); now it takes {percent(slowest.detectable_always or 0.0)} %."
        if slowest.detectable_always is not None
        else f"whenever one looks ({_if_read_once(slowest)})."
    )


def _time_left(case: Case, need: Need, seconds: float | None) -> str:
    unit = units(case.experiment.unit)
    users = sum(own.users for own in case.by_variant)
    if seconds is None or not users or need.users_left is None:
        return f"About {need.growth_always:,.3g} times the data of now are needed"
    rate = users / seconds * DAY_S
    if need.days_left is None:
        return f"At {_count(rate)} {unit} a day it takes more than 100 years"
    if seconds < _SOON_S:
        return (
            f"About {_count(need.users_left)} more {unit}, or {_more(need.days_left)} if the "
            f"traffic stays as in its first {_count(seconds / 60)} minutes,"
        )
    return f"About {_more(need.days_left)} at {_count(rate)} {unit} a day"


def _more(days: float) -> str:
    for unit, length in (("days", 1.0), ("hours", 1 / 24)):
        if days > 2 * length:
            return f"{ceil(days / length):,} more {unit}"
    return f"{ceil(days * 24 * 60):,} more minutes"


def _if_read_once(need: Need) -> str:
    growth = need.growth_once or 0.0
    return (
        "enough if read only once"
        if growth <= 1
        else f"{growth:,.3g} times the data of now if read only once"
    )


def _too_early(case: Case, need: Need, smallest: float, seconds: float | None) -> str:
    """Where there is no variance yet: what is missing, and an estimate of the size needed."""
    sums = case.by_variant
    impressions, clicks = (sum(getattr(s, n) for s in sums) for n in ("impressions", "clicks"))
    users, who = sum(s.users for s in sums), units(case.experiment.unit)
    known = 0 < clicks < impressions and users > 0
    ctr = min(clicks / impressions, 0.5) if known else _TYPICAL_CTR
    each = impressions / users if known else 1.0
    shares = {variant.name: variant.share_bp for variant in case.experiment.variants}
    control, treatment = shares[case.experiment.control.name], shares[need.variant]
    ratio = treatment / control if control and treatment else 1.0
    needed = users_needed(ctr, smallest, ratio=ratio, impressions=each, tuning=TUNING)
    given = "the CTR so far" if known else f"a CTR of {percent(ctr)} %, such as shops often have"
    shown = f"{each:.3g} impressions" if each != 1 else "1 impression"
    days = ""
    if users and control and seconds is not None and seconds >= _SOON_S:
        rate = users / seconds * DAY_S
        left = needed * WHOLE_BP / control / rate
        days = f" ({_more(left)} at {_count(rate)} {who} a day)"
    return (
        f"Too early to say until when ({need.variant!r}: {need.missing}); at {given}, and {shown} "
        f"for each of the {who}, a change of {signed(smallest)} takes about "
        f"{_count(needed)} {who} of the control{days} to be found 8 times in 10."
    )


def _minima(case: Case) -> str:
    """What the rule waits for in any case; nothing where it is there."""
    rollout, standing = case.experiment.rollout, case.beside.standing
    if rollout is None or standing is None:
        return ""
    waits = []
    if case.as_of < standing.since + rollout.minimum_stage_s:
        waits.append(f"until {minute(rfc3339(standing.since + rollout.minimum_stage_s))}")
    fewest = min(own.users for own in case.by_variant)
    if fewest < rollout.minimum_users:
        who = units(case.experiment.unit)
        waits.append(f"for {rollout.minimum_users:,} {who} of each variant, {fewest:,} are there")
    return f" The rule waits {', and '.join(waits)}." if waits else ""


def _count(number: float) -> str:
    """Rounded to three digits, as what it stands for is not known any better."""
    rounded = float(f"{number:.3g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:.2g}"
