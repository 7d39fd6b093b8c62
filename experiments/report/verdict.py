"""What the figures allow to be said, in one sentence."""

from collections.abc import Sequence

from experiments.definition import State
from experiments.report.document import Report, RuleReport, Split
from experiments.report.values import CtrChange, Measure, VariantReport
from experiments.report.words import p_text, percent, span
from experiments.stats import Interval

_FIRST_RANGE = "only the first range may be read again and again, the second once"
_ENDED: dict[State, str] = {
    "rolled_back": "rolled back: ",
    "stopped": "stopped: ",
    "paused": "paused: ",
}
_WOULD: dict[str, str] = {
    "advance": "go to the next stage",
    "rollback": "roll back",
    "hold": "hold",
    "continue": "wait for more data",
}


def verdict_on(report: Report) -> str:
    """One honest sentence about a report that has everything but this and its notes."""
    said = _ENDED.get(report.state, "") + _said(report)
    if report.promoted is not None:
        said = f"{report.promoted!r} was promoted: {said}"
    return f"{said[0].upper()}{said[1:]}."


def _said(report: Report) -> str:
    if report.interleaving is not None:
        return _preferred(report)
    if not any(variant.exposures for variant in report.variants):
        return _nothing_yet(report)
    if report.split.verdict == "mismatch":
        return _mismatch(report.split, report.variants) + _would(report)
    if report.self_check is not None:
        return _of_ourselves(report)
    if report.plain_tests_refused is not None:
        return _weighted(report)
    control, *treatments = report.variants
    treatments.sort(key=_shown_first)
    alone = len(treatments) == 1
    said = "; ".join(_compared(control, treatment, alone=alone) for treatment in treatments)
    if any(t.difference and t.difference.ctr_always for t in treatments):
        said += f"; {_FIRST_RANGE}"
    return said + _would(report)


def _would(report: Report) -> str:
    """What the rule makes of it, where it judges."""
    rule = report.rule
    if rule is None or report.state != "running":
        return ""
    return f"; {_rule_words(rule)}"


def _rule_words(rule: RuleReport) -> str:
    what = f"promote {rule.variant!r}" if rule.action == "promote" else _WOULD[rule.action]
    if rule.acts == "automatic":
        return f"the rule will {what}" if rule.action != "continue" else f"the rule waits: {what}"
    return f"the rule would {what}"


def _nothing_yet(report: Report) -> str:
    if report.state in ("running", "aa"):
        return (
            f"no data yet: phase {report.phase} has no exposures, which begin with the first "
            f"ranking request of a {report.unit.replace('_', ' ')} that takes part"
        )
    state = report.state.replace("_", " ")
    return f"no data: phase {report.phase} is {state} and has no exposures"


def _mismatch(split: Split, variants: Sequence[VariantReport]) -> str:
    seen = ":".join(str(variant.users) for variant in variants)
    planned = ":".join(percent(variant.share_bp / 10_000) for variant in variants)
    p_value = split.p_value if split.p_value is not None else 0.0
    return (
        f"do not trust these figures: the units split {seen} where {planned} % was planned "
        f"({p_text(p_value)}), so one variant loses or gains units before they are counted"
    )


def _shown_first(treatment: VariantReport) -> bool:
    change = treatment.difference.ctr_always if treatment.difference else None
    return change is None or change.relative.low <= 0 <= change.relative.high


def _compared(control: VariantReport, treatment: VariantReport, *, alone: bool) -> str:
    names = f"{treatment.name!r} and {control.name!r}"
    difference = treatment.difference
    once = difference.ctr if difference else None
    always = difference.ctr_always if difference else None
    if once is None or always is None:
        return f"too early to compare {names}: {_missing(control, treatment)}"
    latency = _latency(difference.latency_computed.always) if difference else ""
    figures = f"{percent(once.relative.value, signed=True)} % ({_ranges(once, always)})"
    if always.relative.low > 0 or always.relative.high < 0:
        word = "higher" if once.relative.value > 0 else "lower"
        who = f"{treatment.name!r} has a {word} CTR than {control.name!r}"
        return f"{who}, {figures}, and {latency}"
    found = f", where an increase of {percent(always.detectable)} % would be found 8 times in 10"
    return (
        f"no difference in CTR between {names} is shown, {figures}{found if alone else ''}; "
        f"{treatment.name!r} {latency}"
    )


