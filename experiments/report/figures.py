"""Figures of a report in words, as its page and its table show them."""

from experiments.report.values import CtrChange, MarginCheck, Measure, Reading
from experiments.report.words import p_text, percent
from experiments.stats import Interval


def rate(measure: Measure) -> str:
    """A share with its range."""
    known = measure.interval
    if known is None:
        value = "–" if measure.value is None else f"{percent(measure.value)} %"
        return f"{value} ({measure.missing})" if measure.missing else value
    return f"{percent(known.value)} % ({percent(known.low)} to {percent(known.high)} %)"


def change(measure: Measure) -> str:
    """A relative change with its range."""
    known = measure.interval
    if known is None:
        if measure.value is None:
            return measure.missing or "–"
        return f"{percent(measure.value, signed=True)} % ({measure.missing})"
    return changed(known)


def changed(known: Interval) -> str:
    low, high = percent(known.low, signed=True), percent(known.high, signed=True)
    return f"{percent(known.value, signed=True)} % ({low} to {high} %)"


def points(known: Interval) -> str:
    """An absolute change of a share, in percentage points."""
    return changed(known).replace(" %", "")


def rate_change(measure: Measure) -> str:
    known = measure.interval
    return measure.missing or "–" if known is None else points(known)


def milliseconds(measure: Measure) -> str:
    known = measure.interval
    if known is None:
        value = "–" if measure.value is None else f"{measure.value:.3g} ms"
        return f"{value} ({measure.missing})" if measure.missing else value
    return f"{known.value:.3g} ms ({known.low:.3g} to {known.high:.3g})"


def of_ctr(found: CtrChange | None, missing: str | None) -> Measure:
    """The relative change of a CTR as a measure."""
    if found is None:
        return Measure(missing=missing)
    known = found.relative
    return Measure(value=known.value, low=known.low, high=known.high)


def p_value(p: float | None) -> str:
    return "–" if p is None else p_text(p)


def significance(reading: Reading) -> str:
    return f"{p_value(reading.p_once)}; always-valid {p_value(reading.p_always)}"


def margin(check: MarginCheck, *, worse: str) -> str:
    """Whether it is within its margin, in words."""
    allowed = f"at most {percent(check.margin)} % {worse}"
    if check.missing is not None:
        return f"unknown: {check.missing} (allowed: {allowed})"
    said = {
        "non_inferior": "within",
        "inferior": "NOT within",
        "unclear": "not shown yet",
    }[check.verdict]
    worst = (
        "" if check.worst is None else f", surely not beyond {percent(check.worst, signed=True)} %"
    )
    p = "" if check.p_value is None else f", {p_text(check.p_value)}"
    return f"{said} ({allowed}{worst}{p})"


def number(value: float | None, unit: str = "") -> str:
    return "–" if value is None else f"{value:,.3g}{unit}"
