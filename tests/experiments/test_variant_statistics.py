from collections import Counter

import msgspec
import numpy as np
import pytest
from scipy import stats

from experiments.assignment import bucket
from experiments.events import Arm, Event, Exposure, Feedback, unit_digest
from experiments.stats.quantile import bucket_of
from experiments.variant_statistics import CELLS, VariantStatistics, cell_of, increments

ARM = Arm("demo", 1, "a", unit_digest("u42"))
EXPOSURE = Exposure(
    slate_id="s1",
    arms=(ARM,),
    at=0.0,
    latency_ms=4.0,
    candidates=100,
    cache_hits=87,
    cache_misses=13,
    cache_result="partial",
    engine="onnxruntime-cpu",
    degraded=None,
    config_digest="0123456789abcdef",
)


def feedback(kind: str, unit: str = "u42") -> tuple[Feedback, Arm]:
    arm = Arm("demo", 1, "a", unit_digest(unit))
    event = Feedback(
        event_id="e", kind=kind, slate_id="s1", item_id="i1", position=1, at=0.0, arms=(arm,)
    )
    return event, arm


def summed(*events: tuple[Event, Arm]) -> VariantStatistics:
    fields: Counter[str] = Counter()
    for event, arm in events:
        fields.update(increments(event, arm))
    return VariantStatistics.from_fields(fields)


def test_an_exposure_raises_named_integers():
    assert increments(EXPOSURE, ARM) == {
        "exposures": 1,
        "candidates": 100,
        "cache_hits": 87,
        "cache_misses": 13,
        f"l{bucket_of(4.0)}": 1,
        "cache:partial": 1,
        "engine:onnxruntime-cpu": 1,
    }


def test_a_degraded_exposure_says_why():
    degraded = msgspec.structs.replace(EXPOSURE, degraded="popularity")

    assert increments(degraded, ARM)["degraded:popularity"] == 1


def test_impressions_and_clicks_count_in_total_and_in_the_cell_of_the_unit():
    cell = cell_of(unit_digest("u42"))

    assert increments(*feedback("impression")) == {"impressions": 1, f"i{cell}": 1}
    assert increments(*feedback("click")) == {"clicks": 1, f"c{cell}": 1}


@pytest.mark.parametrize(
    ("result", "cached"),
    [("hit", True), ("stale", True), ("partial", False), ("miss", False), ("bypass", False)],
)
def test_latencies_are_kept_by_whether_the_cache_answered_alone(result, cached):
    sums = summed((msgspec.structs.replace(EXPOSURE, cache_result=result), ARM))

    assert sums.cached_latency == ({bucket_of(4.0): 1} if cached else {})
    assert sums.computed_latency == ({} if cached else {bucket_of(4.0): 1})
    assert sums.latency == {bucket_of(4.0): 1}


def test_sums_come_back_from_the_fields():
    sums = summed(
        (EXPOSURE, ARM),
        (EXPOSURE, ARM),
        (msgspec.structs.replace(EXPOSURE, cache_result="hit", degraded="stale"), ARM),
        feedback("impression"),
        feedback("impression"),
        feedback("impression", "u7"),
        feedback("click", "u7"),
    )

    assert (sums.users, sums.exposures, sums.impressions, sums.clicks) == (0, 3, 3, 1)
    assert (sums.candidates, sums.cache_hits, sums.cache_misses) == (300, 261, 39)
    assert sums.cache_results == {"partial": 2, "hit": 1}
    assert sums.engines == {"onnxruntime-cpu": 3}
    assert sums.degraded == {"stale": 1}
    assert sums.cell_impressions[cell_of(unit_digest("u42"))] == 2
    assert sums.cell_impressions.sum() == 3
    assert sums.cell_clicks[cell_of(unit_digest("u7"))] == 1
    assert sums.ctr_sample.ratio == pytest.approx(1 / 3)


def test_the_store_adds_users():
    assert VariantStatistics.from_fields({"users": 7}).users == 7


def test_nothing_yet_is_all_zero():
    nothing = VariantStatistics.from_fields({})

    assert nothing.exposures == nothing.impressions == nothing.clicks == 0
    assert nothing.cell_impressions.shape == nothing.cell_clicks.shape == (CELLS,)


def test_fields_of_a_newer_version_are_left_out():
    fields = {"exposures": 1, "conversions": 5, "llama": 1, "cost:gpu": 3, "": 1}

    assert VariantStatistics.from_fields(fields).exposures == 1


def test_the_order_of_events_does_not_matter():
    events = [
        (EXPOSURE, ARM),
        feedback("click", "u1"),
        feedback("impression", "u2"),
        feedback("impression", "u1"),
    ]

    one, other = summed(*events), summed(*reversed(events))

    assert np.array_equal(one.cell_clicks, other.cell_clicks)
    assert np.array_equal(one.cell_impressions, other.cell_impressions)
    assert one.latency == other.latency


def test_units_fill_the_cells_evenly():
    counts = np.bincount([cell_of(unit_digest(f"u{n}")) for n in range(100_000)], minlength=CELLS)

    assert counts.shape == (CELLS,)
    assert stats.chisquare(counts).pvalue > 0.001


def test_a_cell_says_nothing_about_the_variant():
    table = np.zeros((16, 10))
    for number in range(50_000):
        cell = cell_of(unit_digest(f"u{number}"))
        table[cell * 16 // CELLS][bucket(f"u{number}", "demo.split") // 1_000_000] += 1

    assert stats.chi2_contingency(table).pvalue > 0.001


def test_the_size_does_not_grow_with_the_number_of_users():
    fields: Counter[str] = Counter()
    rng = np.random.default_rng(1)
    for number in range(30_000):
        latency = float(rng.lognormal(1, 3))
        arm = Arm("demo", 1, "a", unit_digest(f"u{number}"))
        fields.update(increments(msgspec.structs.replace(EXPOSURE, latency_ms=latency), arm))
        for kind in ("impression", "click"):
            fields.update(increments(*feedback(kind, f"u{number}")))

    assert len(fields) < 2 * CELLS + 2 * 1012 + 30
