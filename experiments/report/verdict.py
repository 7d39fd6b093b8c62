"""What the figures allow to be said, in one sentence, and what they do not."""

from collections.abc import Sequence

from experiments.definition import Experiment
from experiments.report.values import Split, VariantReport

_ONE_LOOK = (
    "this holds for one look at a size fixed in advance: "
    "whoever looks until it fits is wrong more often than 5 % of the time"
)

_HIT_RATE_GAP = 0.05
"""Difference in cache hit rate from which end-to-end latencies mislead."""
_HIT_RATE_SLATES = 100
"""Slates before which a hit rate is mostly chance."""
_CROSSOVER_SHARE = 0.01
"""Share of users in more than one variant that only a mistake in the set-up makes."""


def verdict_on(experiment: Experiment, split: Split, variants: Sequence[VariantReport]) -> str:
    """One honest sentence."""
    if not any(variant.exposures for variant in variants):
        return _nothing_yet(experiment)
    if split.verdict == "mismatch":
        return _mismatch(split, variants)
    control, *treatments = variants
    said = "; ".join(_compared(control, treatment) for treatment in treatments)
    compared = any(t.difference and t.difference.ctr for t in treatments)
    said = f"{said}; {_ONE_LOOK}" if compared else said
    return f"{said[0].upper()}{said[1:]}."


def notes_on(
    experiment: Experiment,
    variants: Sequence[VariantReport],
    *,
    crossovers: int,
    backlog: int,
) -> tuple[str, ...]:
    """What a reader of the table must know besides.

    Args:
        experiment: Its definition.
        variants: Its figures, the control first.
        crossovers: Units that came to a variant after another one of the phase.
        backlog: Events that the figures do not hold yet.
    """
    control, *treatments = variants
    notes = []
    if backlog:
        notes.append(_not_added_up(backlog))
    if crossovers:
        notes.append(_crossed_over(crossovers, sum(v.users for v in variants)))
    if experiment.state == "paused":
        notes.append("The experiment is paused: it assigns nobody, and the figures stand still.")
    if len(treatments) > 1:
        notes.append(
            f"{len(treatments)} treatments are compared with the control, each at 5 %: "
            "the chance that one of them differs by accident is higher."
        )
    notes += [_fewer_impressions(v) for v in variants if v.clicks > v.impressions]
    notes += [_degraded(v) for v in variants if v.degraded_share]
    notes += [_colder_cache(control, t) for t in treatments if _hit_rate_gap(control, t)]
    return tuple(notes)


def percent(fraction: float, *, signed: bool = False) -> str:
    """A fraction as a percentage with about three significant digits, at most three decimals."""
    value = 100 * fraction
    decimals = next((d for d, limit in ((3, 1), (2, 10), (1, 100)) if abs(value) < limit), 0)
    return f"{value:{'+' if signed else ''}.{decimals}f}" if value else "0"


def p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def _nothing_yet(experiment: Experiment) -> str:
    if experiment.state == "paused":
        return f"No data: phase {experiment.phase} is paused and has no exposures."
    return (
        f"No data yet: phase {experiment.phase} has no exposures, which begin with the first "
        f"ranking request of a {experiment.unit.replace('_', ' ')} that takes part."
    )


def _mismatch(split: Split, variants: Sequence[VariantReport]) -> str:
    seen = ":".join(str(variant.users) for variant in variants)
    planned = ":".join(percent(variant.share_bp / 10_000) for variant in variants)
    p_value = split.p_value if split.p_value is not None else 0.0
    return (
        f"Do not trust these figures: the units split {seen} where {planned} % was planned "
        f"({p_text(p_value)}), so one variant loses or gains units before they are counted."
    )


def _compared(control: VariantReport, treatment: VariantReport) -> str:
    names = f"{treatment.name!r} and {control.name!r}"
    change = treatment.difference.ctr if treatment.difference else None
    if change is None:
        return f"too early to compare {names}: {_missing(control, treatment)}"
    relative = change.relative
    figures = (
        f"{percent(relative.value, signed=True)} % (95 % interval "
        f"{percent(relative.low, signed=True)} to {percent(relative.high, signed=True)} %, "
        f"{p_text(change.p_value)}){_latency(treatment)}"
    )
    if relative.low > 0 or relative.high < 0:
        word = "higher" if relative.value > 0 else "lower"
        return f"{treatment.name!r} has a {word} CTR than {control.name!r}, by {figures}"
    return (
        f"no difference in CTR between {names} is shown, {figures}, and samples of this size "
        f"find an increase of {percent(change.detectable)} % 8 times in 10"
    )


def _latency(treatment: VariantReport) -> str:
    difference = treatment.difference
    p95 = difference.latency_relative.all.p95.interval if difference else None
    if p95 is None:
        return ""
    return (
        f" with a p95 latency of {percent(p95.value, signed=True)} % "
        f"({percent(p95.low, signed=True)} to {percent(p95.high, signed=True)} %)"
    )


def _missing(control: VariantReport, treatment: VariantReport) -> str:
    reasons = [f"{v.name!r}: {v.ctr.missing}" for v in (control, treatment) if v.ctr.missing]
    return ", ".join(reasons)


def _not_added_up(backlog: int) -> str:
    events = "1 event is" if backlog == 1 else f"{backlog:,} events are"
    return f"{events} not added up yet, of this experiment or others."


def _crossed_over(crossovers: int, users: int) -> str:
    # Who is in two variants is a user of both, so the sum counts each of them twice.
    share = crossovers / max(1, users - crossovers)
    were = "user was" if crossovers == 1 else "users were"
    seen = f"{crossovers:,} {were} seen in more than one variant, {percent(share)} % of all"
    if share < _CROSSOVER_SHARE:
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
        f"{control.name!r}: compare the latencies of computed slates, not of all."
    )
