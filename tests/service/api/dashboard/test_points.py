"""Points: quantiles from buckets, and counts apart."""

from math import inf

import pytest

from service.api.dashboard.points import point, quantiles
from service.api.dashboard.samples import add_up


def test_a_quantile_is_read_between_two_bounds_as_prometheus_does():
    found = quantiles({0.005: 0, 0.01: 80, 0.02: 100, inf: 100})

    assert found.p50 == pytest.approx(5 + 5 * 50 / 80)
    assert found.p95 == pytest.approx(10 + 10 * 15 / 20)


def test_beyond_the_last_bound_it_is_that_bound():
    assert quantiles({1.0: 1, 2.5: 1, inf: 100}).p99 == 2500


@pytest.mark.parametrize("buckets", [{}, {0.1: 0.0, inf: 0.0}])
def test_nothing_has_no_quantile(buckets):
    assert quantiles(buckets) is None


def test_batches_fall_into_their_own_bucket_only():
    counts = {
        "podium_batch_rows_bucket": {("64.0",): 2.0, ("128.0",): 5.0, ("+Inf",): 6.0},
        "podium_batch_rows_sum": {(): 700.0},
    }

    found = point(7, counts, counts)

    assert found.batches == {"64": 2, "128": 3, "more": 1}
    assert found.rows == 700


def test_labels_that_the_page_does_not_tell_apart_are_added_up():
    counts = add_up(
        [
            {"podium_requests_total": {("exp:a", "ok"): 2.0, ("exp:b", "ok"): 1.0}},
            {"podium_requests_total": {("exp:a", "refused"): 4.0, ("exp:a", "ok"): 1.0}},
        ]
    )

    assert point(1, counts, counts).outcomes == {"ok": 4, "refused": 4}


def test_a_variant_is_told_over_ten_seconds():
    """In two, the slowest of a few requests would be the P99, and rates would jump."""
    window = {"podium_request_seconds_bucket": {("exp:a", "0.005"): 9.0, ("exp:a", "+Inf"): 9.0}}

    found = point(1, {}, window)

    assert found.variants["exp:a"].per_s == 0.9
    assert found.variants["exp:a"].ms == quantiles({0.005: 9, inf: 9})
