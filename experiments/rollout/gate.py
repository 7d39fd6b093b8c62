"""The rule that a rollout is judged by: figures in, one action with its reason out. Pure.

The first rule of `_RULES` that has something to say decides. Their order is the policy:

1.  What cannot be read is not judged (hold).
2.  A treatment whose requests fail, or come from fallbacks, more often than allowed goes
    back, whatever else is wrong: these rates need no sound split (rollback).
3.  What plain comparisons say nothing about is left to people (continue).
4.  Figures that are missing or spoiled decide nothing: no exposures, no clicks, a backlog,
    units in several variants, a sample ratio mismatch (hold).
5.  A treatment that is shown to be worse by more than a margin goes back (rollback).
6.  One that is shown to be worse at what it should improve, or slower for its users, gets
    no more traffic, though the margins hold: a person decides (hold).
7.  Before the stage has lasted its time and has its units, nothing more (continue).
8.  On every stage but the last: no harm is shown, so the next stage (advance). To ask for
    proof of no harm at 1 % of the traffic would be to wait there for years; each larger
    stage sees smaller harm, and reaches few who have not seen it before.
9.  On the last: promotion if the objective is reached, else more time (promote, continue).

**Looking as often as one likes.** Every bound holds at all looks of a phase at once, with the
rollout's confidence. Each stage is a phase of its own, judged on its own data: a variant is
promoted on the last stage only, so an equal one is promoted by mistake with a probability of
``(1 - confidence) / 2`` at most, however often and long one looks. The phases are not pooled:
at equal times the last stage has more units than all before together, and a phase that begins
anew forgets what the first hours of a stage did to users and caches.

**Several treatments** are each compared with the control. Holm's correction over their
p-values keeps the chance of any mistaken promotion at ``1 - confidence``. The best of those
that pass is promoted; one that does harm ends the experiment for all.
"""

from collections.abc import Callable

from msgspec import Struct

from experiments.definition import WHOLE_BP, Experiment
from experiments.rollout.evidence import gather, slower_end_to_end, uneasy
from experiments.rollout.values import (
    Action,
    ArmEvidence,
    Bound,
    Evidence,
    Ground,
    Judgement,
    PhaseFigures,
)
from experiments.rollout.wording import duration, percent, spread, units_of
from experiments.standing import Standing


class _Case(Struct, frozen=True):
    """What is judged."""

    definition: Experiment
    standing: Standing
    figures: PhaseFigures
    evidence: Evidence

    @property
    def control(self) -> ArmEvidence:
        return self.evidence.arms[0]

    @property
    def treatments(self) -> tuple[ArmEvidence, ...]:
        """Those that have a share of the traffic."""
        return tuple(arm for arm in self.evidence.arms[1:] if arm.share_bp)

    @property
    def last_stage(self) -> bool:
        stage, stages = self.evidence.stage, self.evidence.stages
        return not stages or (stage is not None and stage >= stages - 1)


class _Finding(Struct, frozen=True):
    """What a rule has to say."""

    action: Action
    ground: Ground
    because: str
    variant: str | None = None


_SAID: dict[Action, str] = {
    "promote": "promoted",
    "advance": "advanced",
    "rollback": "rolled back",
    "hold": "held",
    "continue": "continued",
}


def judge(
    definition: Experiment, standing: Standing, figures: PhaseFigures, now: float
) -> Judgement:
    """What is to be done about an experiment now.

    Args:
        definition: As written; its rollout says how it is judged, else the defaults do.
        standing: What is in force of it.
        figures: The sums of the standing's phase.
        now: Unix seconds of the same clock that `Standing.since` is from.
    """
    evidence = gather(definition, standing, figures, now)
    case = _Case(definition, standing, figures, evidence)
    finding = next(found for rule in _RULES if (found := rule(case)) is not None)
    return Judgement(
        action=finding.action,
        ground=finding.ground,
        reason=f"{_SAID[finding.action]}: {finding.because}",
        evidence=evidence,
        variant=finding.variant,
    )


def _unreadable(case: _Case) -> _Finding | None:
    state, figures = case.standing.state, case.figures
    if state != "running":
        return _Finding("hold", "not_running", f"the experiment is {state.replace('_', ' ')}")
    if figures.unreadable is not None:
        return _Finding("hold", "unreadable", f"there are no figures: {figures.unreadable}")
    if figures.phase != case.standing.phase:
        return _Finding(
            "hold",
            "other_phase",
            f"the figures are of phase {figures.phase}, phase {case.standing.phase} is in force",
        )
    return None


