"""Users in groups that rank alike, so that a cached score can serve more than one of them.

A user is described by what the model says, not by what it is made of: the log
odds of some probe items, half of them the most popular, half drawn from the
rest. So it works for every architecture and for imported graphs. The user's
own level, the mean of these log odds, is taken off first, since it changes the
order of no list; k-means groups what is left.

Segment 0 has no known user. It is for everybody who is not in the bundle's
table: anonymous visitors are the traffic that a cache serves best, and a
segment of their own keeps their scores exact.
"""

import warnings

import numpy as np
import numpy.typing as npt
from msgspec import Struct
from scipy.cluster.vq import kmeans2, vq

from ranking_models.bundle.layout import segment_version
from ranking_models.bundle.parts import SegmentArrays
from ranking_models.joining import NOBODY, Tables, blocks, log_odds
from ranking_models.manifest import Segments
from ranking_models.parity import Scorer
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32, Int32

SEGMENTS = 16
"""With segment 0. A cached row of so many float32 scores is 64 bytes."""

PROBES = 128

REPRESENTATIVES = 8
"""Users that speak for a segment: a row is refreshed by scoring these, not all members."""

GROUPED_USERS = 20_000
"""Users that k-means learns from, drawn at random; all others join the nearest centre."""

STARTS = 4
"""Times that k-means starts afresh; the tightest grouping stays."""

ITERATIONS = 50

ALIKE = 0.01
"""Root mean square difference of two centres, in log odds, that is no reason for two segments:
scores are float32, and near 1 their log odds are not known better than that."""

Float64 = npt.NDArray[np.float64]


class _Grouping(Struct, frozen=True):
    of_user: Int32
    distance: Float64
    """Squared, from the user to its centre."""
    total: float
    """Sum of the squared distances of all users to their common mean."""


def segments_of(
    scorer: Scorer,
    schema: FeatureSchema,
    users: FeatureBatch,
    items: FeatureBatch,
    *,
    popularity: Int32,
    count: int = SEGMENTS,
    seed: int = 0,
) -> SegmentArrays:
    """Group the users and score every item for every group.

    Args:
        scorer: The reference model.
        schema: Its features.
        users: Encoded, one row per user, with the columns of ``schema.of("user")``.
        items: Likewise for the items.
        popularity: Item positions, the most popular first.
        count: Segments wanted, segment 0 among them. There are fewer where
            fewer users differ in how they rank.
        seed: Of every draw; the same arguments give the same segments.
    """
    tables = Tables(schema=schema, users=users, items=items)
    random = np.random.default_rng(seed)
    probes = _probes(popularity, random)
    grouping = _group(scorer, tables, probes, groups=count - 1, random=random)
    representatives = _representatives(grouping)
    total = grouping.total
    explained = 1 - float(grouping.distance.sum()) / total if total > 0 else 1.0
    return SegmentArrays(
        users=grouping.of_user,
        representatives=representatives,
        scores=segment_scores(scorer, tables, representatives),
        figures=Segments(
            count=len(representatives),
            version=segment_version(grouping.of_user),
            probes=len(probes),
            explained=min(max(explained, 0.0), 1.0),
        ),
    )


def segment_scores(scorer: Scorer, tables: Tables, representatives: Int32) -> Float32:
    """The sigmoid of the representatives' mean log odds, ``[items, segments]``.

    Log odds are averaged, since the mean of probabilities is ruled by the
    users who click most.
    """
    segments, places = representatives.shape
    speaks = representatives >= 0
    speaks[:, 0] = True  # nobody at all is the missing user
    speakers = representatives[speaks]
    segment = np.repeat(np.arange(segments), speaks.sum(axis=1))
    scores = np.empty((tables.items.rows, segments), np.float32)
    for part in blocks(tables.items.rows, segments * places):
        odds = log_odds(scorer, tables, speakers, part)
        sums = np.zeros((segments, len(part)))
        np.add.at(sums, segment, odds)
        scores[part] = (1 / (1 + np.exp(-sums / speaks.sum(axis=1)[:, None]))).T
    return scores


