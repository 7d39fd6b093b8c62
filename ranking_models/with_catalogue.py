"""A bundle with other items and the same model: no training, and every graph stays as it is.

An item that is new to the model has an unknown ``item_id`` and its features;
the model was trained with some ids hidden, so that it can rank by these alone.
"""

from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from msgspec import UNSET, Struct
from msgspec.structs import replace

from ranking_models.anchors import filled
from ranking_models.bundle import Bundle, BundleContents, SegmentArrays, id_array
from ranking_models.bundle.rewriting import contents_of
from ranking_models.data import encode_table
from ranking_models.errors import InputError
from ranking_models.joining import NOBODY, Tables, log_odds
from ranking_models.log_schema import read_log_schema
from ranking_models.logs import read_entities
from ranking_models.manifest import Lineage
from ranking_models.parity import Scorer
from ranking_models.schema import ITEM_ID, USER_ID, FeatureBatch, FeatureSchema, Int32, Source
from ranking_models.segments import segment_scores

Positions = npt.NDArray[np.intp]


class Encoded(Struct, frozen=True, kw_only=True):
    """A file of items or users in the columns of a model."""

    ids: tuple[str, ...]
    features: FeatureBatch


def read_encoded(path: Path, declaration: Path, schema: FeatureSchema, source: Source) -> Encoded:
    """Read items or users and encode them as the model takes them.

    Args:
        path: The file, ``.parquet`` or ``.csv``.
        declaration: ``schema.toml``, as for training.
        schema: The model's.
        source: What the file holds.

    Raises:
        InputError: the file cannot be read, or the declared features are not
            those of the model.
    """
    declared = read_log_schema(declaration)
    wanted = {s.name: s.kind for s in schema.of(source).features}
    given = {f.name: f.kind for f in declared.features if f.source == source}
    # Ids come with the file whether or not the declaration makes features of them.
    for name in (wanted.keys() | given.keys()) - {USER_ID, ITEM_ID}:
        if wanted.get(name) != given.get(name):
            raise InputError(
                f"{declaration}: {source} feature {name!r} is {given.get(name, 'not declared')} "
                f"here and {wanted.get(name, 'none')} in the model; "
                "use the schema.toml that the model was trained with"
            )
    entities = read_entities(path, declared, source)
    encoded = encode_table(schema.of(source), entities.features, len(entities.ids) + 1)
    known = slice(0, len(entities.ids))  # without the last row, which is nobody's
    return Encoded(ids=entities.ids, features=encoded.take(known))


def with_catalogue(
    bundle: Bundle, items: Encoded, scorer: Scorer, *, created: datetime
) -> BundleContents:
    """What to write for the same model with these items and no others.

    Candidates that a kept item had stay, less those that are gone; open places
    and new items get the model's neighbours, then popular items. A new item
    stands among the popular ones where the model puts it for an unknown user.
    Segments keep their users, and score the new catalogue. The recall of the
    candidates is not known any more, and left out.

    Args:
        bundle: The model and its present catalogue.
        items: The new catalogue.
        scorer: Its fp32 graph.
        created: Now, with a time zone.
    """
    old = bundle.arrays
    ids = id_array(items.ids, "the items")
    came_from = _positions_in(old.item_ids.tolist(), items.ids)
    tables = Tables(schema=bundle.schema, users=old.users, items=items.features)
    popularity = _popularity(bundle, came_from, scorer, tables)
    candidates = filled(_kept_candidates(bundle, came_from), scorer, tables, popularity).candidates
    return replace(
        contents_of(bundle),
        created=created,
        arrays=replace(
            old,
            item_ids=ids,
            items=items.features,
            candidates=candidates,
            popularity=popularity,
        ),
        candidates=None,
        segments=_rescored(bundle.segments, scorer, tables),
        lineage=Lineage(
            method="with-catalogue",
            parent=f"{bundle.manifest.name}@{bundle.manifest.version}",
            options=_counts(bundle, items.features, came_from),
        ),
    )


def _positions_in(old: list[str], ids: tuple[str, ...]) -> Positions:
    """Where each item was, -1 for a new one."""
    position_of = {item: position for position, item in enumerate(old)}
    return np.array([position_of.get(item, -1) for item in ids], np.intp)


def _kept_candidates(bundle: Bundle, came_from: Positions) -> Int32:
    old = bundle.candidates
    now_at = np.full(len(bundle.item_ids) + 1, -1, np.int32)  # the last for the padding's -1
    kept = np.flatnonzero(came_from >= 0)
    now_at[came_from[kept]] = kept
    moved = np.full((len(came_from), old.shape[1]), -1, np.int32)
    moved[kept] = now_at[old[came_from[kept]]]
    # What is left of a row moves to its front, in its order.
    order = np.argsort(moved < 0, axis=1, kind="stable")
    return np.ascontiguousarray(np.take_along_axis(moved, order, axis=1))


def _popularity(bundle: Bundle, came_from: Positions, scorer: Scorer, tables: Tables) -> Int32:
    """Kept items in their order; a new one behind as many of them as the model puts before it."""
    items = np.arange(len(came_from))
    odds = log_odds(scorer, tables, np.array([NOBODY]), items)[0]
    rank = np.empty(len(bundle.item_ids), np.int64)
    rank[bundle.popularity] = np.arange(len(rank))
    known = came_from >= 0
    place = np.empty(len(items), np.float64)
    place[known] = np.argsort(np.argsort(rank[came_from[known]]))
    ahead = np.sort(-odds[known])
    place[~known] = np.searchsorted(ahead, -odds[~known]) - 0.5
    return np.lexsort((items, -odds, place)).astype(np.int32)


def _rescored(
    segments: SegmentArrays | None, scorer: Scorer, tables: Tables
) -> SegmentArrays | None:
    if segments is None:
        return None
    return replace(
        segments,
        scores=segment_scores(scorer, tables, segments.representatives),
        # These were measured on the catalogue before.
        figures=replace(segments.figures, modes=UNSET),
    )


def _counts(
    bundle: Bundle, items: FeatureBatch, came_from: Positions
) -> dict[str, str | int | float]:
    kept = np.flatnonzero(came_from >= 0)
    changed = np.zeros(len(kept), bool)
    old = bundle.items.inputs()
    for name, values in items.inputs().items():
        changed |= (values[kept] != old[name][came_from[kept]]).any(axis=1)
    return {
        "items": len(came_from),
        "added": int(np.count_nonzero(came_from < 0)),
        "removed": len(bundle.item_ids) - len(kept),
        "changed": int(changed.sum()),
    }
