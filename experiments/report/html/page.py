"""The page: first what a product manager asks, then what an engineer asks of it."""

from experiments.report.document import Decided, Plan, Report, RuleReport
from experiments.report.figures import number
from experiments.report.html.effects import ctr_section, latency_section
from experiments.report.html.parts import (
    Tone,
    badge,
    folded,
    listed,
    paragraph,
    section,
    table,
    text,
)
from experiments.report.html.special import (
    bandit_section,
    interleaving_section,
    self_check_section,
    shadow_section,
)
from experiments.report.html.style import STYLE
from experiments.report.html.trust import health_section, lights, trust_section
from experiments.report.words import minute, percent
from experiments.rollout.wording import signed

_STATES: dict[str, Tone] = {
    "running": "good",
    "aa": "good",
    "promoted": "good",
    "rolled_back": "bad",
    "paused": "warn",
}
_ACTIONS: dict[str, Tone] = {
    "promote": "good",
    "advance": "good",
    "rollback": "bad",
    "hold": "warn",
}


def render_html(report: Report) -> str:
    """The whole page."""
    parts = [
        _summary(report),
        self_check_section(report.self_check),
        interleaving_section(report),
        bandit_section(report),
        ctr_section(report) if report.interleaving is None else "",
        latency_section(report) if report.interleaving is None else "",
        _plan_section(report.plan),
        trust_section(report),
        health_section(report),
        shadow_section(report),
        _decisions(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(report.key)}: report</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{text(report.key)}</h1>{_subtitle(report)}</header>"
        f"<main>{''.join(parts)}</main>"
        f"{_footer(report)}</body></html>\n"
    )


def _subtitle(report: Report) -> str:
    variants = ", ".join(f"{v.name} {percent(v.share_bp / 10_000)} %" for v in report.variants)
    return paragraph(
        f"Phase {report.phase} · objective {report.objective} · {variants} · as of "
        f"{minute(report.as_of)}",
        kind="quiet",
    )


def _summary(report: Report) -> str:
    named = "A/A" if report.state == "aa" else report.state.replace("_", " ")
    state = badge(named, _STATES.get(report.state, "quiet"))
    rule = _rule(report.rule) if report.state == "running" else ""
    return section(
        "Verdict",
        f'<div class="lights">{state}</div>',
        paragraph(report.verdict, kind="verdict"),
        lights(report),
        paragraph(report.told),
        rule,
        paragraph(report.plan.sentence),
        listed(report.notes),
    )


def _rule(rule: RuleReport | None) -> str:
    if rule is None:
        return ""
    acts = {
        "automatic": "The rule acts by itself",
        "dry_run": "Dry run: the rule only records",
        "asked": "Nobody acts on it: the rule is only asked here",
    }[rule.acts]
    light = badge(rule.action, _ACTIONS.get(rule.action, "quiet"))
    return f"<p>{light} {text(rule.reason[0].upper() + rule.reason[1:])}. {text(acts)}.</p>"


def _plan_section(plan: Plan) -> str:
    rows = [
        [
            need.variant,
            _percentage(need.detectable_once),
            _percentage(need.detectable_always),
            number(need.growth_once),
            number(need.growth_always),
            "–" if need.users_left is None else f"{need.users_left:,}",
            number(need.days_left),
        ]
        for need in plan.needs
    ]
    if not rows:
        return ""
    head = [
        "variant",
        "detectable now, only look",
        "detectable now, every look",
        "data needed, only look",
        "data needed, every look",
        "more units",
        "more days",
    ]
    return section(
        "Until when",
        paragraph(plan.sentence),
        folded(
            "The figures behind it",
            table(
                head,
                rows,
                caption=f"For {signed(plan.smallest)} in CTR, found 8 times in 10; "
                "data needed in times of those of now",
            ),
        ),
        lead="No difference shown is no proof that there is none, unless one of this size "
        "would have been found.",
    )


def _percentage(fraction: float | None) -> str:
    return "–" if fraction is None else f"{percent(fraction)} %"


def _decisions(report: Report) -> str:
    if report.decisions_missing is not None:
        return section("Decisions", paragraph(f"Not known: {report.decisions_missing}."))
    items = "".join(_decision(decision) for decision in report.decisions)
    return section("Decisions", f"<ol>{items}</ol>" if items else "", lead="The newest first.")


def _decision(made: Decided) -> str:
    action = f"{made.action} (dry run)" if made.dry_run else made.action
    traffic = (
        "" if made.traffic_bp is None else f", {percent(made.traffic_bp / 10_000)} % of the traffic"
    )
    stands = "" if made.state is None else f": {made.state.replace('_', ' ')}, phase {made.phase}"
    why = f" {made.reason}" if made.reason else ""
    figures = folded("The figures of that moment", listed(made.figures)) if made.figures else ""
    return (
        f"<li><strong>{text(action)}</strong> by {text(made.by)}, {text(minute(made.at))}"
        f"{text(stands + traffic)}.{text(why)}{figures}</li>"
    )


def _footer(report: Report) -> str:
    return (
        "<footer>"
        + paragraph(
            f"Intervals cover {100 * report.confidence:.0f} %. Those that hold at every look are "
            "wider, and the only ones to read more than once. Latencies are within 1 %.",
            kind="quiet",
        )
        + "</footer>"
    )
