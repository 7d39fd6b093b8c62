"""An engine that computes something else never passes."""

import numpy as np
import pytest

from ranking_models.parity import ParityFailed, check_batches, check_parity
from ranking_models.schema import FeatureBatch, Float32

ROWS = FeatureBatch(
    dense=np.linspace(0, 1, 20, dtype=np.float32)[:, None], ids=np.zeros((20, 0), np.int32)
)
REFERENCE = ROWS.dense[:, 0]


def exact(batch: FeatureBatch) -> Float32:
    return batch.dense[:, 0].copy()


def test_equal_scores_pass_with_a_difference_of_zero():
    assert check_parity(exact, ROWS, REFERENCE, tolerance=0.0, what="exact") == 0.0


def test_the_largest_difference_is_returned():
    def near(batch: FeatureBatch) -> Float32:
        return exact(batch) + np.where(batch.dense[:, 0] == 1, 0.25, 0).astype(np.float32)

    assert check_parity(near, ROWS, REFERENCE, tolerance=0.5, what="near") == 0.25


def test_one_row_beyond_the_tolerance_fails_and_is_named():
    def off(batch: FeatureBatch) -> Float32:
        scores = exact(batch)
        scores[13] += 2e-5
        return scores

    with pytest.raises(ParityFailed, match=r"off: row 13 of 20 scores .* difference 1e-05"):
        check_parity(off, ROWS, REFERENCE, tolerance=1e-5, what="off")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_score_that_is_no_number_fails_however_large_the_tolerance(bad):
    def broken(batch: FeatureBatch) -> Float32:
        scores = exact(batch)
        scores[4] = bad
        return scores

    with pytest.raises(ParityFailed, match="row 4"):
        check_parity(broken, ROWS, REFERENCE, tolerance=1e9, what="broken")


@pytest.mark.parametrize(
    "wrong",
    [lambda b: exact(b)[:-1], lambda b: exact(b)[:, None], lambda b: exact(b).astype(np.float64)],
)
def test_a_result_of_another_form_fails(wrong):
    with pytest.raises(ParityFailed, match="is due"):
        check_parity(wrong, ROWS, REFERENCE, tolerance=1.0, what="wrong")


@pytest.mark.parametrize("planted", [1, 7, 20, 50])
def test_an_error_at_one_batch_size_alone_is_found(planted):
    def broken_when(batch: FeatureBatch) -> Float32:
        return exact(batch) + np.float32(batch.rows == planted)

    with pytest.raises(ParityFailed, match=f"in batches of {planted}:"):
        check_batches(
            broken_when, ROWS, REFERENCE, sizes=(1, 7, 20, 50), tolerance=0.1, what="engine"
        )


def test_every_row_is_compared_at_every_size():
    calls: list[int] = []
    seen: dict[int, list[float]] = {}

    def counting(batch: FeatureBatch) -> Float32:
        calls.append(batch.rows)
        seen.setdefault(min(max(calls), 7), []).extend(batch.dense[:, 0].tolist())
        return exact(batch)

    worst = check_batches(counting, ROWS, REFERENCE, sizes=(1, 7, 50), tolerance=0.0, what="engine")

    assert worst == 0.0
    assert calls == [1] * 20 + [7, 7, 6] + [50]
    assert seen[1] == seen[7][:20] == REFERENCE.tolist()
