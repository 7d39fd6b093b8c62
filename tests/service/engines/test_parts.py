"""The rows of a batch come out as engines ask for them, each row once and in order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from service.engines.parts import Parts
from tests.support.batches import random_batch


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_any_rows_are_those_of_the_whole_batch(sizes, data):
    jobs = [random_batch(rows, seed=seed) for seed, rows in enumerate(sizes)]
    parts = Parts(jobs)
    chosen = data.draw(st.sets(st.integers(0, sum(sizes) - 1), min_size=1))
    rows = np.array(sorted(chosen))

    some = parts.some(rows, candidates=False)

    whole = parts.all(candidates=False)
    for name, values in whole.take(rows).inputs().items():
        np.testing.assert_array_equal(some.inputs()[name], values)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_every_row_belongs_to_the_job_whose_span_it_is_in(sizes):
    parts = Parts([random_batch(rows) for rows in sizes])

    job_of_row = parts.job_of(np.arange(parts.rows))

    for job in range(len(sizes)):
        assert set(job_of_row[parts.span(job)].tolist()) == {job}
    assert parts.rows == sum(sizes)


def test_the_batch_is_put_together_once():
    parts = Parts([random_batch(2), random_batch(3)])

    assert parts.all(candidates=True) is parts.all(candidates=False)
