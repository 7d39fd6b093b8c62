"""A treatment against the control: each way of reading it says what its function says."""

import numpy as np
import pytest
from msgspec.structs import replace

from experiments.definition import Experiment, Rollout, Variant
from experiments.stats.corrections import benjamini_hochberg, holm
from experiments.stats.cuped import Paired, cuped
from experiments.stats.estimate import relative
from experiments.stats.geometric import always_valid_geometric_change
from experiments.stats.ratio import always_valid_difference, ratio_difference
from experiments.stats.sequential import always_valid_interval
from experiments.stats.stratified import Phase, pooled_change
from experiments.variant_statistics import CELLS
from tests.support.reports import HALVES, ROLLED_OUT, planted, report_of, standing_of

THREE = Experiment(
    key="three",
    variants=tuple(
        Variant(name=name, share_bp=share)
        for name, share in (("old", 3334), ("a", 3333), ("b", 3333))
    ),
)


def test_both_readings_are_those_of_their_functions():
    old, new = planted(seed=1), planted(ctr=0.055, latency_ms=7.0, seed=2)

    difference = report_of(ROLLED_OUT, {"old": old, "new": new}).variants[1].difference

    once = ratio_difference(old.ctr_sample, new.ctr_sample)
    always = always_valid_difference(old.ctr_sample, new.ctr_sample)
    assert difference.ctr.relative == once.relative
    assert difference.ctr_always.relative == always.relative
    assert difference.ctr_always.p_value == always.p_value
    latency = always_valid_geometric_change(
        old.computed_latency_sample, new.computed_latency_sample
    )
    assert difference.latency_computed.always.interval == latency.relative
    assert difference.latency_computed.p_always == latency.p_value


@pytest.mark.parametrize(
    ("ctr", "latency_ms", "margins"),
    [
        (0.05, 8.0, ("non_inferior", "non_inferior")),
        (0.04, 8.0, ("inferior", "non_inferior")),
        (0.05, 12.0, ("non_inferior", "inferior")),
    ],
)
def test_margins_are_those_of_the_definition(ctr, latency_ms, margins):
    careful = replace(ROLLED_OUT, rollout=Rollout(ctr_margin=0.1, latency_margin=0.2))
    sums = {"old": planted(seed=1), "new": planted(ctr=ctr, latency_ms=latency_ms, seed=2)}

    difference = report_of(careful, sums).variants[1].difference

    assert (difference.ctr_margin.verdict, difference.latency_margin.verdict) == margins
    assert difference.ctr_margin.margin == 0.1
    assert difference.latency_margin.margin == 0.2


def test_a_margin_and_the_interval_beside_it_never_contradict_each_other():
    careful = replace(ROLLED_OUT, rollout=Rollout(ctr_margin=0.05))
    seen = set()
    for seed in range(30):
        sums = {"old": planted(seed=seed), "new": planted(ctr=0.0485, seed=seed + 100)}
        difference = report_of(careful, sums).variants[1].difference
        interval, margin = difference.ctr_always.relative, difference.ctr_margin
        seen.add(margin.verdict)
        if margin.verdict == "non_inferior":
            assert interval.low > -0.05 - 0.001
        if margin.verdict == "inferior":
            assert interval.high < -0.05 + 0.001
    assert len(seen) > 1


def test_a_margin_of_all_or_nothing_is_not_tested_and_says_so():
    wide = replace(ROLLED_OUT, rollout=Rollout(ctr_margin=0.0, latency_margin=10.0))

    difference = report_of(wide, {"old": planted(), "new": planted(seed=2)}).variants[1].difference

    assert difference.ctr_margin.missing == "the definition allows none"
    assert difference.latency_margin.missing.startswith("the definition allows 100 % or more")


def test_several_treatments_are_corrected_and_one_needs_none():
    sums = {"old": planted(), "a": planted(ctr=0.052, seed=2), "b": planted(ctr=0.054, seed=3)}
    _, a, b = (variant.difference for variant in report_of(THREE, sums).variants)

    once = [a.ctr.p_value, b.ctr.p_value]
    always = [a.ctr_always.p_value, b.ctr_always.p_value]
    assert (a.corrected.once_holm, b.corrected.once_holm) == holm(once)
    assert (a.corrected.always_holm, b.corrected.always_holm) == holm(always)
    adjusted = (a.corrected.once_benjamini_hochberg, b.corrected.once_benjamini_hochberg)
    assert adjusted == benjamini_hochberg(once)
    alone = report_of(ROLLED_OUT, {"old": planted(), "new": planted(seed=2)})
    assert alone.variants[1].difference.corrected is None