def _probes(popularity: Int32, random: np.random.Generator) -> Int32:
    """Half popular items, on which users' scores differ often; half of the rest."""
    head, tail = popularity[: PROBES // 2], popularity[PROBES // 2 :]
    drawn = random.choice(tail, min(PROBES - PROBES // 2, len(tail)), replace=False)
    return np.concatenate([head, drawn])


def _group(
    scorer: Scorer, tables: Tables, probes: Int32, *, groups: int, random: np.random.Generator
) -> _Grouping:
    """The segment of every user, from 1 on, the largest first; 0 where there are no groups."""
    users = tables.users.rows
    if not users or groups < 1:
        return _Grouping(np.zeros(users, np.int32), np.zeros(users), 0.0)
    learned_from = np.sort(random.permutation(users)[:GROUPED_USERS])
    points = _described(scorer, tables, learned_from, probes)
    centres = _centres(points, groups, random)
    mean = points.mean(axis=0)
    nearest, distance, total = np.empty(users, np.int64), np.empty(users), 0.0
    for part in blocks(users, len(probes)):
        described = _described(scorer, tables, part, probes)
        nearest[part], away = vq(described, centres)
        distance[part] = away**2
        total += float(((described - mean) ** 2).sum())
    return _Grouping(_by_size(nearest), distance, total)


def _described(scorer: Scorer, tables: Tables, users: npt.NDArray[np.intp], at: Int32) -> Float64:
    odds = log_odds(scorer, tables, users, at)
    level: Float64 = odds.mean(axis=1, keepdims=True)
    return odds - level


def _centres(points: Float64, groups: int, random: np.random.Generator) -> Float64:
    """The centres of the tightest of `STARTS` groupings; fewer where users hardly differ."""
    different = np.unique(points, axis=0)
    if len(different) <= groups:
        return _apart(different)
    found = [_k_means(points, groups, random) for _ in range(STARTS)]
    return _apart(min(found, key=lambda centres: float((vq(points, centres)[1] ** 2).sum())))


def _apart(centres: Float64) -> Float64:
    """The centres without those that are `ALIKE` an earlier one."""
    kept: list[Float64] = []
    for centre in centres:
        if all(np.sqrt(np.mean((centre - other) ** 2)) > ALIKE for other in kept):
            kept.append(centre)
    return np.stack(kept)


def _k_means(points: Float64, groups: int, random: np.random.Generator) -> Float64:
    """One run from centres spread by k-means++ (Arthur and Vassilvitskii 2007)."""
    with warnings.catch_warnings():
        # A group may lose all its users. It keeps its old centre, and `_by_size` drops it.
        warnings.filterwarnings("ignore", message="One of the clusters is empty")
        centres, _ = kmeans2(points, groups, iter=ITERATIONS, minit="++", rng=random)
    return np.asarray(centres)


def _by_size(nearest: npt.NDArray[np.int64]) -> Int32:
    """Segments from 1 on, those with most users first; a centre without users gets none."""
    sizes = np.bincount(nearest)
    order = np.argsort(-sizes, kind="stable")
    segment = np.empty(len(sizes), np.int32)
    segment[order] = np.arange(1, len(sizes) + 1)
    return segment[nearest]


def _representatives(grouping: _Grouping) -> Int32:
    """The users nearest to each centre, ``[segments, REPRESENTATIVES]``; ties by position."""
    segments = 1 + int(grouping.of_user.max(initial=0))
    found = np.full((segments, REPRESENTATIVES), NOBODY, np.int32)
    for segment in range(1, segments):
        members = np.flatnonzero(grouping.of_user == segment)
        nearest = np.argsort(grouping.distance[members], kind="stable")[:REPRESENTATIVES]
        found[segment, : len(nearest)] = members[nearest]
    return found