def _failing(case: _Case) -> _Finding | None:
    for arm in case.treatments:
        if arm.error_rate.above:
            what = f"of the requests of {arm.variant!r} got no slate"
            return _Finding("rollback", "errors", _too_often(arm.error_rate, what))
        if arm.fallback_rate.above:
            what = f"of the slates of {arm.variant!r} came from a fallback"
            return _Finding("rollback", "fallbacks", _too_often(arm.fallback_rate, what))
    return None


def _too_often(rate: Bound, what: str) -> str:
    return (
        f"{percent(rate.value or 0.0)} {what}, at least {percent(rate.low or 0.0)} beyond chance, "
        f"where {percent(rate.limit or 0.0)} is allowed"
    )


def _not_by_plain_tests(case: _Case) -> _Finding | None:
    if case.definition.policy == "thompson":
        return _Finding(
            "continue",
            "thompson",
            "Thompson sampling moves the traffic by itself, and plain comparisons of its figures "
            "are biased; guardrails are watched, and a person promotes",
        )
    if case.definition.method == "interleave":
        return _Finding(
            "continue",
            "interleaved",
            "interleaving compares the rankers within each slate, so there are no variants to "
            "compare here; read its credit report, and a person promotes",
        )
    return None


def _nothing_to_compare(case: _Case) -> _Finding | None:
    arms = (case.control, *case.treatments)
    empty = next((arm for arm in arms if not arm.exposures), None)
    if empty is not None:
        return _Finding("hold", "no_exposures", f"{empty.variant!r} has no exposures yet")
    counted = sum(arm.exposures + arm.impressions + arm.clicks for arm in arms)
    if case.evidence.backlog > counted:
        return _Finding(
            "hold",
            "backlog",
            f"{case.evidence.backlog:,} events wait to be added up, more than the "
            f"{counted:,} that the figures hold",
        )
    return None


def _spoiled(case: _Case) -> _Finding | None:
    crossed, evidence = case.evidence.crossover_rate, case.evidence
    if crossed.value is not None and crossed.value > (crossed.limit or 0.0):
        return _Finding(
            "hold",
            "crossovers",
            f"{percent(crossed.value)} of the units were seen in more than one variant, where "
            f"{percent(crossed.limit or 0.0)} is allowed: the comparison is spoiled",
        )
    if evidence.split_p is None:
        return _Finding("hold", "split_unknown", evidence.split_missing or "the split is not known")
    if evidence.split_p < evidence.split_limit:
        planned = ":".join(f"{arm.share_bp / 100:g}" for arm in evidence.arms)
        return _Finding(
            "hold",
            "split",
            f"the units split {units_of(evidence.arms)} where {planned} % was planned, so one "
            "variant loses or gains units before they are counted, and no comparison holds",
        )
    return None


def _no_bound(case: _Case) -> _Finding | None:
    for arm in case.treatments:
        compared: tuple[tuple[Ground, str, Bound | None], ...] = (
            ("ctr_unknown", "the CTR", arm.ctr),
            ("latency_unknown", "the latency of computed slates", arm.latency),
            ("latency_unknown", "the latency", arm.latency_end_to_end),
        )
        for ground, what, bound in compared:
            if bound is None or bound.low is None or bound.high is None:
                why = bound.missing if bound else "no figures"
                return _Finding(
                    "hold", ground, f"{what} of {arm.variant!r} cannot be compared yet: {why}"
                )
    return None


def _worse(case: _Case) -> _Finding | None:
    for arm in case.treatments:
        ctr, latency = arm.ctr, arm.latency
        if ctr is not None and ctr.below:
            return _Finding(
                "rollback",
                "ctr_worse",
                f"{arm.variant!r} has a lower CTR than {case.control.variant!r}, {spread(ctr)}, "
                f"where a loss of {percent(-(ctr.limit or 0.0))} is allowed",
            )
        if latency is not None and latency.above:
            return _Finding(
                "rollback",
                "latency_worse",
                f"{arm.variant!r} computes slower than {case.control.variant!r}, "
                f"{spread(latency)}, where {percent(latency.limit or 0.0)} is allowed",
            )
    return None


