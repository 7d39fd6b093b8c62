"""The two things that a rollout is about, side by side: CTR and latency."""

from experiments.report.document import Report
from experiments.report.figures import (
    change,
    margin,
    milliseconds,
    number,
    of_ctr,
    p_value,
    points,
    rate,
    significance,
)
from experiments.report.html.chart import Bar, Lane, Mark, chart
from experiments.report.html.parts import folded, paragraph, section, table
from experiments.report.values import Difference, Measure, VariantReport
from experiments.report.words import percent, units

_LEGEND = (
    '<p class="legend"><span><b class="always"></b>holds at every look</span>'
    '<span><b class="once"></b>holds if this is the only look</span>'
    '<span><b class="zero"></b>no change</span>'
    '<span><b class="limit"></b>margin that is allowed</span></p>'
)


def ctr_section(report: Report) -> str:
    treatments = _compared(report)
    drawn = chart(
        "Change of the CTR against the control",
        [
            _lane(v.name, of_ctr(d.ctr_always, d.ctr_always_missing), of_ctr(d.ctr, d.missing))
            for v, d in treatments
        ],
        show=_signed_percent,
        marks=_marks([-d.ctr_margin.margin for _, d in treatments]),
    )
    own = chart(
        "CTR by variant",
        [_own(v.name, v.ctr, rate(v.ctr)) for v in report.variants],
        show=_percent,
    )
    return section(
        "CTR",
        drawn and _LEGEND + drawn,
        folded("The figures behind it", _ctr_changes(report)) if treatments else "",
        own and "<h3>By variant</h3>" + own,
        _ctr_counts(report),
        lead="Clicks over impressions by intention to treat; intervals clustered by "
        f"{report.unit.replace('_', ' ')}.",
    )


def latency_section(report: Report) -> str:
    treatments = _compared(report)
    drawn = chart(
        "Change of the geometric mean latency of computed slates against the control",
        [_lane(v.name, d.latency_computed.always, d.latency_computed.once) for v, d in treatments],
        show=_signed_percent,
        marks=_marks([d.latency_margin.margin for _, d in treatments]),
    )
    quantiles = chart(
        "Latency quantiles of computed slates by variant",
        [
            _own(f"{v.name} {name}", measure, milliseconds(measure))
            for name in ("p50", "p95", "p99")
            for v in report.variants
            for measure in [getattr(v.latency_ms.computed, name)]
        ],
        show=lambda ms: f"{ms:.3g} ms",
        logarithmic=True,
    )
    return section(
        "Latency",
        drawn and _LEGEND + drawn,
        folded("The figures behind it", _latency_changes(report)) if treatments else "",
        quantiles and "<h3>Computed slates by variant</h3>" + quantiles,
        folded("All quantiles, and by engine as served", _quantiles(report)),
        lead="From arrival to reply. Computed slates are those that an engine scored at least in "
        "part: what the cache answers says nothing of a model.",
    )


def _compared(report: Report) -> list[tuple[VariantReport, Difference]]:
    if report.plain_tests_refused is not None:
        return []
    return [(v, v.difference) for v in report.variants if v.difference is not None]


def _lane(name: str, always: Measure, once: Measure) -> Lane:
    shown = always if always.interval is not None else once
    return Lane(name, change(shown), (Bar(always, "always"), Bar(once, "once")))


def _own(name: str, measure: Measure, said: str) -> Lane:
    return Lane(name, said, (Bar(measure, "once"),))


def _marks(margins: list[float]) -> list[Mark]:
    """No change, and the margin that all treatments share."""
    # A margin of doubling would squeeze what matters into a dot.
    limits = {margin for margin in margins if 0 < abs(margin) < 1}
    return [Mark(0.0, "zero"), *(Mark(at, "limit") for at in limits)]


def _signed_percent(fraction: float) -> str:
    return f"{100 * fraction:+.4g} %" if abs(fraction) > 1e-12 else "0"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.4g} %"


