"""Equal rows of a batch are scored once. Pure.

Two visits of one user a moment apart ask for the same candidates, and so do two
pages that differ in nothing that the model sees. Looking for such rows must
cost next to nothing where there are none, so it begins with what tells requests
apart: the users of candidates, the ids of rows with all their inputs. Only what
agrees there is compared further, in the end byte by byte.
"""

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.schema import FeatureBatch
from service.engines.rows import CandidateRows, JobRows, NamedRows, are_named, looked_up

Index = npt.NDArray[np.intp]

ITEMS = 1 << 33
"""More than there are items, overrides included; keeps the requests of a batch apart."""
TELLING = 8
"""Columns of ids, and of numbers, that are looked at first."""
_CANDIDATES, _FEATURES = frozenset((CandidateRows,)), frozenset((FeatureBatch,))
_WEIGHTS = np.random.default_rng(0).integers(1, 1 << 62, TELLING, dtype=np.int64)
"""Ids are small numbers: their plain sums would often agree."""


class SharedRows(Struct, frozen=True):
    """The rows of several jobs, every different one once."""

    rows: list[JobRows]
    """Each job's rows that no job before it has; jobs without any are left out."""
    places: list[slice | Index]
    """For each job where its rows stand among those; a slice if none is another job's."""
    borrowed: list[int]
    """For each job how many of its rows are another's."""

    @property
    def duplicates(self) -> int:
        """How many rows need no scoring of their own."""
        return sum(self.borrowed)


def shared_rows(jobs: Sequence[JobRows]) -> SharedRows | None:
    """Find the rows of a batch that need no scoring of their own; None if each one does."""
    if len(jobs) == 1 or (are_named(jobs) and _are_different(jobs)):
        return None
    jobs = [looked_up(rows) for rows in jobs]
    if _are_candidates(jobs):
        first = _first_equal_candidate(jobs)
    elif _are_features(jobs):
        first = _first_equal_row(jobs)
    else:
        return None
    return None if first is None else _without_repeats(jobs, first)


def _are_different(jobs: Sequence[NamedRows]) -> bool:
    """Whether no two requests have the same user in the same context."""
    if len({rows.user_key for rows in jobs}) == len(jobs):
        return True  # nearly always
    return len({(rows.user_key, repr(rows.context)) for rows in jobs}) == len(jobs)


def _are_candidates(jobs: Sequence[JobRows]) -> TypeGuard[Sequence[CandidateRows]]:
    return _CANDIDATES.issuperset(map(type, jobs))


def _are_features(jobs: Sequence[JobRows]) -> TypeGuard[Sequence[FeatureBatch]]:
    return _FEATURES.issuperset(map(type, jobs))


def _without_repeats(jobs: Sequence[JobRows], first: Index) -> SharedRows | None:
    """Leave out every row that is not the first of its kind, as ``first`` names it."""
    kept = first == np.arange(len(first))
    if kept.all():
        return None
    place = (np.cumsum(kept) - 1)[first]  # of every row among those that are kept
    shared = SharedRows([], [], [])
    start = 0
    for rows in jobs:
        mine = slice(start, start + rows.rows)
        start = mine.stop
        own = kept[mine]
        shared.borrowed.append(rows.rows - int(np.count_nonzero(own)))
        if own.all():
            shared.rows.append(rows)
            begin = int(place[mine.start])
            shared.places.append(slice(begin, begin + rows.rows))
            continue
        if own.any():
            shared.rows.append(rows.take(np.flatnonzero(own)))
        shared.places.append(place[mine])
    return shared


def _first_equal_candidate(jobs: Sequence[CandidateRows]) -> Index | None:
    """For each candidate the first that is the same; None if all differ by user or context."""
    if len({rows.users.ids.tobytes() for rows in jobs}) == len(jobs):
        return None  # nearly always; where users have no ids their numbers tell
    if len({rows.users.ids.tobytes() + rows.users.dense.tobytes() for rows in jobs}) == len(jobs):
        return None
    if any(rows.users.rows != 1 for rows in jobs):
        return None  # several requests in one job: not worth taking apart
    numbers: dict[object, int] = {}
    requests = [numbers.setdefault(_request(rows), len(numbers)) for rows in jobs]
    if len(numbers) == len(jobs):
        return None
    offsets = np.cumsum([0, *(rows.rows for rows in jobs)])
    items = np.concatenate([rows.items for rows in jobs]).astype(np.int64)
    for rows, offset in zip(jobs, offsets, strict=False):
        for row in rows.overrides:
            items[offset + row] = -2 - (offset + row)  # described by its request: like no other
    return _first_equal(np.repeat(requests, [rows.rows for rows in jobs]) * ITEMS + items)


def _request(rows: CandidateRows) -> object:
    """Equal for rows that differ at most in their items."""
    return (id(rows.tables), _contents(rows.users), _contents(rows.contexts))


def _first_equal_row(jobs: Sequence[FeatureBatch]) -> Index | None:
    """For each row the first with the same bytes; None if all differ by their ids."""
    shapes = {tuple((n, v.shape[1:], v.dtype) for n, v in rows.inputs().items()) for rows in jobs}
    if len(shapes) > 1:
        return None  # the engine will say what is wrong
    fingerprints = np.sort(_fingerprints(jobs))
    if (fingerprints[1:] != fingerprints[:-1]).all():
        return None
    inputs = FeatureBatch.concatenate(jobs).inputs().values()
    whole = [np.ascontiguousarray(values).view(np.uint8) for values in inputs if values.size]
    contents = np.concatenate(whole, axis=1)
    return _first_equal(contents.view(np.dtype((np.void, contents.shape[1]))).ravel())


def _fingerprints(jobs: Sequence[FeatureBatch]) -> npt.NDArray[np.int64]:
    """A number for each row, equal for equal rows and rarely for others."""
    ids = np.concatenate([rows.ids[:, :TELLING] for rows in jobs])
    dense = np.concatenate([rows.dense[:, :TELLING] for rows in jobs]).view(np.int32)
    return ids @ _WEIGHTS[: ids.shape[1]] + dense @ _WEIGHTS[: dense.shape[1]]


def _first_equal(keys: npt.NDArray[np.generic]) -> Index:
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    firsts: Index = first[inverse]
    return firsts


def _contents(rows: FeatureBatch) -> tuple[bytes, ...]:
    return tuple(values.tobytes() for values in rows.inputs().values())
