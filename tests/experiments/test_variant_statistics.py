from collections import Counter

import msgspec
import numpy as np
import pytest
from scipy import stats

from experiments.assignment import bucket
from experiments.comparison import Comparison, comparison_sums
from experiments.definition import INTERLEAVED
from experiments.events import Arm, Event, Exposure, Feedback, Lapse, unit_digest
from experiments.stats.geometric import geometric_mean
from experiments.stats.quantile import bucket_of
from experiments.variant_statistics import (
    CELLS,
    MISTAKES,
    VariantStatistics,
    cell_of,
    increments,
    is_click,
)

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
    compute_ms=1.25,
    queue_ms=0.5,
    predictions=13,
)
CELL = cell_of(ARM.unit)


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
        "predictions": 13,
        "compute_us": 1250,
        "queue_us": 500,
        f"l{bucket_of(4.0)}": 1,
        f"on:onnxruntime-cpu:{bucket_of(4.0)}": 1,
        "cache:partial": 1,
        "engine:onnxruntime-cpu": 1,
        f"n{CELL}": 1,
        f"g{CELL}": 1_386_294,
        f"m{CELL}": 1,
        f"k{CELL}": 1_386_294,
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

        slow = Lapse(arms=(arm,), at=0.0, code="deadline_passed", latency_ms=latency)
        fields.update(increments(slow, arm))

    assert len(fields) < 7 * CELLS + 2 * 1012 + 30


def test_the_mean_log_latency_is_kept_by_cell_of_all_and_of_computed_slates():
    hit = msgspec.structs.replace(EXPOSURE, cache_result="hit", latency_ms=0.5)
    sums = summed((EXPOSURE, ARM), (hit, ARM))

    assert sums.latency_sample.log_sum[CELL] == pytest.approx(np.log(4.0) + np.log(0.5), abs=1e-6)
    assert sums.latency_sample.slates[CELL] == 2
    assert sums.computed_latency_sample.log_sum[CELL] == pytest.approx(np.log(4.0), abs=1e-6)
    assert sums.computed_latency_sample.slates[CELL] == 1


def test_a_latency_of_nothing_counts_as_the_shortest_there_is():
    sums = summed((msgspec.structs.replace(EXPOSURE, latency_ms=0.0), ARM))

    assert sums.latency_sample.log_sum[CELL] == pytest.approx(np.log(0.001))


def test_a_geometric_mean_comes_out_of_the_sums():
    rng = np.random.default_rng(3)
    events = [
        (
            msgspec.structs.replace(EXPOSURE, latency_ms=float(ms)),
            Arm("demo", 1, "a", unit_digest(str(n))),
        )
        for n, ms in enumerate(rng.lognormal(2, 0.4, 400))
    ]

    assert geometric_mean(summed(*events).latency_sample).value == pytest.approx(
        stats.gmean([event.latency_ms for event, _ in events]), rel=1e-6
    )


def test_computed_latencies_are_kept_by_engine():
    slow = msgspec.structs.replace(EXPOSURE, engine="popularity", latency_ms=50.0)
    hit = msgspec.structs.replace(EXPOSURE, cache_result="hit")

    assert summed((EXPOSURE, ARM), (slow, ARM), (hit, ARM)).engine_latency == {
        "onnxruntime-cpu": {bucket_of(4.0): 1},
        "popularity": {bucket_of(50.0): 1},
    }


def lapse(code: str) -> tuple[Lapse, Arm]:
    return Lapse(arms=(ARM,), at=0.0, code=code, latency_ms=1.0), ARM


def test_lapses_count_by_code_and_failures_by_cell():
    sums = summed((EXPOSURE, ARM), lapse("queue_full"), lapse("queue_full"), lapse("cancelled"))

    assert sums.lapses == 3
    assert sums.lapse_codes == {"queue_full": 2, "cancelled": 1}
    assert (sums.exposures, sums.clicks, sums.latency_sample.slates.sum()) == (1, 0, 1)
    assert sums.failure_sample.rate == 0.75


@pytest.mark.parametrize("code", sorted(MISTAKES))
def test_a_callers_own_mistake_is_a_lapse_but_no_failure(code):
    sums = summed((EXPOSURE, ARM), lapse(code))

    assert (sums.lapses, sums.failure_sample.rate) == (1, 0.0)


def test_degraded_and_fallback_rates_come_out_of_the_sums():
    other = msgspec.structs.replace(EXPOSURE, degraded="fallback_engine")
    popular = msgspec.structs.replace(EXPOSURE, degraded="popularity")
    sums = summed((EXPOSURE, ARM), (EXPOSURE, ARM), (other, ARM), (popular, ARM))

    assert sums.degraded_sample.rate == 0.5
    assert sums.fallback_sample.rate == 0.25


def test_what_is_late_counts_as_late_and_as_nothing_else():
    late = msgspec.structs.replace(feedback("click")[0], late=True)
    sums = summed((late, ARM), (msgspec.structs.replace(late, kind="impression"), ARM))

    assert (sums.late, sums.clicks, sums.impressions) == (2, 0, 0)
    assert not is_click(late)


def test_clicks_on_an_interleaved_slate_are_credited_to_the_team_of_the_item():
    arm = msgspec.structs.replace(ARM, variant=INTERLEAVED)
    click = feedback("click")[0]
    sums = summed(
        (msgspec.structs.replace(click, team="a"), arm),
        (msgspec.structs.replace(click, team="b.2"), arm),
        (msgspec.structs.replace(click, team="b.2"), arm),
        (msgspec.structs.replace(click, kind="impression", team="b.2"), arm),
    )

    assert {team: wins[CELL] for team, wins in sums.team_wins.items()} == {"a": 1, "b.2": 2}
    assert sums.clicks == 3


def test_another_experiment_of_the_slate_knows_nothing_of_its_teams():
    click = msgspec.structs.replace(feedback("click")[0], team="a")

    assert summed((click, ARM)).team_wins == {}


def test_comparisons_are_kept_under_names_of_their_own():
    compared = Comparison(
        experiment="demo",
        phase=1,
        variant="a",
        reference="b",
        at=0.0,
        overlap=0.9,
        kendall_tau=None,
        drift_max=0.0,
        drift_mean=0.0,
        latency_ms=1.0,
        reference_latency_ms=None,
        unit=ARM.unit,
    )
    sums = summed((compared, ARM))

    assert comparison_sums(sums.comparisons)["b"].compared.sum() == 1
    assert sums.exposures == sums.users == 0
