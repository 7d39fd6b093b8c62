"""Which change the data of now could show, and what a smaller one still needs."""

from math import ceil, isfinite

from experiments.report.document import Need, Plan
from experiments.report.inputs import Case
from experiments.report.measures import DEFAULTS
from experiments.report.until import COUNTED, DAY_S, until_when
from experiments.report.values import Difference
from experiments.stats import NotEnoughData
from experiments.stats.power import growth_needed
from experiments.stats.ratio import log_change
from experiments.stats.sequential import TUNING

_LONGEST_DAYS = 36_500.0


def plan_of(
    case: Case,
    differences: tuple[Difference | None, ...],
    *,
    refused: str | None,
    spoiled: str | None,
) -> Plan:
    """What each treatment needs to show the change that is looked for.

    Args:
        case: The sums.
        differences: Of each variant, None for the control.
        refused: Why variants are not compared by their sums; None if they are.
        spoiled: Why more data of this kind show nothing; None if they do.
    """
    smallest = (case.experiment.rollout or DEFAULTS).ctr_margin or DEFAULTS.ctr_margin
    seconds = counted_seconds(case)
    users = sum(own.users for own in case.by_variant)
    needs: tuple[Need, ...] = ()
    if refused is None:
        pairs = zip(case.experiment.variants, differences, strict=True)
        needs = tuple(_need(case, v.name, d, smallest, seconds) for v, d in pairs if d is not None)
    return Plan(
        smallest=smallest,
        seconds=seconds,
        users_per_day=users / seconds * DAY_S if seconds and users else None,
        needs=needs,
        sentence=until_when(
            case,
            smallest=smallest,
            seconds=seconds,
            needs=needs,
            refused=refused,
            spoiled=spoiled,
        ),
    )


def counted_seconds(case: Case) -> float | None:
    """How long units were counted in this phase, without its pauses; None where nobody knows."""
    standing, phase = case.beside.standing, case.experiment.phase
    if standing is None:
        return None
    total, began = 0.0, None
    for record in reversed(case.beside.decisions):
        if began is not None:
            total, began = total + max(0.0, record.at - began), None
        after = record.after
        if after is not None and after.phase == phase and after.state in COUNTED:
            began = record.at
    if began is not None:
        total += max(0.0, case.as_of - began)
    if standing.state in COUNTED:
        # The log that was read may begin after the phase did.
        total = max(total, case.as_of - standing.since)
    return total or None


def _need(
    case: Case, name: str, difference: Difference, smallest: float, seconds: float | None
) -> Need:
    control, treatment = case.by_variant[0], case.of(name)
    try:
        change = log_change(control.ctr_sample, treatment.ctr_sample)
        once = growth_needed(change, smallest)
        always = growth_needed(change, smallest, tuning=TUNING)
    except NotEnoughData as reason:
        return Need(variant=name, missing=str(reason))
    users = sum(own.users for own in case.by_variant)
    more = max(0.0, always - 1)
    days = None if seconds is None else seconds / DAY_S * more
    return Need(
        variant=name,
        detectable_once=difference.ctr.detectable if difference.ctr else None,
        detectable_always=difference.ctr_always.detectable if difference.ctr_always else None,
        growth_once=once,
        growth_always=always,
        users_left=ceil(users * more) if isfinite(users * more) else None,
        days_left=days if days is not None and days < _LONGEST_DAYS else None,
    )
