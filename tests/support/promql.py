"""Which series an expression reads, as far as the expressions in ``deploy/`` go."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import NamedTuple

from tests.support.every_metric import every_metric

_GROUPING = re.compile(r"\b(?:by|on|group_left)\s*\(([^)]*)\)")
_SELECTOR = re.compile(r"\b([a-zA-Z_:][\w:]*)\b(?!\s*\()\s*(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_WORDS = frozenset({"and", "or", "bool"})


class Selector(NamedTuple):
    """A series by name, with the labels that it is chosen by."""

    name: str
    labels: frozenset[str]

    @property
    def is_recorded(self) -> bool:
        """Whether a rule makes it, and not the service."""
        return ":" in self.name


def selectors(expression: str) -> Iterator[Selector]:
    bare = re.sub(r"\[[^\]]*\]", "", _GROUPING.sub("", expression))
    for name, matchers in _SELECTOR.findall(bare):
        if name not in _WORDS:
            yield Selector(name, frozenset(_MATCHER.findall(matchers)))


def grouping_labels(expression: str) -> set[str]:
    """What its aggregations and matchings go by."""
    found = _GROUPING.findall(expression)
    return {label.strip() for labels in found for label in labels.split(",") if label.strip()}


def labels_of(selector: Selector) -> frozenset[str]:
    """What the series has, with what Prometheus adds.

    Raises:
        AssertionError: the service has no such metric.
    """
    if selector.is_recorded:
        return frozenset({"job"})
    added = frozenset({"job", "instance"})
    if selector.name == "up":
        return added
    known = _labels_by_series()
    assert selector.name in known, f"the service has no {selector.name}"
    return known[selector.name] | added


@cache
def _labels_by_series() -> Mapping[str, frozenset[str]]:
    """Of all that the service can show; a histogram is three series."""
    known: dict[str, frozenset[str]] = {}
    for metric in every_metric():
        labels = frozenset(metric.labels)
        if metric.kind == "histogram":
            known[f"{metric.name}_bucket"] = labels.union({"le"})
            known[f"{metric.name}_sum"] = known[f"{metric.name}_count"] = labels
        else:
            known[metric.name] = labels
    return known


def assert_real(expression: str, recorded: set[str]) -> None:
    """Every series is one that the service or a rule has, with labels that it has."""
    found = list(selectors(expression))
    assert found, f"no series in: {expression}"
    for selector in found:
        if selector.is_recorded:
            assert selector.name in recorded, f"no rule records {selector.name}"
        unknown = selector.labels - labels_of(selector)
        assert not unknown, f"{selector.name} has no label {unknown}: {expression}"
    everywhere = {label for selector in found for label in labels_of(selector)}
    nowhere = grouping_labels(expression) - everywhere
    assert not nowhere, f"nothing has the labels {nowhere}: {expression}"
