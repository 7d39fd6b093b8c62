"""What a change of the graph does to the calibration rows: to their scores, and to orders.

Scores alone do not show it: a range that cuts off a few extreme rows is good
on average and bad for single users. So users of some calibration rows order
the items of all of them, as a gate does with a whole catalogue. The yardstick
uses nothing else, so it can be held against as many candidates as one likes
without wearing the gate out.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.gates import CatalogueLists, thresholds_for
from ranking_models.gates.orders import mean_of_worst, top_overlap, top_tau
from ranking_models.parity import Scorer
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32

MAX_LISTS = 100
"""Calibration rows whose user orders; 5 % of them are five."""

MAX_LIST_ITEMS = 1000


class Harm(Struct, frozen=True, kw_only=True):
    """A candidate graph against the reference, on calibration rows."""

    mean_difference: float
    """Mean absolute score difference."""
    log_loss_gain: float
    """Relative, if clicks came as the reference says: divergence divided by entropy."""
    overlap: float
    worst_overlap: float
    tau: float

    @property
    def strain(self) -> float:
        """How much of what the gate allows is used up, by the figure that is worst off.

        1 is the edge, 0 no harm, infinity where a score is no number.
        """
        return float(np.max(self._used))

    @property
    def mean_strain(self) -> float:
        """The same, mean of the figures: to compare by, for the worst one moves in steps."""
        return float(np.mean(self._used))

    @property
    def _used(self) -> npt.NDArray[np.float64]:
        allowed = thresholds_for("int8")
        used = [
            _share(self.log_loss_gain, allowed.max_log_loss_gain),
            _share(1 - self.overlap, _missing(allowed.min_top10_overlap)),
            _share(1 - self.worst_overlap, _missing(allowed.min_top10_overlap_worst)),
            _share(1 - self.tau, _missing(allowed.min_kendall_tau)),
        ]
        return np.nan_to_num(used, nan=np.inf)


class Yardstick:
    """Calibration rows and lists with the reference's scores, to hold candidates against."""

    def __init__(self, reference: Scorer, schema: FeatureSchema, rows: FeatureBatch) -> None:
        self._rows, self._lists = rows, _lists(schema, rows)
        self._of_rows, self._of_lists = reference(rows), self._orders(reference)

    def harm(self, candidate: Scorer) -> Harm:
        """Score rows and lists with the candidate and compare."""
        scores, lists = candidate(self._rows), self._orders(candidate)
        pairs = list(zip(self._of_lists, lists, strict=True))
        overlaps = np.array([top_overlap(ours, theirs) for ours, theirs in pairs])
        return Harm(
            mean_difference=float(np.abs(scores.astype(np.float64) - self._of_rows).mean()),
            log_loss_gain=_expected_gain(self._of_rows, scores),
            overlap=float(overlaps.mean()),
            worst_overlap=mean_of_worst(overlaps),
            tau=float(np.mean([top_tau(ours, theirs) for ours, theirs in pairs])),
        )

    def _orders(self, scorer: Scorer) -> list[Float32]:
        return [
            np.concatenate([scorer(block) for block in self._lists.blocks(at)])
            for at in range(self._lists.count)
        ]


def _lists(schema: FeatureSchema, rows: FeatureBatch) -> CatalogueLists:
    spread = np.linspace(0, rows.rows - 1, min(MAX_LISTS, rows.rows)).astype(np.intp)
    return CatalogueLists(schema=schema, items=_items(schema, rows), users=rows.take(spread))


def _items(schema: FeatureSchema, rows: FeatureBatch) -> FeatureBatch:
    """The different items of the rows, in the columns of the item's features."""
    of_item: dict[str, npt.NDArray[Any]] = {
        "dense": rows.dense[:, [spec.source == "item" for spec in schema.dense]],
        "ids": rows.ids[:, [spec.source == "item" for spec in schema.ids]],
        **{f"multi_{s.name}": rows.multi[s.name] for s in schema.multi if s.source == "item"},
    }
    wide = np.hstack([values.astype(np.float64) for values in of_item.values()])
    _, first = np.unique(wide, axis=0, return_index=True)
    first = np.sort(first)
    spread = np.linspace(0, len(first) - 1, min(MAX_LIST_ITEMS, len(first))).astype(np.intp)
    return FeatureBatch.of_inputs({n: values[first[spread]] for n, values in of_item.items()})


def _expected_gain(reference: Float32, candidate: Float32) -> float:
    """The log loss that the candidate adds, relative, where the reference is the truth."""
    tiny = 1e-7
    p = np.clip(reference.astype(np.float64), tiny, 1 - tiny)
    q = np.clip(candidate.astype(np.float64), tiny, 1 - tiny)
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean()
    crossed = -(p * np.log(q) + (1 - p) * np.log(1 - q)).mean()
    return float(crossed / entropy - 1)


def _missing(least: float | None) -> float | None:
    return None if least is None else 1 - least


def _share(harm: float, allowed: float | None) -> float:
    return harm / allowed if allowed else 0.0
