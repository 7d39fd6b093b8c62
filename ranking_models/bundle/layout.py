"""Which files a bundle has, and what must hold between them.

Writer and reader share these rules: what `check_arrays` lets through can be
loaded, and nothing else is ever written.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.bundle.parts import SegmentArrays
from ranking_models.errors import BundleError
from ranking_models.manifest import ExactSplit, Segments, Variant
from ranking_models.schema import FeatureBatch, FeatureSchema, FeatureSpec, Float32, Int32

Ids = npt.NDArray[np.str_]

MANIFEST = "manifest.json"
CANDIDATES = "candidates.npy"
POPULARITY = "popularity.npy"
GOLDEN = "golden.npz"
ITEM_IDS = "catalogue/item_ids.npy"
USER_IDS = "users/user_ids.npy"
SPLIT = {"user": "split/user.onnx", "item": "split/item.onnx", "row": "split/row.onnx"}
SEGMENT_USERS = "segments/users.npy"
SEGMENT_REPRESENTATIVES = "segments/representatives.npy"
SEGMENT_SCORES = "segments/scores.npy"

MAX_ID_CHARS = 256
"""Requests cannot name longer ids, and one long id widens the whole array."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Model names: one folder, no ``@``, nothing hidden."""

_UNSAFE = re.compile(r"[/\\\x00-\x1f]")
_GRAPH = re.compile(r"ranker\.[a-z0-9-]+\.onnx")

_ITEMS_AT_ONCE = 65_536


