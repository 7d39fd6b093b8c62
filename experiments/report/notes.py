"""What a reader of the figures must know besides."""

from experiments.report.document import Crossovers, Report
from experiments.report.values import VariantReport
from experiments.report.words import percent

_HIT_RATE_GAP = 0.05
"""Difference in cache hit rate from which end-to-end latencies mislead."""
_HIT_RATE_SLATES = 100
"""Slates before which a hit rate is mostly chance."""
_LATE_SHARE = 0.01
"""Of impressions, from which late ones are told."""


def notes_on(report: Report, *, backlog: int) -> tuple[str, ...]:
    """In the order of what spoils most.

    Args:
        report: With everything but its verdict and notes.
        backlog: Events that the figures do not hold yet.
    """
    control, *treatments = report.variants
    notes = []
    if backlog:
        notes.append(_not_added_up(backlog))
    if report.crossovers.units:
        notes.append(_crossed_over(report.crossovers))
    notes += [
        f"In phase {phase.phase} the units did not split as planned: pooled over phases or "
        "adjusted by it, the change is not to be trusted."
        for phase in report.phases
        if phase.kind != "present" and phase.split.verdict == "mismatch"
    ]
    if report.state == "paused":
        notes.append("The experiment is paused: it assigns nobody, and the figures stand still.")
    if len(treatments) > 1 and any(t.difference and t.difference.ctr for t in treatments):
        notes.append(
            f"{len(treatments)} treatments are compared with the control: each interval holds by "
            "itself; read the p-values corrected by Holm before calling one of them a success."
        )
    notes += [_fewer_impressions(v) for v in report.variants if v.clicks > v.impressions]
    notes += [_degraded(v) for v in report.variants if v.degraded_share]
    notes += [_colder_cache(control, t) for t in treatments if _hit_rate_gap(control, t)]
    notes += [_set_aside(v) for v in report.variants if _much_set_aside(v)]
    return tuple(notes)


def _not_added_up(backlog: int) -> str:
    events = "1 event is" if backlog == 1 else f"{backlog:,} events are"
    return f"{events} not added up yet, of this experiment or others."


def _crossed_over(crossovers: Crossovers) -> str:
    share = crossovers.share.value or 0.0
    were = "user was" if crossovers.units == 1 else "users were"
    seen = f"{crossovers.units:,} {were} seen in more than one variant, {percent(share)} % of all"
    if share < crossovers.limit:
        return f"{seen}: few enough to leave the comparison alone."
    return (
        f"{seen}: this spoils the comparison. A change of shares needs a new phase, "
        "and a decision of another system must stay the same."
    )


def _fewer_impressions(variant: VariantReport) -> str:
    return (
        f"{variant.name!r} has more clicks than impressions: "
        "the backend does not report every impression, so its CTR is no CTR."
    )


def _degraded(variant: VariantReport) -> str:
    return (
        f"{percent(variant.degraded_share or 0.0)} % of the slates of {variant.name!r} were "
        f"degraded ({', '.join(variant.degraded)}); they count in the variant all the same."
    )


def _hit_rate_gap(control: VariantReport, treatment: VariantReport) -> bool:
    if min(control.exposures, treatment.exposures) < _HIT_RATE_SLATES:
        return False
    ours, theirs = treatment.cache.hit_rate, control.cache.hit_rate
    return ours is not None and theirs is not None and abs(ours - theirs) >= _HIT_RATE_GAP


def _colder_cache(control: VariantReport, treatment: VariantReport) -> str:
    return (
        f"The cache knew {percent(treatment.cache.hit_rate or 0.0)} % of the candidates for "
        f"{treatment.name!r} and {percent(control.cache.hit_rate or 0.0)} % for "
        f"{control.name!r}, as the arm with more traffic warms its cache better: "
        "compare the latencies of computed slates, not of all."
    )


def _much_set_aside(variant: VariantReport) -> bool:
    return variant.late > _LATE_SHARE * variant.impressions or variant.clicks_capped > 0


def _set_aside(variant: VariantReport) -> str:
    return (
        f"Of {variant.name!r} {variant.late:,} events came after the attribution window and "
        f"{variant.clicks_capped:,} clicks were beyond the cap of their unit; neither count."
    )
