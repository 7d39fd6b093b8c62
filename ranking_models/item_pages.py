"""What item pages need of a log: the items by popularity, and candidates beside each of them."""

import numpy as np
from msgspec import Struct

from ranking_models.anchors import Likes, anchors_of, candidate_figures
from ranking_models.candidates import popularity_order
from ranking_models.joining import Tables
from ranking_models.logs import Logs
from ranking_models.manifest import CandidateFigures
from ranking_models.parity import Scorer
from ranking_models.schema import Int32
from ranking_models.split import Rows


class ItemPages(Struct, frozen=True, kw_only=True):
    """What a run keeps of `ranking_models.anchors`."""

    popularity: Int32
    """Item positions, best first, ``[items]``."""
    anchors: Int32
    """Candidate positions per anchor item, ``[items, C]``, padded with -1."""
    figures: CandidateFigures | None
    """None without held-out likes of users who liked something earlier."""


def item_pages(
    logs: Logs, scorer: Scorer, tables: Tables, *, seen: Rows, held_out: Rows
) -> ItemPages:
    """Popularity and candidates from some rows, measured on the likes among others.

    Args:
        logs: All rows.
        scorer: A model that has learned from no more than `seen`.
        tables: Its users and items.
        seen: Rows that make popularity and candidates.
        held_out: Rows that only measure; none of `seen`, and none for no measurement.
    """
    popularity = popularity_order(logs.item[seen], logs.label[seen], len(logs.items.ids))
    earlier = _likes(logs, seen)
    anchors = anchors_of(earlier, scorer, tables, popularity)
    return ItemPages(
        popularity=popularity,
        anchors=anchors.candidates,
        figures=candidate_figures(
            anchors, popularity, earlier=earlier, held_out=_likes(logs, held_out)
        ),
    )


def _likes(logs: Logs, rows: Rows) -> Likes:
    liked = rows[logs.label[rows] > 0]
    liked = liked[np.argsort(logs.seconds[liked], kind="stable")]
    return Likes(user=logs.unit[liked], item=logs.item[liked])