class BundleArrays(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of a bundle; row ``i`` of ``items`` belongs to ``item_ids[i]``.

    Shapes:
        ``items`` has the columns of ``schema.of("item")``, ``users`` those of
        ``schema.of("user")``, ``golden`` all of them. ``candidates`` is int32
        ``[items, C]`` padded with -1, ``popularity`` int32 ``[items]``,
        ``golden_scores`` float32 ``[golden.rows]``.
    """

    item_ids: Ids
    items: FeatureBatch
    user_ids: Ids
    users: FeatureBatch
    candidates: Int32
    popularity: Int32
    golden: FeatureBatch
    golden_scores: Float32


def id_array(ids: Sequence[str], file: str) -> Ids:
    """Ids as the fixed-width text array that a bundle keeps."""
    for text in ids:
        if not text or len(text) > MAX_ID_CHARS or "\0" in text:
            shown = f"{text[:40]!r}{'...' if len(text) > 40 else ''}"
            limit = f"ids have 1 to {MAX_ID_CHARS} characters and no NUL"
            raise BundleError(file, f"the id {shown} cannot be kept: {limit}; rename it")
    return np.array(ids, dtype=np.str_)


def table_files(folder: str, schema: FeatureSchema) -> dict[str, str]:
    """The files of one table's features, by the name of the input they belong to."""
    return {name: f"{folder}/{name}.npy" for name in schema.inputs}


def bundle_files(
    schema: FeatureSchema,
    precisions: Mapping[str, Variant],
    *,
    split: ExactSplit | None,
    segments: Segments | None,
) -> set[str]:
    """Every file of a bundle but the manifest, as POSIX paths relative to it.

    Raises:
        BundleError: the reference graph is missing, or a feature or graph has
            a name that cannot be a file's.
    """
    if "fp32" not in precisions:
        raise BundleError(MANIFEST, "names no fp32 graph, which every other one is compared with")
    for spec in schema.multi:
        if _UNSAFE.search(spec.name) or len(spec.name.encode()) > 200:
            reason = f"the multi-valued feature {spec.name!r} cannot be a file name; rename it"
            raise BundleError(MANIFEST, reason)
    for variant in precisions.values():
        if not _GRAPH.fullmatch(variant.file):
            reason = f"the graph {variant.file!r} is not of the form ranker.<precision>.onnx"
            raise BundleError(MANIFEST, reason)
    return {
        ITEM_IDS,
        USER_IDS,
        CANDIDATES,
        POPULARITY,
        GOLDEN,
        *table_files("catalogue", schema.of("item")).values(),
        *table_files("users", schema.of("user")).values(),
        *(variant.file for variant in precisions.values()),
        *(SPLIT.values() if split else ()),
        *((SEGMENT_USERS, SEGMENT_REPRESENTATIVES, SEGMENT_SCORES) if segments else ()),
    }


def check_arrays(schema: FeatureSchema, arrays: BundleArrays) -> None:
    """Refuse arrays that do not fit the schema or each other.

    Raises:
        BundleError: with the relative name of the file that is wrong.
    """
    catalogue = table_files("catalogue", schema.of("item"))
    users = table_files("users", schema.of("user"))
    golden = dict.fromkeys([*arrays.golden.inputs(), *schema.inputs], GOLDEN)
    _check_ids(arrays.item_ids, ITEM_IDS)
    _check_ids(arrays.user_ids, USER_IDS)
    items = len(arrays.item_ids)
    _require(items > 0, ITEM_IDS, "the catalogue holds no item")
    _check_features(arrays.items, schema.of("item"), rows=items, files=catalogue)
    _check_features(arrays.users, schema.of("user"), rows=len(arrays.user_ids), files=users)
    _check_popularity(arrays.popularity, items)
    _check_candidates(arrays.candidates, items)
    _require(arrays.golden.rows > 0, GOLDEN, "holds no rows")
    _check_features(arrays.golden, schema, rows=arrays.golden.rows, files=golden)
    _check_scores(arrays.golden_scores, arrays.golden.rows)


def segment_version(users: Int32) -> str:
    """8 hex digits over the segment of each user."""
    return hashlib.sha256(np.ascontiguousarray(users, "<i4").tobytes()).hexdigest()[:8]


def check_segments(segments: SegmentArrays, *, users: int, items: int) -> None:
    """Refuse segments that do not fit the users, the catalogue or each other.

    Raises:
        BundleError: with the relative name of the file that is wrong.
    """
    count = segments.figures.count
    _require(count > 0, MANIFEST, "says that there are no segments, but segment 0 is always there")
    of_user, speakers = segments.users, segments.representatives
    _check_shape(of_user, np.int32, (users,), SEGMENT_USERS)
    inside = users == 0 or (of_user.min() >= 0 and of_user.max() < count)
    _require(bool(inside), SEGMENT_USERS, f"holds segments outside 0..{count - 1}")
    right = segment_version(of_user) == segments.figures.version
    _require(right, SEGMENT_USERS, "is not the map that the manifest's segment version names")
    width = speakers.shape[1] if speakers.ndim == 2 else 0
    _check_shape(speakers, np.int32, (count, max(width, 1)), SEGMENT_REPRESENTATIVES)
    inside = speakers.min() >= -1 and speakers.max() < users
    _require(bool(inside), SEGMENT_REPRESENTATIVES, f"holds positions outside -1..{users - 1}")
    segment, place = np.nonzero(speakers >= 0)
    at_home = np.array_equal(of_user[speakers[segment, place]], segment)
    _require(at_home, SEGMENT_REPRESENTATIVES, "names a user of another segment")
    _check_shape(segments.scores, np.float32, (items, count), SEGMENT_SCORES)
    _check_probabilities(segments.scores, SEGMENT_SCORES)


def _require(holds: bool, file: str, reason: str) -> None:
    if not holds:
        raise BundleError(file, f"{reason}; export the run again")


def _check_shape(
    array: npt.NDArray[np.generic], dtype: type[np.generic], shape: tuple[int, ...], file: str
) -> None:
    got, wanted = f"{array.dtype} {list(array.shape)}", f"{np.dtype(dtype)} {list(shape)}"
    fits = array.dtype == dtype and array.shape == shape
    _require(fits, file, f"holds {got} where the schema and the catalogue ask for {wanted}")
    _require(bool(array.flags.c_contiguous), file, "is not in C order")


def _check_ids(ids: Ids, file: str) -> None:
    is_text = ids.dtype.kind == "U" and ids.dtype.isnative and ids.ndim == 1
    _require(is_text, file, f"holds {ids.dtype} {list(ids.shape)}, not one text per row")
    _require(len(set(ids.tolist())) == len(ids), file, "holds an id twice")


def _check_features(
    batch: FeatureBatch, schema: FeatureSchema, *, rows: int, files: Mapping[str, str]
) -> None:
    _check_shape(batch.dense, np.float32, (rows, len(schema.dense)), files["dense"])
    _require(bool(np.isfinite(batch.dense).all()), files["dense"], "holds NaN or infinity")
    _check_shape(batch.ids, np.int32, (rows, len(schema.ids)), files["ids"])
    for column, spec in enumerate(schema.ids):
        _check_known(batch.ids[:, column], spec, files["ids"])
    multi = tuple(spec.name for spec in schema.multi)
    _require(set(batch.multi) == set(multi), files["ids"], f"multi-valued inputs are not {multi}")
    for spec in schema.multi:
        file = files[f"multi_{spec.name}"]
        _check_shape(batch.multi[spec.name], np.int32, (rows, spec.max_length), file)
        _check_known(batch.multi[spec.name], spec, file)


def _check_known(values: Int32, spec: FeatureSpec, file: str) -> None:
    last = spec.last_id
    inside = values.size == 0 or (values.min() >= 0 and values.max() <= last)
    _require(bool(inside), file, f"feature {spec.name!r} has ids outside 0..{last}")


def _check_popularity(popularity: Int32, items: int) -> None:
    _check_shape(popularity, np.int32, (items,), POPULARITY)
    is_permutation = np.array_equal(np.sort(popularity), np.arange(items))
    _require(is_permutation, POPULARITY, "does not name every item once")


def _check_candidates(candidates: Int32, items: int) -> None:
    width = candidates.shape[1] if candidates.ndim == 2 else 0
    _check_shape(candidates, np.int32, (items, max(width, 1)), CANDIDATES)
    # Slice by slice: sorted copies of the candidates of a million items would take a gigabyte.
    for start in range(0, items, _ITEMS_AT_ONCE):
        _check_neighbours(candidates[start : start + _ITEMS_AT_ONCE], start, items)


def _check_neighbours(candidates: Int32, start: int, items: int) -> None:
    inside = candidates.min() >= -1 and candidates.max() < items
    _require(bool(inside), CANDIDATES, f"holds positions outside -1..{items - 1}")
    itself = (candidates == np.arange(start, start + len(candidates))[:, None]).any()
    _require(not itself, CANDIDATES, "holds an item as its own candidate")
    ordered = np.sort(candidates, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    _require(not twice.any(), CANDIDATES, "holds a candidate twice for one item")


def _check_scores(scores: Float32, rows: int) -> None:
    _check_shape(scores, np.float32, (rows,), GOLDEN)
    _check_probabilities(scores, GOLDEN)


def _check_probabilities(scores: Float32, file: str) -> None:
    inside = np.isfinite(scores).all() and scores.min() >= 0 and scores.max() <= 1
    _require(bool(inside), file, "holds scores outside 0..1")
