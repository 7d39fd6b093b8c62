"""The candidates of item pages, and how good they are on likes that did not make them.

Three sources in order of trust: what the same users liked (`candidates`), for
the places that leaves open what the model sees alike (`neighbours`), and for
the rest what is popular.
"""

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.candidates import co_occurring, fill_popular
from ranking_models.joining import Tables
from ranking_models.manifest import CandidateFigures
from ranking_models.neighbours import fill_neighbours, item_vectors
from ranking_models.parity import Scorer
from ranking_models.schema import Int32

SIZE = 100
"""Candidates per anchor item."""


class Likes(Struct, frozen=True, kw_only=True):
    """Who liked which item, in order of time; ``[likes]`` each."""

    user: Int32
    item: Int32


class Anchors(Struct, frozen=True, kw_only=True):
    """Candidates beside each item, and where they come from."""

    candidates: Int32
    """``[items, size]``, padded with -1."""
    shares: dict[str, float]
    """Of all candidates, by source."""


def anchors_of(
    likes: Likes, scorer: Scorer, tables: Tables, popularity: Int32, *, size: int = SIZE
) -> Anchors:
    """The candidates beside every item of the catalogue.

    Args:
        likes: What candidates may be made from: no held-out rows among them.
        scorer: The model, which has not learned from held-out rows either.
        tables: Its users and items.
        popularity: All item positions, best first.
        size: Candidates per item.
    """
    items = tables.items.rows
    candidates = co_occurring(likes.user, likes.item, items, size=size)
    return filled(candidates, scorer, tables, popularity)


def filled(candidates: Int32, scorer: Scorer, tables: Tables, popularity: Int32) -> Anchors:
    """Complete what co-occurrence left open, in place."""
    by_users = _places_filled(candidates)
    if (candidates < 0).any():
        fill_neighbours(candidates, item_vectors(scorer, tables))
    by_model = _places_filled(candidates)
    fill_popular(candidates, popularity)
    everything = _places_filled(candidates)
    of = max(everything, 1)  # a catalogue of one item has no candidates
    return Anchors(
        candidates=candidates,
        shares={
            "co-occurrence": by_users / of,
            "neighbours": (by_model - by_users) / of,
            "popularity": (everything - by_model) / of,
        },
    )


def _places_filled(candidates: Int32) -> int:
    return int(np.count_nonzero(candidates >= 0))


def candidate_figures(
    anchors: Anchors, popularity: Int32, *, earlier: Likes, held_out: Likes
) -> CandidateFigures | None:
    """Recall on held-out likes, each beside the newest earlier like of the same user.

    Args:
        anchors: Made without the held-out likes.
        popularity: All item positions, best first, by the same rows.
        earlier: The likes that candidates were made from.
        held_out: Later ones. A like of a user without an earlier one, and of
            the anchor itself, is no pair.

    Returns:
        None without a pair.
    """
    anchor, liked = _pairs(earlier, held_out)
    if not len(anchor):
        return None
    size = anchors.candidates.shape[1]
    found = (anchors.candidates[anchor] == liked[:, None]).any(axis=1)
    popular = _beside_itself(popularity, anchor, size) == liked[:, None]
    return CandidateFigures(
        size=size,
        pairs=len(anchor),
        recall=float(found.mean()),
        popularity_recall=float(popular.any(axis=1).mean()),
        shares=anchors.shares,
    )


def _pairs(earlier: Likes, held_out: Likes) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """The anchor and the liked item of each pair."""
    newest_first = earlier.user[::-1]
    users, at = np.unique(newest_first, return_index=True)
    anchor_of = earlier.item[::-1][at]
    if not len(users):
        return earlier.item, earlier.item
    place = np.minimum(np.searchsorted(users, held_out.user), len(users) - 1)
    anchor = anchor_of[place]
    pair = (users[place] == held_out.user) & (anchor != held_out.item)
    return anchor[pair], held_out.item[pair]


def _beside_itself(popularity: Int32, anchor: Int32, size: int) -> Int32:
    """The most popular `size` items beside each anchor, which is not its own candidate."""
    head = popularity[: size + 1]
    rows = np.repeat(head[None, :], len(anchor), axis=0)
    # The anchor moves to the end of the row, and falls off with it.
    order = np.argsort(rows == anchor[:, None], axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)[:, :size]