def _to_be_decided(case: _Case) -> _Finding | None:
    for arm in case.treatments:
        if _objective_worse(case.evidence, arm):
            metric = "CTR" if case.evidence.objective == "ctr" else "latency"
            return _Finding(
                "hold",
                "objective_worse",
                f"{arm.variant!r} should improve the {metric} and is shown to worsen it, "
                f"{spread(_objective(case.evidence, arm))}, though within the margin",
            )
        if slower_end_to_end(arm):
            bound = arm.latency_end_to_end or Bound()
            return _Finding(
                "hold",
                "end_to_end",
                f"users of {arm.variant!r} wait longer, {spread(bound)}, though its slates are "
                f"computed fast enough; its cache knew {_known(arm)} of the candidates, the "
                f"control's {_known(case.control)}",
            )
    return None


def _objective(evidence: Evidence, arm: ArmEvidence) -> Bound:
    return (arm.ctr if evidence.objective == "ctr" else arm.latency) or Bound()


def _objective_worse(evidence: Evidence, arm: ArmEvidence) -> bool:
    bound = _objective(evidence, arm)
    if evidence.objective == "ctr":
        return bound.high is not None and bound.high < 0
    return bound.low is not None and bound.low > 0


def _known(arm: ArmEvidence) -> str:
    return "none" if arm.hit_rate is None else percent(arm.hit_rate)


def _too_early(case: _Case) -> _Finding | None:
    evidence = case.evidence
    arms = (case.control, *case.treatments)
    fewest = min(arms, key=lambda arm: arm.users)
    missing = []
    if evidence.seconds < evidence.minimum_stage_s:
        missing.append(
            f"the stage has lasted {duration(evidence.seconds)} of "
            f"{duration(evidence.minimum_stage_s)}"
        )
    if fewest.users < evidence.minimum_users:
        missing.append(
            f"{fewest.variant!r} has {fewest.users:,} of {evidence.minimum_users:,} units"
        )
    if missing:
        return _Finding("continue", "too_early", " and ".join(missing))
    return None


def _uneasy(case: _Case) -> _Finding | None:
    arm = next((arm for arm in case.treatments if uneasy(arm)), None)
    if arm is None:
        return None
    return _Finding(
        "continue",
        "guardrail",
        f"{percent(arm.error_rate.value or 0.0)} of the requests of {arm.variant!r} got no slate "
        f"and {percent(arm.fallback_rate.value or 0.0)} of its slates came from a fallback, "
        f"where {percent(arm.error_rate.limit or 0.0)} and "
        f"{percent(arm.fallback_rate.limit or 0.0)} are allowed; more data must tell",
    )


def _step_up(case: _Case) -> _Finding | None:
    if case.last_stage:
        return None
    arms = ", ".join(repr(arm.variant) for arm in case.treatments)
    return _Finding(
        "advance",
        "no_harm",
        f"no harm by {arms} is shown at {percent(case.evidence.traffic_bp / WHOLE_BP)} of the "
        f"traffic, after {duration(case.evidence.seconds)} and with "
        f"{units_of(case.evidence.arms)} units",
    )


def _promotion(case: _Case) -> _Finding:
    evidence = case.evidence
    metric = "CTR" if evidence.objective == "ctr" else "latency"
    passing = [arm for arm in case.treatments if arm.passes]
    if passing:
        best = max(passing, key=lambda arm: _gain(evidence, arm))
        other = best.latency if evidence.objective == "ctr" else best.ctr
        other_metric = "latency" if evidence.objective == "ctr" else "CTR"
        return _Finding(
            "promote",
            "objective",
            f"{best.variant!r} has a better {metric} than {case.control.variant!r}, "
            f"{spread(_objective(evidence, best))}, and its {other_metric} is not worse by more "
            f"than the margin, {spread(other or Bound())}",
            best.variant,
        )
    more = f" by more than {percent(-evidence.target)}" if evidence.target else ""
    shown = ", ".join(
        f"{arm.variant!r} {spread(_objective(evidence, arm))} in {metric} and "
        f"{spread((arm.latency if evidence.objective == 'ctr' else arm.ctr) or Bound())} in "
        f"{'latency' if evidence.objective == 'ctr' else 'CTR'}"
        for arm in case.treatments
    )
    return _Finding(
        "continue",
        "objective",
        f"a better {metric}{more}, with the other not worse by more than its margin, is not shown "
        f"yet: {shown}",
    )


def _gain(evidence: Evidence, arm: ArmEvidence) -> float:
    value = _objective(evidence, arm).value or 0.0
    return value if evidence.objective == "ctr" else -value


_RULES: tuple[Callable[[_Case], _Finding | None], ...] = (
    _unreadable,
    _failing,
    _not_by_plain_tests,
    _nothing_to_compare,
    _spoiled,
    _no_bound,
    _worse,
    _to_be_decided,
    _too_early,
    _uneasy,
    _step_up,
    _promotion,
)
