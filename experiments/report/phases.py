"""Whether units split as planned, in each phase, and whether they stayed where they were."""

from collections.abc import Mapping

from experiments.definition import INTERLEAVED
from experiments.report.document import Crossovers, PhaseKind, PhaseReport, Split
from experiments.report.inputs import CONFIDENCE, NOTHING, Case, Sums
from experiments.report.measures import DEFAULTS, measure
from experiments.report.values import Measure
from experiments.stats import NotEnoughData
from experiments.stats.crossover import check_crossovers
from experiments.stats.srm import check_split

NO_SPLIT = "every unit is in one arm and sees both variants in one slate: there is no split"


def split_of(shares_bp: Mapping[str, int], sums: Sums) -> Split:
    """Units against planned shares."""
    units = [sums.get(name, NOTHING).users for name in shares_bp]
    try:
        check = check_split(units, list(shares_bp.values()))
    except NotEnoughData as reason:
        return Split(verdict="unknown", missing=str(reason))
    return Split(
        verdict="mismatch" if check.mismatch else "ok",
        p_value=check.p_value,
        always_valid_p=check.always_valid_p,
    )


def phase_reports(case: Case) -> tuple[PhaseReport, ...]:
    """The present phase, the earlier ones of the same split, and the A/A phase before."""
    present = {variant.name: variant.share_bp for variant in case.experiment.variants}
    found = []
    for phase in case.same_split:
        now = phase == case.experiment.phase
        shares = present if now else case.beside.shares[phase]
        kind: PhaseKind = "present" if now else "earlier"
        found.append(_phase(case, phase, kind, shares, case.phase_sums(phase)))
    if case.before is not None:
        phase, sums = case.before
        found.append(_phase(case, phase, "before", present, sums))
    return tuple(found)


def crossovers_of(case: Case) -> Crossovers:
    """Units in more than one variant, against the limit of the rollout."""
    limit = (case.experiment.rollout or DEFAULTS).max_crossover_rate
    crossed = sum(own.crossovers for own in case.by_variant)
    # Who is in two variants is a user of both, so the sum counts each of them twice.
    units = max(crossed, sum(own.users for own in case.by_variant) - crossed)
    try:
        check = check_crossovers(crossed, units, limit=limit, confidence=CONFIDENCE)
    except NotEnoughData as reason:
        missing = Measure(missing=str(reason))
        return Crossovers(units=crossed, share=missing, limit=limit, verdict="unknown")
    return Crossovers(units=crossed, share=measure(check.share), limit=limit, verdict=check.verdict)


def spoiled_by(split: Split, crossovers: Crossovers) -> str | None:
    """Why figures of this phase cannot be trusted, however many there are; None if they can."""
    if split.verdict == "mismatch":
        return "the units do not split as planned"
    if crossovers.verdict == "exceeded":
        return "too many units were in more than one variant"
    return None


def _phase(
    case: Case, phase: int, kind: PhaseKind, shares: Mapping[str, int], sums: Sums
) -> PhaseReport:
    split = split_of(shares, sums)
    names = list(shares)
    if case.experiment.method == "interleave" and kind != "before":
        split, names = Split(verdict="unknown", missing=NO_SPLIT), [INTERLEAVED]
    return PhaseReport(
        phase=phase,
        kind=kind,
        shares_bp=dict(shares),
        users={name: sums.get(name, NOTHING).users for name in names},
        impressions={name: sums.get(name, NOTHING).impressions for name in names},
        split=split,
    )
