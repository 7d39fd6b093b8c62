"""What was decided, by whom, with the figures of the moment; and how the experiment stands."""

from typing import Any

import msgspec

from experiments.bandit import Allocation
from experiments.decisions import DecisionRecord
from experiments.definition import WHOLE_BP
from experiments.report.document import Decided, RuleReport
from experiments.report.inputs import Case
from experiments.report.words import minute, percent, rfc3339, units
from experiments.rollout import Evidence, PhaseFigures, judge
from experiments.rollout.wording import spread

SHOWN = 50
"""Decisions in a report, the newest; `podium experiment decisions` has them all."""


def decided(case: Case) -> tuple[Decided, ...]:
    """The audit log, newest first."""
    return tuple(_entry(record) for record in case.beside.decisions[:SHOWN])


def rule_report(case: Case) -> RuleReport | None:
    """What the rule says of the figures now; None where the standing is not known."""
    definition, standing = case.beside.definition, case.beside.standing
    if definition is None or standing is None:
        return None
    unready = case.beside.unready
    figures = PhaseFigures(
        phase=case.experiment.phase,
        statistics=case.sums,
        backlog=case.backlog,
        unreadable=None if unready is None else f"nobody is assigned: {unready}",
    )
    judgement = judge(definition, standing, figures, case.as_of)
    rollout = definition.rollout
    acts = rollout is not None and rollout.automatic
    return RuleReport(
        action=judgement.action,
        ground=judgement.ground,
        reason=judgement.reason,
        variant=judgement.variant,
        acts="dry_run" if rollout and rollout.dry_run else "automatic" if acts else "asked",
        evidence=judgement.evidence,
    )


def told(case: Case) -> str:
    """The state in plain words: since when, by whom and why."""
    experiment, standing = case.experiment, case.beside.standing
    since = "" if standing is None else f" since {minute(rfc3339(standing.since))}"
    who = units(experiment.unit)
    traffic = f"{percent(experiment.traffic_bp / WHOLE_BP)} % of the eligible {who}"
    apart = "" if case.beside.unready is None else f" Nobody is assigned: {case.beside.unready}."
    own = "everybody is served by the surface's own deployment"
    words = {
        "draft": "A draft: nobody is assigned, and nothing is counted until it is started.",
        "running": f"Running{since} with {traffic}{_stage(case)}.",
        "aa": f"An A/A phase{since}: {traffic} are drawn and counted, and {own}.",
        "paused": f"Paused{since}{_because(case, 'pause')}: {own}, and the figures stand still.",
        "rolled_back": f"Rolled back{since}{_because(case, 'rollback')}: {own}.",
        "promoted": f"{experiment.promoted!r} has been promoted{since}{_because(case, 'promote')}: "
        "it serves every eligible unit, and nobody is counted any more.",
        "stopped": f"Stopped{since}{_because(case, 'stop')}: it assigns nobody.",
    }
    return words[experiment.state] + apart


def _stage(case: Case) -> str:
    standing, rollout = case.beside.standing, case.experiment.rollout
    if standing is None or standing.stage is None or rollout is None:
        return ""
    return f", stage {standing.stage + 1} of {len(rollout.stages_bp)}"


def _because(case: Case, action: str) -> str:
    record = next((r for r in case.beside.decisions if r.action == action and not r.dry_run), None)
    if record is None:
        return ""
    reason = " ".join(record.reason.split())
    return f" by {_author(record.by)}" + (f" ({reason})" if reason else "")


def _author(by: str) -> str:
    return {"rule": "the rule", "file": "an edit of its file", "loopback": "a local user"}.get(
        by, by
    )


def _entry(record: DecisionRecord) -> Decided:
    after = record.after
    return Decided(
        at=rfc3339(record.at),
        action=record.action,
        by=_author(record.by),
        reason=" ".join(record.reason.split()),
        dry_run=record.dry_run,
        phase=None if after is None else after.phase,
        state=None if after is None else after.state,
        traffic_bp=None if after is None else after.traffic_bp,
        figures=_figures(record.evidence),
    )


def _figures(evidence: dict[str, Any] | None) -> tuple[str, ...]:
    """A line for each variant; none where another version wrote figures of another kind."""
    if evidence is None:
        return ()
    try:
        return _judged(msgspec.convert(evidence, Evidence))
    except msgspec.ValidationError:
        pass
    try:
        return _allocated(msgspec.convert(evidence, Allocation))
    except msgspec.ValidationError:
        return ()


def _judged(evidence: Evidence) -> tuple[str, ...]:
    lines = []
    for arm in evidence.arms:
        said = f"{arm.variant}: {arm.users:,} units, {arm.clicks:,} of {arm.impressions:,} clicked"
        if arm.ctr is not None:
            said += f"; CTR {spread(arm.ctr)}"
        if arm.latency is not None:
            said += f"; computed latency {spread(arm.latency)}"
        lines.append(said)
    return tuple(lines)


def _allocated(allocation: Allocation) -> tuple[str, ...]:
    return tuple(
        f"{arm.variant}: share {percent(arm.before_bp / WHOLE_BP)} to "
        f"{percent(arm.share_bp / WHOLE_BP)} %, weighted CTR "
        + ("unknown" if arm.ctr is None else f"{percent(arm.ctr)} %")
        for arm in allocation.arms
    )
