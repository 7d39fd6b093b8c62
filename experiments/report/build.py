"""From sums to a report. Too little data gives a reason, never NaN and never an exception."""

from msgspec.structs import replace

from experiments.definition import Experiment
from experiments.report.differences import differences
from experiments.report.document import Report, Split
from experiments.report.history import decided, rule_report, told
from experiments.report.inputs import CONFIDENCE, Beside, Case, Sums
from experiments.report.methods import interleaved, self_checked, why_not_plain
from experiments.report.notes import notes_on
from experiments.report.phases import NO_SPLIT, crossovers_of, phase_reports, split_of, spoiled_by
from experiments.report.planning import plan_of
from experiments.report.sums import statistics_of
from experiments.report.variants import latency_of, variant_report
from experiments.report.verdict import verdict_on
from experiments.report.words import rfc3339

_ALONE = Beside()


def build_report(
    experiment: Experiment,
    statistics: Sums,
    *,
    as_of: float,
    backlog: int = 0,
    beside: Beside = _ALONE,
) -> Report:
    """Analyse the present phase, and what else is known beside it.

    An A/A phase takes longest, since our own tests are checked on its data.

    Args:
        experiment: The definition that the phase ran under.
        statistics: Variant name to sums; a variant without events may be absent.
        as_of: When the sums were read, in Unix seconds.
        backlog: Events, of all experiments, that the sums do not hold yet.
        beside: Standing, decisions, other phases, prices.
    """
    case = Case(experiment=experiment, sums=statistics, as_of=as_of, backlog=backlog, beside=beside)
    refused = why_not_plain(experiment)
    latencies = [latency_of(own) for own in case.by_variant]
    changes = differences(case, latencies, refused)
    parts = zip(experiment.variants, case.by_variant, latencies, changes, strict=True)
    variants = tuple(
        variant_report(variant, sums, case, latency=latency, difference=change)
        for variant, sums, latency, change in parts
    )
    split, crossovers = _split(experiment, statistics), crossovers_of(case)
    standing = beside.standing
    unnamed = Report(
        key=experiment.key,
        phase=experiment.phase,
        state=experiment.state,
        unit=experiment.unit,
        as_of=rfc3339(as_of),
        confidence=CONFIDENCE,
        verdict="",
        notes=(),
        split=split,
        variants=variants,
        told=told(case),
        promoted=experiment.promoted,
        objective=experiment.objective,
        policy=experiment.policy,
        method=experiment.method,
        traffic_bp=experiment.traffic_bp,
        since=None if standing is None else rfc3339(standing.since),
        rule=rule_report(case),
        plan=plan_of(case, changes, refused=refused, spoiled=spoiled_by(split, crossovers)),
        crossovers=crossovers,
        phases=phase_reports(case),
        plain_tests_refused=refused,
        interleaving=interleaved(case),
        self_check=self_checked(case),
        decisions=decided(case),
        decisions_missing=beside.decisions_missing,
        statistics=statistics_of(case) if beside.with_statistics else None,
    )
    return replace(unnamed, verdict=verdict_on(unnamed), notes=notes_on(unnamed, backlog=backlog))


def _split(experiment: Experiment, statistics: Sums) -> Split:
    if experiment.method == "interleave" and experiment.state != "aa":
        return Split(verdict="unknown", missing=NO_SPLIT)
    return split_of({v.name: v.share_bp for v in experiment.variants}, statistics)
