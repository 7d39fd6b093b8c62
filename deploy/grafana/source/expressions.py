"""The shapes that the expressions of all panels have.

A query names its metric with `of`, which adds the variables that every dashboard has, so that
no panel can forget them.
"""

from typing import NamedTuple


class Query(NamedTuple):
    """An expression, and how its series are called; ``{{label}}`` is a label's value."""

    expression: str
    legend: str


def of(metric: str, *matchers: str) -> str:
    """A metric of the instances that the reader chose."""
    matched = ", ".join(('job="$job"', 'instance=~"$instance"', *matchers))
    return f"{metric}{{{matched}}}"


def workers() -> str:
    """A service of one process has no parent to count them, and is one."""
    counted, present = total(of("podium_workers"), "instance"), of("podium_build_info")
    return f"sum({counted} or count by (instance) ({present}))"


def per_second(metric: str, *matchers: str, by: str = "") -> str:
    return total(f"rate({of(metric, *matchers)}[$__rate_interval])", by)


def total(expression: str, by: str = "") -> str:
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def ratio(part: str, whole: str) -> str:
    """Of two expressions; nothing where there is no whole, for then there is no ratio."""
    return f"{part} / ({whole} > 0)"


def quantile(share: float, histogram: str, *matchers: str, by: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, {per_second(f'{histogram}_bucket', *matchers, by=labels)})"


def quantiles(histogram: str, *matchers: str) -> tuple[Query, ...]:
    """The median, and what the slowest have."""
    return tuple(
        Query(quantile(share, histogram, *matchers), f"p{share * 100:g}")
        for share in (0.5, 0.95, 0.99)
    )
