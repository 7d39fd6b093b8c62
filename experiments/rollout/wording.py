"""Figures in words, for sentences that people read who did not make the rule."""

from experiments.rollout.values import ArmEvidence, Bound


def percent(fraction: float) -> str:
    """A fraction as a percentage with about three significant digits, at most three decimals."""
    value = 100 * fraction
    decimals = next((d for d, limit in ((3, 1), (2, 10), (1, 100)) if abs(value) < limit), 0)
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{'0' if text in ('-0', '') else text} %"


def signed(fraction: float) -> str:
    """The same with its sign."""
    return f"+{percent(fraction)}" if fraction > 0 else percent(fraction)


def spread(bound: Bound) -> str:
    """A relative change with its always-valid range."""
    if bound.value is None or bound.low is None or bound.high is None:
        return bound.missing or "unknown"
    return f"{signed(bound.value)} ({signed(bound.low)} to {signed(bound.high)})"


def duration(seconds: float) -> str:
    """A time span in the unit that fits it."""
    for unit, length in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.4g} {unit}"
    return f"{seconds:.3g} s"


def units_of(arms: tuple[ArmEvidence, ...]) -> str:
    """Units per variant, as a ratio."""
    return ":".join(f"{arm.users:,}" for arm in arms)
