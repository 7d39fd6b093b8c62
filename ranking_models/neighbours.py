"""Items that the model sees alike: candidates where nobody's likes tell any.

An item is described by what the model says of it to some probe users, in log
odds. From every number the probe user's mean is taken off, and then the item's
own, so that neither an optimist nor a bestseller is everybody's neighbour;
what is left is who likes it more than others do. Neighbours are near by the
cosine of these rows. So the same code serves every architecture and imported
graphs, and an item that nobody has seen yet has neighbours by its features.
"""

import numpy as np
import numpy.typing as npt

from ranking_models.joining import NOBODY, Tables, blocks, log_odds
from ranking_models.parity import Scorer
from ranking_models.schema import Float32, Int32

PROBE_USERS = 64

BLOCK_CELLS = 4_000_000
"""Similarities in memory at a time."""

ALIKE = 1e-6
"""Rows shorter than this are noise of rounding: the model tells no such item apart."""


def item_vectors(scorer: Scorer, tables: Tables, *, seed: int = 0) -> Float32:
    """What the model says of each item, as unit vectors.

    Returns:
        ``[items, probe users]``; the dot product of two rows is their
        similarity, -1..1. A row of zeros is an item like every other.
    """
    drawn = np.random.default_rng(seed).permutation(tables.users.rows)[:PROBE_USERS]
    users = np.append(np.sort(drawn), NOBODY)
    vectors = np.empty((tables.items.rows, len(users)), np.float32)
    for part in blocks(tables.items.rows, len(users)):
        vectors[part] = log_odds(scorer, tables, users, part).T
    vectors -= vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Float32 = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > ALIKE)
    return unit


def fill_neighbours(result: Int32, vectors: Float32) -> None:
    """Complete rows of candidates, in place, with the nearest items they do not hold yet.

    Only items of a positive similarity are neighbours; what then is open stays -1.

    Args:
        result: ``[items, size]``, filled from the left, padded with -1.
        vectors: As `item_vectors` gives them.
    """
    items, size = result.shape
    open_rows = np.flatnonzero(result[:, -1] < 0)
    step = max(1, BLOCK_CELLS // items)
    for first in range(0, len(open_rows), step):
        anchors = open_rows[first : first + step]
        near = vectors[anchors] @ vectors.T
        near[np.arange(len(anchors)), anchors] = 0.0
        row, place = np.nonzero(result[anchors] >= 0)
        near[row, result[anchors[row], place]] = 0.0
        for anchor, found in zip(anchors, _nearest(near, size), strict=True):
            held = int(np.count_nonzero(result[anchor] >= 0))
            added = found[: size - held]
            result[anchor, held : held + len(added)] = added


def _nearest(near: Float32, size: int) -> list[npt.NDArray[np.intp]]:
    """Per row, up to `size` positions of positive similarity, nearest first; ties by position."""
    found = []
    for row in near:
        positive = np.flatnonzero(row > 0)
        if len(positive) > size:
            kth = np.partition(row[positive], len(positive) - size)[len(positive) - size]
            positive = positive[row[positive] >= kth]
        found.append(positive[np.argsort(-row[positive], kind="stable")][:size])
    return found