def _ranges(once: CtrChange, always: CtrChange) -> str:
    return (
        f"{span(always.relative)} whenever one looks; "
        f"{span(once.relative)} if this is the only look, {p_text(once.p_value)}"
    )


def _latency(change: Measure) -> str:
    """Of computed slates, which no cache makes fast."""
    known = change.interval
    if known is None:
        return f"cannot be compared in computed latency yet ({change.missing})"
    figures = f"{percent(known.value, signed=True)} % ({span(known)})"
    if known.low > 0:
        return f"computes slower, {figures}"
    if known.high < 0:
        return f"computes faster, {figures}"
    return f"shows no difference in computed latency, {figures}"


def _missing(control: VariantReport, treatment: VariantReport) -> str:
    reasons = [f"{v.name!r}: {v.ctr.missing}" for v in (control, treatment) if v.ctr.missing]
    if not reasons and treatment.difference is not None:
        reasons = [treatment.difference.ctr_always_missing or treatment.difference.missing or ""]
    return ", ".join(reasons)


# --- where plain comparisons are not the question ------------------------------------------


def _preferred(report: Report) -> str:
    found, (control, treatment) = report.interleaving, report.variants[:2]
    assert found is not None
    names = f"{treatment.name!r} and {control.name!r}"
    if found.preference is None:
        if not found.slates.exposures:
            return f"no data yet: no slate of {names} has been interleaved"
        return f"too early to say whose picks users prefer, of {names}: {found.missing}"
    delta, p_value = found.preference.delta, found.preference.p_value
    lead = delta  # of the treatment, or of the control where that wins
    if delta.high < 0:
        lead = Interval(-delta.value, -delta.high, -delta.low)
    figures = (
        f"{percent(lead.value, signed=True)} % of {found.preference.clicks:,} clicks net "
        f"({span(lead)}, {p_text(p_value)}), read once"
    )
    if delta.low <= 0 <= delta.high:
        return f"no preference between the picks of {names} is shown, {figures}"
    winner, loser = (treatment, control) if delta.value > 0 else (control, treatment)
    return f"users prefer the picks of {winner.name!r} to those of {loser.name!r}, {figures}"


def _of_ourselves(report: Report) -> str:
    checked = report.self_check
    assert checked is not None
    begin = "everybody is served the same, so any difference is a mistake of the test"
    if checked.check is None:
        return f"{begin}; how often ours are wrong is not known yet: {checked.missing}"
    own, fixed = checked.check.of("always-valid, peeking"), checked.check.of("fixed")
    return (
        f"{begin}: of {checked.check.deals} deals of these users into halves the always-valid "
        f"test, read {checked.check.looks} times, called {_rate(own.rate)} different and the "
        f"fixed one, read once, {_rate(fixed.rate)}, where "
        f"{percent(checked.check.alpha)} % are promised"
    )


def _rate(rate: Interval) -> str:
    return f"{percent(rate.value)} % ({percent(rate.low)} to {percent(rate.high)} %)"


def _weighted(report: Report) -> str:
    """Of a bandit: estimates that its own choices do not bias."""
    figures = ", ".join(
        f"{v.name!r} {percent(v.weighted_ctr.value or 0.0)} %{_around(v.weighted_ctr)}"
        for v in report.variants
        if v.weighted_ctr is not None
    )
    return (
        f"a bandit moves the traffic, so variants are not compared by plain tests; CTR weighted "
        f"by inverse propensity: {figures}"
    )


def _around(ctr: Measure) -> str:
    known = ctr.interval
    if known is None:
        return f" ({ctr.missing})"
    return f" ({percent(known.low)} to {percent(known.high)} %)"