def _ctr_changes(report: Report) -> str:
    treatments = _compared(report)
    rows = [
        ["relative, at every look"]
        + [change(of_ctr(d.ctr_always, d.ctr_always_missing)) for _, d in treatments],
        ["relative, only look"] + [change(of_ctr(d.ctr, d.missing)) for _, d in treatments],
        ["percentage points, at every look"]
        + [points(d.ctr_always.absolute) if d.ctr_always else "–" for _, d in treatments],
        ["percentage points, only look"]
        + [points(d.ctr.absolute) if d.ctr else "–" for _, d in treatments],
        ["p at every look"]
        + [p_value(d.ctr_always.p_value if d.ctr_always else None) for _, d in treatments],
        ["p if only look"] + [p_value(d.ctr.p_value if d.ctr else None) for _, d in treatments],
        *_corrections(treatments),
        ["not worse than the margin"]
        + [margin(d.ctr_margin, worse="lower") for _, d in treatments],
        ["an increase found 8 times in 10"]
        + [f"{percent(d.ctr_always.detectable)} %" if d.ctr_always else "–" for _, d in treatments],
        *_adjusted(treatments),
    ]
    return table(["", *(v.name for v, _ in treatments)], rows, caption="CTR against the control")


def _corrections(treatments: list[tuple[VariantReport, Difference]]) -> list[list[str]]:
    found = [d.corrected for _, d in treatments]
    if not any(found):
        return []
    named = {
        "always_holm": "p at every look, Holm",
        "once_holm": "p if only look, Holm",
        "always_benjamini_hochberg": "p at every look, Benjamini-Hochberg",
        "once_benjamini_hochberg": "p if only look, Benjamini-Hochberg",
    }
    return [
        [words] + [p_value(getattr(c, name) if c else None) for c in found]
        for name, words in named.items()
    ]


def _adjusted(treatments: list[tuple[VariantReport, Difference]]) -> list[list[str]]:
    rows = []
    pooled = [d.pooled for _, d in treatments]
    if any(pooled):
        phases = next(", ".join(map(str, p.phases)) for p in pooled if p)
        rows += [
            [f"pooled over phases {phases}"]
            + [change(p.change.always) if p else "–" for p in pooled]
        ]
    adjusted = [d.cuped for _, d in treatments]
    if any(adjusted):
        rows += [
            ["adjusted by the A/A phase (CUPED)"]
            + [change(a.change.always) if a else "–" for a in adjusted],
            ["variance that is left by it"]
            + [
                f"{percent(a.variance_kept)} %" if a and a.variance_kept is not None else "–"
                for a in adjusted
            ],
        ]
    return rows


def _ctr_counts(report: Report) -> str:
    rows = [
        [
            v.name,
            f"{v.users:,}",
            f"{v.exposures:,}",
            f"{v.impressions:,}",
            f"{v.clicks:,}",
            rate(v.ctr),
        ]
        for v in report.variants
    ]
    head = ["variant", units(report.unit), "slates", "impressions", "clicks", "CTR"]
    return table(head, rows, caption="Counted in this phase")


def _latency_changes(report: Report) -> str:
    treatments = _compared(report)
    rows = [
        ["computed, at every look"] + [change(d.latency_computed.always) for _, d in treatments],
        ["computed, only look"] + [change(d.latency_computed.once) for _, d in treatments],
        ["p"] + [significance(d.latency_computed) for _, d in treatments],
        ["not worse than the margin"]
        + [margin(d.latency_margin, worse="slower") for _, d in treatments],
        ["all slates, at every look"] + [change(d.latency_all.always) for _, d in treatments],
        ["all slates, only look"] + [change(d.latency_all.once) for _, d in treatments],
        *(
            [f"{kind} {q}, only look"]
            + [change(getattr(getattr(d.latency_relative, kind), q)) for _, d in treatments]
            for kind in ("computed", "all")
            for q in ("p50", "p95", "p99")
        ),
    ]
    head = ["geometric mean, relative", *(v.name for v, _ in treatments)]
    return table(head, rows, caption="Latency against the control")


def _quantiles(report: Report) -> str:
    rows = []
    for v in report.variants:
        rows.append([f"{v.name}: geometric mean, all", milliseconds(v.geometric_ms.all), "", ""])
        rows.append(
            [f"{v.name}: geometric mean, computed", milliseconds(v.geometric_ms.computed), "", ""]
        )
        kinds = {k: getattr(v.latency_ms, k) for k in ("all", "computed", "cached")}
        kinds |= {f"by {engine}": own for engine, own in v.latency_by_engine.items()}
        rows += [
            [f"{v.name}: {kind}", milliseconds(q.p50), milliseconds(q.p95), milliseconds(q.p99)]
            for kind, q in kinds.items()
        ]
    return table(["slates", "p50", "p95", "p99"], rows, caption="Latency end to end") + paragraph(
        "Engine time and waiting for an engine, per slate: "
        + "; ".join(
            f"{v.name} {number(v.compute_ms, ' ms')} and {number(v.queue_ms, ' ms')}"
            for v in report.variants
        )
        + ".",
        kind="quiet",
    )
