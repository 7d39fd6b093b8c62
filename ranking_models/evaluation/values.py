"""What an evaluation found: frozen values, as JSON and reports show them."""

import msgspec
from msgspec import Struct

FORMAT = 1

METRICS = {
    "auc": "AUC",
    "gauc": "gAUC",
    "log_loss": "log loss",
    "ndcg_at_k": "NDCG@k",
    "hit_rate_at_k": "HR@k",
    "ece": "ECE",
    "predicted": "mean score",
    "observed": "CTR",
    "calibration": "mean score / CTR",
}
"""Every metric and its name for people, in the order of the tables."""


class Figure(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A metric and its 95 % interval."""

    value: float
    low: float | None
    """None where too few resamples have the metric; ``high`` likewise."""
    high: float | None


Figures = dict[str, Figure]
"""By metric; one that these rows cannot have (gAUC without a mixed list) is left out."""


class ReliabilityBin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One bin of the reliability table."""

    rows: int
    low: float
    """Smallest score of the bin."""
    high: float
    predicted: float
    """Mean score."""
    observed: Figure
    """Share of clicks."""


class Scored(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One scorer on all rows."""

    name: str
    """Bundle, precision and engine."""
    figures: Figures
    ece_by_chance: float
    """ECE that a perfectly calibrated model would show on as many rows."""
    reliability: tuple[ReliabilityBin, ...]
    roc: tuple[tuple[float, float], ...]
    """Points of the ROC curve: share of non-clicks, share of clicks at or above a score."""
    histogram: tuple[tuple[int, int], ...]
    """Rows without and with a click per equal range of scores from 0 to 1."""


class Segment(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The rows with one value, or one range of values, of a feature."""

    value: str
    rows: int
    users: int
    note: str | None
    """Why there are no figures."""
    figures: tuple[Figures, ...]
    """One per scorer; none where there is a note."""
    difference: Figures
    """First scorer minus second; empty without a second."""


class SegmentTable(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All rows cut by one feature."""

    feature: str
    segments: tuple[Segment, ...]
    overlapping: bool
    """A row can be in several segments: the feature holds lists."""


class Comparison(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first scorer held against the second, row by row."""

    figures: Figures
    """First minus second, paired bootstrap."""
    max_score_difference: float
    p99_score_difference: float


class Evaluation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that ``podium evaluate`` reports."""

    format: int
    evidence: str
    """Which rows, in words."""
    notes: tuple[str, ...]
    rows: int
    users: int
    """Distinct users, or sessions of visitors without an id: what is resampled."""
    clicks: int
    lists: int
    """Lists with a click, which NDCG and hit rate are measured on."""
    long_lists: int
    """Those of them with more than ``k`` rows: the others are hits in any order."""
    list_kind: str
    """``user`` or ``session``."""
    k: int
    resamples: int
    seed: int
    confidence: float
    scored: tuple[Scored, ...]
    """One or two."""
    comparison: Comparison | None
    segments: tuple[SegmentTable, ...]


def encode_evaluation(evaluation: Evaluation) -> bytes:
    """JSON, indented for people."""
    return msgspec.json.format(msgspec.json.encode(evaluation), indent=1) + b"\n"


def metric_name(metric: str, k: int) -> str:
    """A metric's name in tables, with the length of the list filled in."""
    return METRICS[metric].replace("@k", f"@{k}")
