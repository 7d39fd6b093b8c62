"""The profiles of a plan cover every number of rows exactly once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranking_models.errors import InputError
from ranking_models.tensorrt.profiles import DEFAULT_BUCKETS, row_profiles


@given(st.sets(st.integers(1, 300), min_size=1).map(sorted))
def test_every_number_of_rows_is_in_one_profile_and_its_bucket_is_the_tuned_shape(buckets):
    profiles = row_profiles(buckets)

    covered = [n for p in profiles for n in range(p.min_rows, p.max_rows + 1)]
    assert covered == list(range(1, buckets[-1] + 1))
    assert [p.opt_rows for p in profiles] == buckets


@pytest.mark.parametrize("buckets", [(), (0, 64), (-1,), (128, 64), (64, 64)])
def test_buckets_that_make_no_sense_are_refused(buckets):
    with pytest.raises(InputError, match="row bucket"):
        row_profiles(buckets)


def test_there_is_a_profile_for_each_bucket_by_default():
    assert [p.max_rows for p in row_profiles(DEFAULT_BUCKETS)] == [64, 128, 256, 512, 1024]
