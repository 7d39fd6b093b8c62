"""Users that rank alike share a segment, and a segment's scores are those of its users."""

from itertools import combinations

import numpy as np
import pytest

from ranking_models.bundle.layout import check_segments
from ranking_models.joining import NOBODY, Tables, log_odds
from ranking_models.schema import Encoder, FeatureBatch, FeatureSchema, FeatureSpec, Float32
from ranking_models.segments import REPRESENTATIVES, segments_of

SCHEMA = FeatureSchema(
    features=(
        FeatureSpec(name="taste", source="user", kind="categorical", vocabulary=("a", "b", "c")),
        FeatureSpec(name="mood", source="user", kind="numeric"),
        FeatureSpec(name="kind", source="item", kind="categorical", vocabulary=("a", "b", "c")),
        FeatureSpec(name="quality", source="item", kind="numeric"),
        FeatureSpec(name="hour", source="context", kind="numeric", default=2.0),
    )
)
ITEMS = Encoder(SCHEMA.of("item")).encode_rows(
    [{"kind": "abc"[i % 3], "quality": np.sin(i)} for i in range(60)]
)
POPULARITY = np.arange(60, dtype=np.int32)


def users(tastes: str, *, seed: int = 0) -> FeatureBatch:
    """Users of these tastes who click more or less at random."""
    moods = np.random.default_rng(seed).normal(0, 2, len(tastes))
    rows = [{"taste": t, "mood": m} for t, m in zip(tastes, moods, strict=True)]
    return Encoder(SCHEMA.of("user")).encode_rows(rows)


def score(batch: FeatureBatch) -> Float32:
    """People like items of their own taste, and click by their mood on everything."""
    mood, quality, hour = batch.dense.T
    same = (batch.ids[:, 0] == batch.ids[:, 1]) & (batch.ids[:, 0] > 0)
    odds = 2.0 * same + 0.3 * quality + mood - 0.1 * hour
    return (1 / (1 + np.exp(-odds))).astype(np.float32)


def segments(tastes: str, **options):
    return segments_of(score, SCHEMA, users(tastes), ITEMS, popularity=POPULARITY, **options)


TASTES = "abc" * 20 + "aab" * 5


def test_users_of_one_taste_share_a_segment_whatever_their_mood():
    found = segments(TASTES, count=4)

    for one, other in combinations(range(len(TASTES)), 2):
        together = found.users[one] == found.users[other]
        assert together == (TASTES[one] == TASTES[other])
    assert found.figures.count == 4
    assert found.figures.explained == pytest.approx(1.0, abs=1e-6)
    sizes = np.bincount(found.users)
    assert sizes.tolist() == [0, 30, 25, 20]  # nobody known is in 0; the largest is first


def test_fewer_kinds_of_users_make_fewer_segments():
    found = segments(TASTES)

    assert found.figures.count == 4
    check_segments(found, users=len(TASTES), items=60)


@pytest.mark.parametrize("tastes", ["", "a", "ab", "aaaa"])
def test_few_users_make_few_segments(tastes):
    found = segments(tastes)

    assert found.figures.count == 1 + len(set(tastes))
    check_segments(found, users=len(tastes), items=60)


def test_one_segment_is_everybodys_and_the_missing_users():
    found = segments(TASTES, count=1)

    assert found.figures.count == 1
    assert not found.users.any()
    check_segments(found, users=len(TASTES), items=60)


def test_segment_0_has_the_missing_users_own_scores():
    found = segments(TASTES)
    tables = Tables(schema=SCHEMA, users=users(TASTES), items=ITEMS)
    exact = score(tables.join(np.full(60, NOBODY), np.arange(60)))

    np.testing.assert_allclose(found.scores[:, 0], exact, atol=1e-6)
    assert (found.representatives[0] == NOBODY).all()


def test_scores_are_the_sigmoid_of_the_representatives_mean_log_odds():
    found = segments(TASTES)
    tables = Tables(schema=SCHEMA, users=users(TASTES), items=ITEMS)

    for segment in range(1, found.figures.count):
        speakers = found.representatives[segment]
        assert (found.users[speakers] == segment).all()
        mean = log_odds(score, tables, speakers, np.arange(60)).mean(axis=0)
        np.testing.assert_allclose(found.scores[:, segment], 1 / (1 + np.exp(-mean)), atol=1e-6)


def test_a_segment_of_fewer_users_than_may_speak_pads():
    found = segments("aaaaaaaaaaa" + "bb")

    assert found.representatives.shape == (3, REPRESENTATIVES)
    assert sorted(found.representatives[2].tolist()) == [-1] * 6 + [11, 12]
    assert found.representatives[2, :2].tolist() != [-1, -1]


def test_the_same_users_are_the_same_segments_and_others_another_version():
    one, again = segments(TASTES, seed=3), segments(TASTES, seed=3)
    other = segments(TASTES[1:] + "b", seed=3)

    np.testing.assert_array_equal(one.users, again.users)
    np.testing.assert_array_equal(one.scores, again.scores)
    assert one.figures == again.figures
    assert one.figures.version != other.figures.version
    assert len(one.figures.version) == 8


def test_more_segments_explain_more_where_users_differ_by_degrees():
    random = np.random.default_rng(0)
    schema = FeatureSchema(
        features=(
            FeatureSpec(name="bend", source="user", kind="numeric"),
            FeatureSpec(name="price", source="item", kind="numeric"),
        )
    )
    bends = Encoder(schema.of("user")).encode_rows([{"bend": b} for b in random.normal(size=200)])
    prices = Encoder(schema.of("item")).encode_rows([{"price": p} for p in random.normal(size=50)])

    def by_price(batch: FeatureBatch) -> Float32:
        return (1 / (1 + np.exp(-batch.dense[:, 0] * batch.dense[:, 1]))).astype(np.float32)

    explained = [
        segments_of(
            by_price, schema, bends, prices, popularity=np.arange(50, dtype=np.int32), count=count
        ).figures.explained
        for count in (2, 4, 16)
    ]

    assert explained[0] == pytest.approx(0, abs=1e-9)
    assert explained[0] < explained[1] < explained[2] < 1
