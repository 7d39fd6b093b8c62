"""Requests to measure on: held-out clicks among candidates drawn from the catalogue."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.cache_evaluation.users import Places, columns_of, items_of, with_columns
from ranking_models.errors import InputError
from ranking_models.schema import FeatureBatch, FeatureSchema

Float64 = npt.NDArray[np.float64]

MOST_LISTS = 2_000
CATALOGUES = 100
"""Users whose whole catalogue is ordered."""
MOST_CATALOGUE_ROWS = 2_000_000
BLOCK_LISTS = 64


class CacheEvidence(Struct, frozen=True, kw_only=True):
    """The model's tables, and rows that it has not seen."""

    schema: FeatureSchema
    users: FeatureBatch
    items: FeatureBatch
    rows: FeatureBatch
    """Held out, with all columns."""
    labels: Float64
    units: Places
    words: str


class ModeScores(NamedTuple):
    """Of all rows, of lists ``[lists, candidates]`` and of catalogues ``[catalogues, items]``."""

    rows: Float64
    lists: Float64
    """The click is the first of each."""
    catalogues: Float64


class Lists:
    """Held-out clicks among candidates drawn from the catalogue, and whole catalogues."""

    def __init__(self, evidence: CacheEvidence, *, candidates: int, seed: int) -> None:
        random = np.random.default_rng(seed)
        items = evidence.items.rows
        if items < candidates:
            raise InputError(
                f"the catalogue has {items} items, lists of {candidates} cannot be drawn; "
                "ask for fewer candidates"
            )
        clicks = np.flatnonzero(evidence.labels > 0)
        few = min(MOST_LISTS, len(clicks))
        self._evidence = evidence
        self.rows_of_clicks = np.sort(random.choice(clicks, few, replace=False))
        clicked = items_of(evidence.schema, evidence.rows.take(self.rows_of_clicks), evidence.items)
        self.others = np.stack(
            [_drawn_without(item, items, candidates, random) for item in clicked.tolist()]
        )
        wanted = max(1, min(CATALOGUES, MOST_CATALOGUE_ROWS // items, evidence.rows.rows))
        shuffled = random.permutation(evidence.rows.rows)
        _, first = np.unique(evidence.units[shuffled], return_index=True)
        self.rows_of_catalogues = np.sort(shuffled[first][:wanted])

    @property
    def rows(self) -> int:
        """Rows of all of them."""
        of_lists = self.others.size + len(self.rows_of_clicks)
        of_catalogues = len(self.rows_of_catalogues) * self._evidence.items.rows
        return self._evidence.rows.rows + of_lists + of_catalogues

    def scores(
        self,
        score: Callable[[FeatureBatch, Places], Float64],
        at: Places,
        count: Callable[[int], None],
    ) -> ModeScores:
        """Score everything.

        Args:
            score: Rows, and the position of each one's user.
            at: Of the user of each held-out row.
            count: Told how many rows were scored.
        """
        evidence = self._evidence
        rows = []
        for a, b in _parts(evidence.rows.rows, BLOCK_LISTS * 100):
            rows.append(score(evidence.rows.take(np.arange(a, b)), at[a:b]))
            count(b - a)
        return ModeScores(
            np.concatenate(rows),
            np.concatenate(list(self._of_lists(score, at, count))),
            np.stack(list(self._of_catalogues(score, at, count))),
        )

    def _of_lists(
        self,
        score: Callable[[FeatureBatch, Places], Float64],
        at: Places,
        count: Callable[[int], None],
    ) -> Iterator[Float64]:
        evidence = self._evidence
        own = columns_of(evidence.schema, evidence.rows, "item")
        for a, b in _parts(len(self.rows_of_clicks), BLOCK_LISTS):
            clicks, drawn = self.rows_of_clicks[a:b], self.others[a:b]
            others = self._beside(clicks, evidence.items.take(drawn.reshape(-1)), drawn.shape[1])
            found = score(others, at[clicks].repeat(drawn.shape[1])).reshape(drawn.shape)
            clicked = score(self._beside(clicks, own.take(clicks), 1), at[clicks])
            yield np.column_stack([clicked, found])
            count(drawn.size + len(clicks))

    def _of_catalogues(
        self,
        score: Callable[[FeatureBatch, Places], Float64],
        at: Places,
        count: Callable[[int], None],
    ) -> Iterator[Float64]:
        items = self._evidence.items
        for row in self.rows_of_catalogues.tolist():
            rows = self._beside(np.array([row]), items, items.rows)
            yield score(rows, at[[row]].repeat(items.rows))
            count(items.rows)

    def _beside(self, rows: Places, items: FeatureBatch, each: int) -> FeatureBatch:
        """Rows' users and contexts beside so many items each."""
        evidence = self._evidence
        repeated = evidence.rows.take(rows.repeat(each))
        return with_columns(evidence.schema, repeated, "item", items)


def _drawn_without(
    clicked: int, items: int, candidates: int, random: np.random.Generator
) -> Places:
    """Other items than the clicked one, distinct as a request's candidates are."""
    drawn = random.choice(items, candidates, replace=False)
    others: Places = drawn[drawn != clicked][: candidates - 1]
    return others


def _parts(count: int, step: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + step, count)) for first in range(0, count, step))
