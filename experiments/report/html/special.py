"""What experiments of another kind show: shadow scores, interleaving, a bandit, an A/A phase."""

from experiments.comparison import ComparisonSummary, Mean
from experiments.report.document import Interleaved, Report, SelfChecked
from experiments.report.figures import milliseconds, number, rate
from experiments.report.html.chart import Bar, Lane, Mark, chart
from experiments.report.html.parts import folded, paragraph, section, table
from experiments.report.measures import measure
from experiments.report.values import Measure
from experiments.report.words import p_text, percent


def interleaving_section(report: Report) -> str:
    found = report.interleaving
    if found is None:
        return ""
    return section(
        "Whose picks users prefer",
        _preference(found, report.variants[1].name),
        table(
            ["ranker", "clicks credited"],
            [[name, f"{wins:,}"] for name, wins in found.wins.items()],
            caption="Credit of the interleaved slates",
        ),
        paragraph(
            f"Interleaved: {found.slates.users:,} units, {found.slates.exposures:,} slates, "
            f"{found.slates.impressions:,} impressions; latency "
            f"{milliseconds(found.slates.latency_ms.all.p50)} p50.",
            kind="quiet",
        ),
        lead=f"No plain comparison: {found.why}.",
    )


def _preference(found: Interleaved, treatment: str) -> str:
    preferred = found.preference
    if preferred is None:
        return paragraph(f"Not known yet: {found.missing}.")
    delta = Measure(value=preferred.delta.value, low=preferred.delta.low, high=preferred.delta.high)
    drawn = chart(
        "Clicks credited to the treatment less those to the control, over all",
        [Lane(f"net credit of {treatment}", rate(delta), (Bar(delta, "once"),))],
        show=lambda fraction: f"{100 * fraction:+.4g} %",
        marks=[Mark(0.0, "zero")],
    )
    votes = (
        f"{preferred.wins:,} for {treatment}, {preferred.losses:,} against, {preferred.ties:,} tied"
    )
    return drawn + paragraph(
        f"{p_text(preferred.p_value)} if read once; groups of units: {votes} "
        f"(sign test {p_text(preferred.sign_p_value)})."
    )


def bandit_section(report: Report) -> str:
    arms = [(v, v.weighted_ctr) for v in report.variants if v.weighted_ctr is not None]
    if not arms:
        return ""
    lanes = [Lane(v.name, rate(m), (Bar(m, "once"),)) for v, m in arms]
    return section(
        "Bandit",
        chart("Weighted CTR", lanes, show=lambda fraction: f"{100 * fraction:.4g} %"),
        table(
            ["variant", "share now", "CTR weighted by inverse propensity"],
            [[v.name, f"{percent(v.share_bp / 10_000)} %", rate(m)] for v, m in arms],
            caption="Over all phases of this split that are kept",
        ),
        lead=f"No plain comparison: {report.plain_tests_refused}.",
    )


def self_check_section(found: SelfChecked | None) -> str:
    if found is None:
        return ""
    title = "Our own false positives"
    if found.check is None:
        return section(title, paragraph(f"Not known yet: {found.missing}."))
    check = found.check
    lanes = [
        Lane(test.test, rate(measure(test.rate)), (Bar(measure(test.rate), "once"),))
        for test in check.tests
    ]
    return section(
        title,
        chart(
            "How often a test finds a difference where there is none",
            lanes,
            show=lambda fraction: f"{100 * fraction:.4g} %",
            marks=[Mark(check.alpha, "limit")],
        ),
        table(
            ["test", "false alarms", "rate"],
            [[t.test, f"{t.found} of {check.deals}", rate(measure(t.rate))] for t in check.tests],
            caption=f"{check.deals} deals of {check.cells:,} groups of units into halves, "
            f"{check.looks} looks; {percent(check.alpha)} % are promised",
        ),
        lead="Everybody is served the same, so whatever a test finds is its mistake.",
    )


def shadow_section(report: Report) -> str:
    rows = [_agreement(v.name, found) for v in report.variants for found in v.shadow]
    if not rows:
        return ""
    head = [
        "scored, beside who served",
        "compared",
        "top-k overlap",
        "Kendall tau",
        "mean drift",
        "drift p99",
        "engine p50",
        "of who served",
    ]
    lanes = [
        Lane(
            f"{v.name} / {found.reference}", rate(_measured(found.overlap)), (_bar(found.overlap),)
        )
        for v in report.variants
        for found in v.shadow
    ]
    return section(
        "Shadow: how rankings agree",
        chart("Top-k overlap", lanes, show=lambda fraction: f"{100 * fraction:.4g} %"),
        folded("The figures behind it", table(head, rows, caption="Nobody saw these scores")),
    )


def _agreement(name: str, found: ComparisonSummary) -> list[str]:
    tau = found.kendall_tau
    return [
        f"{name}, beside {found.reference}",
        f"{found.compared:,}",
        rate(_measured(found.overlap)),
        "–" if tau is None else _plain(tau),
        _plain(found.drift_mean),
        f"{found.drift_p99:.3g}",
        f"{found.latency_p50_ms:.3g} ms",
        number(found.reference_latency_p50_ms, " ms"),
    ]


def _bar(mean: Mean) -> Bar:
    return Bar(_measured(mean), "once")


def _measured(mean: Mean) -> Measure:
    if mean.interval is None:
        return Measure(value=mean.value, missing="too few units for an interval")
    return measure(mean.interval)


def _plain(mean: Mean) -> str:
    if mean.interval is None:
        return f"{mean.value:.3g}"
    return f"{mean.value:.3g} ({mean.interval.low:.3g} to {mean.interval.high:.3g})"
