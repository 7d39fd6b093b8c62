"""How well a mode's scores order, each metric with its value in every bootstrap resample."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ranking_models.cache_evaluation.lists import CacheEvidence, Lists, ModeScores
from ranking_models.cache_evaluation.modes import rescored
from ranking_models.manifest import Interval
from ranking_models.metrics import auc, ordering
from ranking_models.metrics.bootstrap import Weights, percentile_interval, weighted_auc, weights

Float64 = npt.NDArray[np.float64]


class Measured(NamedTuple):
    """A metric, and the same in every resample."""

    value: float
    resampled: Float64


Measures = dict[str, Measured]


class Judge:
    """Measures scores on the same rows, lists and resamples each time."""

    def __init__(
        self, evidence: CacheEvidence, lists: Lists, *, k: int, resamples: int, seed: int
    ) -> None:
        self._labels, self._k = evidence.labels, k
        _, self._units = np.unique(evidence.units, return_inverse=True)
        self._of_rows = weights(self._units, resamples, seed)
        self._of_lists = self._of_rows.of_rows(lists.rows_of_clicks)
        self._of_catalogues = self._of_rows.of_rows(lists.rows_of_catalogues)

    def measures(self, scores: ModeScores, exact: ModeScores) -> Measures:
        """Every metric of a mode that gives each candidate a score of its own."""
        area = _Labelled(scores.rows, self._labels, self._units)
        found = {
            "auc": Measured(
                auc(scores.rows, self._labels),
                weighted_auc(scores.rows, self._labels, self._of_rows),
            )
        }
        for name, per_user in (
            ("gauc", ordering.auc_per_list(*area)),
            ("ndcg_rows", ordering.ndcg_per_list(*area, self._k)),
        ):
            if len(per_user.value):
                found[name] = self._mean_of_users(per_user)
        return found | self._orders(scores.lists, scores.catalogues, exact)

    def rescored(self, exact: ModeScores, coarse: ModeScores, top: int) -> Measures:
        """Those of ``segment_rescore``, which orders a request's candidates and nothing else.

        A user's held-out rows are no request: most have fewer than `top`, so that all of them
        would be scored exactly and the mode would look better than it is.
        """
        return self._orders(
            rescored(exact.lists, coarse.lists, top),
            rescored(exact.catalogues, coarse.catalogues, top),
            exact,
        )

    def _orders(self, lists: Float64, catalogues: Float64, exact: ModeScores) -> Measures:
        listed = _one_click_each(lists)
        overlaps = _overlaps(catalogues, exact.catalogues, self._k)
        return {
            "list_auc": _mean(ordering.auc_per_list(*listed).value, self._of_lists),
            "ndcg": _mean(ordering.ndcg_per_list(*listed, self._k).value, self._of_lists),
            "hit_rate": _mean(ordering.hits_per_list(*listed, self._k).value, self._of_lists),
            "overlap": _mean(_overlaps(lists, exact.lists, self._k), self._of_lists),
            "catalogue_overlap": _mean(overlaps, self._of_catalogues),
        }

    def _mean_of_users(self, figures: ordering.ListFigures) -> Measured:
        first_row = np.unique(self._units, return_index=True)[1]
        drawn = self._of_rows.of_rows(first_row[figures.list_of])
        return Measured(figures.mean(), _mean_by(figures.value, figures.weight, drawn))


class _Labelled(NamedTuple):
    scores: Float64
    labels: Float64
    lists: npt.NDArray[np.intp]


def _one_click_each(lists: Float64) -> _Labelled:
    """Lists as rows: the first of each is its click."""
    count, width = lists.shape
    labels = np.zeros(lists.shape)
    labels[:, 0] = 1.0
    return _Labelled(lists.reshape(-1), labels.reshape(-1), np.repeat(np.arange(count), width))


def _overlaps(scores: Float64, exact: Float64, k: int) -> Float64:
    """Share of each line's exact first k that are among the first k of these scores."""
    k = min(k, exact.shape[1])
    firsts = [np.argsort(-s, axis=1, kind="stable")[:, :k] for s in (scores, exact)]
    return np.array(
        [len(np.intersect1d(a, b)) / k for a, b in zip(*firsts, strict=True)], np.float64
    )


def _mean(values: Float64, drawn: Weights) -> Measured:
    return Measured(float(values.mean()), _mean_by(values, np.ones(len(values)), drawn))


def _mean_by(values: Float64, weight: Float64, drawn: Weights) -> Float64:
    with np.errstate(invalid="ignore", divide="ignore"):
        return drawn.totals(values * weight) / drawn.totals(weight)


def against(reference: Measures, found: Measures) -> Measures:
    """The second minus the first, resample by resample: what both share cancels out."""
    return {
        name: Measured(one.value - reference[name].value, one.resampled - reference[name].resampled)
        for name, one in found.items()
    }


def intervals(measured: Measures) -> dict[str, Interval]:
    """What these rows have an interval for: too few clicks leave resamples without a metric."""
    found = {name: percentile_interval(*one) for name, one in measured.items()}
    return {name: interval for name, interval in found.items() if interval is not None}
