"""Numbers in words, as the whole report writes them."""

from datetime import UTC, datetime

from experiments.definition import UnitKind
from experiments.stats import Interval


def percent(fraction: float, *, signed: bool = False) -> str:
    """A fraction as a percentage with about three significant digits, at most three decimals."""
    value = 100 * fraction
    decimals = next((d for d, limit in ((3, 1), (2, 10), (1, 100)) if abs(value) < limit), 0)
    return f"{value:{'+' if signed else ''},.{decimals}f}" if value else "0"


def p_text(p_value: float) -> str:
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"


def span(change: Interval) -> str:
    """The range of a relative change, without its middle."""
    return f"{percent(change.low, signed=True)} to {percent(change.high, signed=True)} %"


def units(kind: UnitKind) -> str:
    """What is randomised, more than one of it."""
    return {"user": "users", "session": "sessions", "user_or_session": "users or sessions"}[kind]


def rfc3339(at: float) -> str:
    return datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z")


def minute(rfc: str) -> str:
    """A time of the report as people read it."""
    return f"{rfc[:10]} {rfc[11:16]} UTC"
