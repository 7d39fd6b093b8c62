"""What stands above and below the table of a terminal, a sentence each."""

from collections.abc import Iterator

from experiments.report.document import PhaseReport, Report, Split
from experiments.report.figures import margin, rate
from experiments.report.words import minute, p_text, percent

_DECISIONS = 5


def above(report: Report) -> Iterator[str]:
    """How it stands, what the rule says of it, and until when it takes."""
    yield report.told
    if report.rule is not None and report.state == "running":
        acts = {"automatic": "acts by itself", "dry_run": "only records", "asked": "is only asked"}
        yield f"The rule, which {acts[report.rule.acts]}: {report.rule.reason}."
    yield report.plan.sentence


def below(report: Report) -> Iterator[str]:
    """Whether it can be trusted, what others kinds of experiments show, and how to read it."""
    yield f"Split of units: {_split(report.split)}"
    yield from (_phase(phase) for phase in report.phases if phase.kind != "present")
    yield from _margins(report)
    yield from _interleaving(report)
    yield from _bandit(report)
    yield from _self_check(report)
    yield from _shadow(report)
    yield from (f"Note: {note}" for note in report.notes)
    for made in report.decisions[:_DECISIONS]:
        why = f" ({made.reason})" if made.reason else ""
        action = f"{made.action}, dry run," if made.dry_run else made.action
        yield f"Decision {minute(made.at)}: {action} by {made.by}{why}"
    yield (
        f"In brackets: {100 * report.confidence:.0f} % intervals, CTR clustered by "
        f"{report.unit.replace('_', ' ')}. All hold for one look at a size fixed in advance, but "
        "for those at every look, which alone may be read again and again. Latencies are end to "
        "end, in milliseconds."
    )


def _split(split: Split) -> str:
    if split.p_value is None:
        return f"not checked, {split.missing}."
    if split.verdict == "ok":
        return f"as planned ({p_text(split.p_value)})."
    return f"NOT as planned ({p_text(split.p_value)})."


def _phase(phase: PhaseReport) -> str:
    what = "A/A phase" if phase.kind == "before" else "phase"
    return f"Split of units in {what} {phase.phase}: {_split(phase.split)}"


def _margins(report: Report) -> Iterator[str]:
    if report.plain_tests_refused is not None:
        return
    for variant in report.variants:
        if variant.difference is not None:
            ctr = margin(variant.difference.ctr_margin, worse="lower")
            latency = margin(variant.difference.latency_margin, worse="slower")
            yield f"Margins of {variant.name}: CTR {ctr}; computed latency {latency}."


def _interleaving(report: Report) -> Iterator[str]:
    found = report.interleaving
    if found is None:
        return
    wins = ", ".join(f"{name} {clicks:,}" for name, clicks in found.wins.items())
    yield (
        f"Interleaved: {found.slates.users:,} units, {found.slates.exposures:,} slates; clicks "
        f"credited: {wins}. Variants are not compared: {found.why}."
    )


def _bandit(report: Report) -> Iterator[str]:
    arms = [(v, v.weighted_ctr) for v in report.variants if v.weighted_ctr is not None]
    if not arms:
        return
    said = ", ".join(f"{v.name} {rate(measure)}" for v, measure in arms)
    yield f"CTR weighted by inverse propensity: {said}. {report.plain_tests_refused}."


def _self_check(report: Report) -> Iterator[str]:
    found = report.self_check
    if found is None:
        return
    if found.check is None:
        yield f"Our own false positives: not known yet, {found.missing}."
        return
    for test in found.check.tests:
        yield (
            f"Our own false positives, {test.test}: {test.found} of {found.check.deals}, "
            f"{percent(test.rate.value)} % ({percent(test.rate.low)} to "
            f"{percent(test.rate.high)} %), where {percent(found.check.alpha)} % are promised."
        )


def _shadow(report: Report) -> Iterator[str]:
    for variant in report.variants:
        for found in variant.shadow:
            tau = (
                "" if found.kendall_tau is None else f", Kendall tau {found.kendall_tau.value:.3g}"
            )
            yield (
                f"Shadow: {variant.name} beside {found.reference}, {found.compared:,} slates, "
                f"overlap {percent(found.overlap.value)} %{tau}, mean drift "
                f"{found.drift_mean.value:.3g}."
            )
