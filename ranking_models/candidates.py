"""Item orders that need no model: by popularity, and beside an anchor item. numpy only."""

import numpy as np
import numpy.typing as npt

from ranking_models.schema import Float32, Int32

PRIOR_ROWS = 20.0
"""Rows of average luck that every item is given before its own rows count."""

HISTORY = 200
"""Newest positives of one user that count: a bot with a million clicks would
otherwise cost a million squared, and say nothing."""

DAMPING = 10.0
"""Added to the denominator of the similarity, so that two items that one user
happened to like are not each other's best neighbours."""

BLOCK_PAIRS = 2_000_000
"""Item pairs in memory at a time (int64, plus a sorted copy)."""


def popularity_order(item_positions: Int32, labels: Float32 | Int32, items: int) -> Int32:
    """All items, the one most likely to be clicked first.

    The order is by smoothed click rate: ``(clicks + m * rate) / (rows + m)``
    with the overall rate and ``m = PRIOR_ROWS``. The plain rate would put an
    item that was shown once and clicked once before everything; plain clicks
    would put what was shown most first.

    Args:
        item_positions: Catalogue position of the item of each row, ``[rows]``.
        labels: 1 where the row was clicked, else 0, ``[rows]``.
        items: Size of the catalogue.

    Returns:
        A permutation of ``0..items-1``, int32; ties by position.
    """
    rows = np.bincount(item_positions, minlength=items).astype(np.float64)
    clicks = np.bincount(item_positions, weights=labels, minlength=items)
    overall = float(clicks.sum() / rows.sum()) if len(item_positions) else 0.0
    rate = (clicks + PRIOR_ROWS * overall) / (rows + PRIOR_ROWS)
    return np.argsort(-rate, kind="stable").astype(np.int32)


def co_occurring(user_index: Int32, item_index: Int32, items: int, *, size: int) -> Int32:
    """For every item, the items that the same users liked.

    Similarity is the damped cosine ``both(i, j) / (sqrt(n_i * n_j) + DAMPING)``:
    ``both`` counts the users with both items, ``n`` those with one. Without a
    normalisation every item would be followed by the most popular ones.

    Args:
        user_index: User of each positive row, in order of time, ``[rows]``.
        item_index: Catalogue position of its item, ``[rows]``.
        items: Size of the catalogue.
        size: Candidates per anchor.

    Returns:
        Positions, int32 ``[items, size]``, most similar first (ties by
        position); distinct, never the anchor itself. Places that users did
        not fill hold -1, after all others.
    """
    users, liked = _newest_distinct(user_index, item_index, items)
    order = np.argsort(liked, kind="stable")  # rows grouped by item
    rows_of_item = np.bincount(liked, minlength=items)
    first_row = np.concatenate([[0], np.cumsum(rows_of_item)])
    size_of_user = np.bincount(users) if len(users) else np.zeros(1, np.int64)
    first_of_user = np.concatenate([[0], np.cumsum(size_of_user)])
    pairs_of_row = size_of_user[users[order]]

    result = np.full((items, size), -1, np.int32)
    for first, last in _blocks(pairs_of_row, first_row):
        rows = order[first_row[first] : first_row[last]]
        lengths = size_of_user[users[rows]]
        others = liked[_ranges(first_of_user[users[rows]], lengths)]
        anchors = np.repeat(liked[rows], lengths)
        _fill_similar(result, anchors[anchors != others], others[anchors != others], rows_of_item)
    return result


def _newest_distinct(
    user_index: Int32, item_index: Int32, items: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The newest `HISTORY` distinct items of every user, grouped by user."""
    keys = user_index.astype(np.int64)[::-1] * items + item_index[::-1]
    distinct, age = np.unique(keys, return_index=True)
    users, liked = np.divmod(distinct, items)
    newest_first = np.lexsort((age, users))
    users, liked = users[newest_first], liked[newest_first]
    starts = np.searchsorted(users, users)  # of the user's first row, for each row
    kept = np.arange(len(users)) - starts < HISTORY
    return users[kept], liked[kept]


def _blocks(
    pairs_of_row: npt.NDArray[np.int64], first_row: npt.NDArray[np.int64]
) -> list[tuple[int, int]]:
    """Ranges of anchors with up to `BLOCK_PAIRS` pairs, or of one anchor with more."""
    pairs_before = np.concatenate([[0], np.cumsum(pairs_of_row)])[first_row]
    items = len(first_row) - 1
    blocks = []
    first = 0
    while first < items:
        limit = pairs_before[first] + BLOCK_PAIRS
        last = int(np.searchsorted(pairs_before, limit, side="right")) - 1
        last = max(last, first + 1)
        blocks.append((first, last))
        first = last
    return blocks


def _ranges(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """``starts[0], starts[0] + 1, ...`` of every length, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(int(lengths.sum())) + np.repeat(starts - ends + lengths, lengths)


def _fill_similar(
    result: Int32,
    anchors: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    rows_of_item: npt.NDArray[np.int64],
) -> None:
    """Write the most similar items of the anchors of one block."""
    items, size = result.shape
    keys, both = np.unique(anchors * items + others, return_counts=True)
    anchor, other = np.divmod(keys, items)
    cosine = both / (np.sqrt(rows_of_item[anchor] * rows_of_item[other]) + DAMPING)
    best = np.lexsort((other, -cosine, anchor))
    rank = np.arange(len(best)) - np.searchsorted(anchor, anchor)
    kept = rank < size
    result[anchor[kept], rank[kept]] = other[best][kept]


def fill_popular(result: Int32, popularity: Int32) -> None:
    """Complete every row, in place, with the most popular items that it does not hold yet."""
    items, size = result.shape
    head = popularity[: 2 * size + 1]  # whatever a row holds, enough of these are left
    held = np.zeros(items, bool)
    for anchor, row in enumerate(result):
        similar = int(np.count_nonzero(row >= 0))
        if similar == size:
            continue
        taken = np.append(row[:similar], anchor)
        held[taken] = True
        fill = head[~held[head]][: size - similar]
        row[similar : similar + len(fill)] = fill
        held[taken] = False