def test_the_aa_phase_before_takes_noise_away():
    taste = np.random.default_rng(5).gamma(4, 0.25, CELLS)
    before = {"old": planted(seed=1, taste=taste), "new": planted(seed=2, taste=taste[::-1])}
    now = {
        "old": planted(seed=3, taste=taste),
        "new": planted(seed=4, taste=taste[::-1], ctr=0.053),
    }
    standing = standing_of(ROLLED_OUT, phase=2, pre_phase=1)

    report = report_of(ROLLED_OUT, now, standing=standing, earlier={1: before})

    found = report.variants[1].difference.cuped
    pairs = [Paired(before=before[n].ctr_sample, during=now[n].ctr_sample) for n in ("old", "new")]
    expected = cuped(*pairs)
    assert found.phases == (2, 1)
    assert found.variance_kept == expected.variance_kept < 0.7
    change = relative(always_valid_interval(expected.change))
    assert found.change.always.interval == change
    plain = report.variants[1].difference.ctr_always.relative
    assert change.high - change.low < plain.high - plain.low
    assert report.phases[-1].kind == "before"


def test_without_an_aa_phase_there_is_nothing_to_adjust_by():
    report = report_of(ROLLED_OUT, {"old": planted(), "new": planted(seed=2)})

    assert report.variants[1].difference.cuped is None
    assert report.variants[1].difference.pooled is None


def test_phases_are_pooled_within_themselves_and_not_added_up():
    """Simpson: the new one is better in both phases, and seen mostly on the bad day."""
    good = {"old": planted(ctr=0.10, impressions=380), "new": planted(ctr=0.11, impressions=20)}
    bad = {"old": planted(ctr=0.02, impressions=20), "new": planted(ctr=0.022, impressions=380)}
    standing = standing_of(ROLLED_OUT, phase=2)
    shares = {1: {"old": 9500, "new": 500}, 2: {"old": 500, "new": 9500}}

    report = report_of(ROLLED_OUT, bad, standing=standing, earlier={1: good}, shares=shares)

    found = report.variants[1].difference.pooled
    phases = [
        Phase(control=sums["old"].ctr_sample, treatment=sums["new"].ctr_sample)
        for sums in (bad, good)
    ]
    assert found.phases == (2, 1)
    assert found.change.always.interval == relative(always_valid_interval(pooled_change(phases)))
    assert 0.04 < found.change.once.value < 0.16
    raw = [sum(s[n].clicks for s in (good, bad)) for n in ("old", "new")]
    assert raw[1] < raw[0], "added up, the new one looks worse"


def test_rates_have_intervals_and_a_difference():
    broken = planted(seed=2, **{f"x{cell}": 1 for cell in range(60)}, lapses=60)

    report = report_of(ROLLED_OUT, {"old": planted(), "new": broken})

    old, new = report.variants
    assert old.error_rate.value == 0 < old.error_rate.high
    assert new.error_rate.value == pytest.approx(60 / (new.exposures + 60))
    assert new.difference.error_rate.low > 0
    assert new.lapses == 60


def test_costs_need_a_price_and_say_so():
    sums = {
        "old": planted(compute_us=10**9, predictions=10**6),
        "new": planted(seed=2, compute_us=5 * 10**8, predictions=10**6),
    }

    free = report_of(ROLLED_OUT, sums).variants
    old, new = report_of(ROLLED_OUT, sums, price_per_hour=3.6).variants

    assert free[0].cost is None
    assert free[0].cost_missing == "no price is set (experiments.price_per_hour)"
    assert old.cost.per_million_predictions == pytest.approx(1.0)
    assert old.cost.per_million_rankings == pytest.approx(1e6 / old.exposures)
    assert new.cost.per_million_predictions == pytest.approx(0.5)


def test_nothing_is_compared_before_the_first_event_and_every_part_says_why():
    report = report_of(replace(ROLLED_OUT, variants=HALVES), {})

    difference = report.variants[1].difference
    assert difference.missing == difference.ctr_always_missing == "no impressions yet"
    assert difference.latency_computed.always.missing == "no latencies yet"
    assert difference.ctr_margin.missing == "no impressions yet"
    assert difference.error_rate.missing == "no requests yet"
    assert report.crossovers.verdict == report.split.verdict == "unknown"
