"""Whether the figures can be trusted: split, crossovers, failures, caches; and what they cost."""

from experiments.report.document import Light, PhaseReport, Report
from experiments.report.figures import number, rate, rate_change
from experiments.report.html.chart import Bar, Lane, chart
from experiments.report.html.parts import Tone, badge, folded, paragraph, section, table
from experiments.report.values import VariantReport
from experiments.report.words import p_text, percent

SPLIT_LIGHTS: dict[Light, tuple[str, Tone]] = {
    "ok": ("split as planned", "good"),
    "mismatch": ("sample ratio mismatch", "bad"),
    "unknown": ("split not checked yet", "quiet"),
}
CROSSOVER_LIGHTS: dict[str, tuple[str, Tone]] = {
    "ok": ("units stayed in their variant", "good"),
    "exceeded": ("units changed variants", "bad"),
    "unclear": ("a few units changed variants", "warn"),
    "unknown": ("crossovers not checked yet", "quiet"),
}


def trust_section(report: Report) -> str:
    if report.interleaving is not None:
        return ""
    crossed = report.crossovers
    said = (
        f"{crossed.units:,} units were in more than one variant: {rate(crossed.share)} of all, "
        f"where {percent(crossed.limit)} % are allowed."
        if crossed.verdict != "unknown"
        else f"Units in more than one variant: {crossed.share.missing}."
    )
    return section(
        "Can this be trusted?",
        lights(report),
        paragraph(said),
        table(
            ["phase", "planned", "units", "split", "p", "p at every look"],
            [_phase(phase) for phase in report.phases],
            caption="Split of the units, phase by phase (alarm at p < 0.001)",
        ),
    )


def lights(report: Report) -> str:
    if report.interleaving is not None:
        return '<div class="lights">' + badge("interleaved: no split to check", "quiet") + "</div>"
    split = badge(*SPLIT_LIGHTS[report.split.verdict])
    crossed = badge(*_crossover_light(report))
    earlier = [p for p in report.phases if p.kind != "present" and p.split.verdict == "mismatch"]
    more = badge("mismatch in an earlier phase", "warn") if earlier else ""
    return f'<div class="lights">{split}{crossed}{more}</div>'


def _crossover_light(report: Report) -> tuple[str, Tone]:
    if report.crossovers.verdict == "unclear" and not report.crossovers.units:
        return "no unit changed variants so far", "good"
    return CROSSOVER_LIGHTS[report.crossovers.verdict]


def health_section(report: Report) -> str:
    arms = _arms(report)
    drawn = chart(
        "Requests that went wrong, by variant",
        [
            Lane(f"{v.name}: {what}", rate(measure), (Bar(measure, "once"),))
            for what, field in (
                ("failed", "error_rate"),
                ("degraded", "degraded_rate"),
                ("fallback", "fallback_rate"),
            )
            for v in arms
            for measure in [getattr(v, field)]
        ],
        show=lambda fraction: f"{100 * fraction:.4g} %",
    )
    return section(
        "Failures, caches and cost",
        drawn,
        folded("The figures behind it", _rates(arms)),
        _caches(arms),
        _costs(arms),
        lead="Failed: of assigned requests, those without a slate. Degraded slates, and of these "
        "those of a fallback engine, stay in their variant (intention to treat).",
    )


def _arms(report: Report) -> tuple[VariantReport, ...]:
    return report.variants if report.interleaving is None else (report.interleaving.slates,)


def _phase(phase: PhaseReport) -> list[str]:
    kind = {"present": "now", "earlier": "earlier", "before": "A/A, before"}[phase.kind]
    p, always = phase.split.p_value, phase.split.always_valid_p
    return [
        f"{phase.phase} ({kind})",
        ":".join(percent(bp / 10_000) for bp in phase.shares_bp.values()),
        ":".join(f"{n:,}" for n in phase.users.values()),
        phase.split.missing or SPLIT_LIGHTS[phase.split.verdict][0],
        "–" if p is None else p_text(p),
        "–" if always is None else p_text(always),
    ]


def _rates(arms: tuple[VariantReport, ...]) -> str:
    rows = [
        [v.name, rate(v.error_rate), rate(v.degraded_rate), rate(v.fallback_rate)] for v in arms
    ]
    rows += [
        [
            f"{v.name} less the control, points",
            rate_change(v.difference.error_rate),
            rate_change(v.difference.degraded_rate),
            rate_change(v.difference.fallback_rate),
        ]
        for v in arms
        if v.difference is not None
    ]
    why = [
        f"{v.name}: "
        + ", ".join(f"{n:,} {what}" for what, n in (v.degraded | v.lapse_codes).items())
        for v in arms
        if v.degraded or v.lapse_codes
    ]
    found = table(["variant", "failed", "degraded", "fallback"], rows, caption="Rates, read once")
    return found + (paragraph("Why: " + "; ".join(why) + ".", kind="quiet") if why else "")


def _caches(arms: tuple[VariantReport, ...]) -> str:
    results = sorted({result for v in arms for result in v.cache.results})
    rows = [
        [
            v.name,
            "–" if v.cache.hit_rate is None else f"{percent(v.cache.hit_rate)} %",
            *(
                f"{percent(v.cache.results.get(r, 0) / v.exposures)} %" if v.exposures else "–"
                for r in results
            ),
            ", ".join(f"{engine} {percent(part)} %" for engine, part in v.engines.items()) or "–",
        ]
        for v in arms
    ]
    head = ["variant", "candidates known", *(f"slates: {r}" for r in results), "engines, as served"]
    return table(head, rows, caption="Caches and engines")


def _costs(arms: tuple[VariantReport, ...]) -> str:
    missing = arms[0].cost_missing
    if all(v.cost is None for v in arms):
        return paragraph(f"No costs: {missing}.", kind="quiet")
    rows = [
        [
            v.name,
            number(v.cost.per_million_rankings if v.cost else None),
            number(v.cost.per_million_predictions if v.cost else None),
            number(v.cost.engine_ms_per_ranking if v.cost else None, " ms"),
            f"{v.predictions:,}",
        ]
        for v in arms
    ]
    head = [
        "variant",
        "per million rankings",
        "per million predictions",
        "engine time each",
        "rows",
    ]
    return table(head, rows, caption="Cost, in the currency of experiments.price_per_hour")
