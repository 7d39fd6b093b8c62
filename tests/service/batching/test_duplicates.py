"""Equal rows of a batch are scored once, and nobody gets another score for it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranking_models.bundle import Bundle
from ranking_models.schema import FeatureBatch
from service.batching.duplicates import shared_rows
from service.engines.rows import CandidateRows, as_features, concatenated
from service.features import BundleFeatures
from service.messages import RankRequest, UserRef
from service.testing import FakeEngine
from tests.support.batches import CATALOGUE, candidates, random_batch
from tests.support.bundles import write_tiny_bundle

REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 2),  # user
        st.integers(0, 1),  # hour
        st.lists(st.integers(-1, CATALOGUE - 1), min_size=1, max_size=12),
        st.sampled_from([(), (), (0,)]),  # those that the caller describes
    ),
    min_size=2,
    max_size=6,
)


def scores(rows):
    return FakeEngine.expected(as_features(rows))


def check_scores(jobs, shared):
    """What every job gets is exactly what it would have got alone."""
    together = scores(concatenated(shared.rows))
    for rows, place in zip(jobs, shared.places, strict=True):
        np.testing.assert_array_equal(together[place], scores(rows))


@settings(max_examples=200, deadline=None)
@given(REQUESTS)
def test_candidates_with_the_same_user_context_and_item_are_scored_once(requests):
    jobs = [candidates(*request) for request in requests]

    shared = shared_rows(jobs)

    different = {
        (number, row) if row in described else (user, hour, item)  # described: like no other
        for number, (user, hour, items, described) in enumerate(requests)
        for row, item in enumerate(items)
    }
    rows_in_all = sum(rows.rows for rows in jobs)
    if len({(user, hour) for user, hour, *_ in requests}) == len(requests):
        assert shared is None
    else:
        assert (shared.duplicates if shared else 0) == rows_in_all - len(different)
    if shared is not None:
        assert sum(rows.rows for rows in shared.rows) == len(different)
        check_scores(jobs, shared)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=2, max_size=5))
def test_rows_with_the_same_bytes_are_scored_once(picked):
    pool = random_batch(10)
    jobs = [pool.take(np.array(rows)) for rows in picked]

    shared = shared_rows(jobs)

    different = {row for rows in picked for row in rows}
    rows_in_all = sum(len(rows) for rows in picked)
    assert (shared.duplicates if shared else 0) == rows_in_all - len(different)
    if shared is not None:
        check_scores(jobs, shared)


def test_the_same_request_twice_costs_one():
    jobs = [candidates(1, 1, range(10)), candidates(1, 1, range(10)), candidates(2, 1, range(10))]

    shared = shared_rows(jobs)

    assert [rows.rows for rows in shared.rows] == [10, 10]
    assert shared.rows[0] is jobs[0]
    assert shared.duplicates == 10
    check_scores(jobs, shared)


def test_an_item_in_other_words_is_another_row():
    jobs = [candidates(1, 1, [3, 4]), candidates(1, 1, [3, 4], overridden=[0])]

    shared = shared_rows(jobs)

    assert shared.duplicates == 1
    check_scores(jobs, shared)


@pytest.mark.parametrize("other", [candidates(2, 1, range(10)), candidates(1, 2, range(10))])
def test_another_user_or_context_shares_nothing(other):
    assert shared_rows([candidates(1, 1, range(10)), other]) is None


def test_rows_of_several_users_in_one_job_are_not_taken_for_one_users():
    several = CandidateRows.concatenate([candidates(1, 1, [3]), candidates(2, 1, [3])])
    jobs = [several, candidates(3, 1, [4]), candidates(3, 1, [4])]

    assert shared_rows(jobs) is None


def test_a_lone_request_is_not_even_looked_at():
    assert shared_rows([candidates(1, 1, [3, 3])]) is None


def test_rows_of_two_forms_are_left_as_they_are():
    assert shared_rows([candidates(1, 1, [3]), as_features(candidates(1, 1, [3]))]) is None


def test_equal_ids_alone_do_not_make_equal_rows():
    rows = random_batch(4)
    other = FeatureBatch(dense=rows.dense + 1, ids=rows.ids, multi=rows.multi)

    assert shared_rows([rows, other]) is None


def test_rows_without_ids_are_compared_by_their_numbers():
    rows = FeatureBatch(dense=random_batch(4).dense, ids=np.zeros((4, 0), np.int32))

    shared = shared_rows([rows, rows.take(slice(1, 3))])

    assert shared.duplicates == 2
    np.testing.assert_array_equal(shared.places[1], [1, 2])


def test_rows_that_do_not_fit_together_are_left_to_the_engine():
    odd = FeatureBatch(dense=np.zeros((2, 3), np.float32), ids=np.zeros((2, 2), np.int32))

    assert shared_rows([random_batch(3), odd]) is None


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return BundleFeatures(Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles"))))


def asked(*items, user="u1", **context):
    return RankRequest(candidates=items, user=UserRef(id=user), context=context)


@pytest.mark.parametrize(
    ("other", "duplicates"),
    [
        (asked("i2", "i3"), 2),
        (asked("i5", "i2"), 1),
        (asked("i1", "i2", "i3", user="u2"), 0),
        (asked("i1", "i2", "i3", device="ios"), 0),
        (asked("i4"), 0),
    ],
)
def test_requests_that_are_still_to_be_looked_up_share_their_rows(features, other, duplicates):
    requests = (asked("i1", "i2", "i3"), other, asked("i9", user="u3"))

    shared = shared_rows([features.named(request) for request in requests])

    assert (shared.duplicates if shared else 0) == duplicates
    if shared is not None:
        check_scores([features.rows(features.encode(request)) for request in requests], shared)


def test_users_whom_nobody_knows_are_the_same_user(features):
    jobs = [features.named(asked("i1", "i2", user=name)) for name in ("nobody", "no one")]

    assert shared_rows(jobs).duplicates == 2


def test_a_request_with_features_of_its_own_shares_with_one_that_is_looked_up(features):
    named = features.named(asked("i1", "i2"))
    brought = features.rows(features.encode(asked("i2", "i1")))

    assert shared_rows([named, brought]).duplicates == 2
