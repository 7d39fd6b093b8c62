"""Thompson sampling: shares follow the figures, and what may be said of them afterwards."""

import numpy as np
import pytest
from msgspec.structs import replace

from experiments.bandit import (
    Allocated,
    Posterior,
    allocation,
    posterior,
    reallocated,
    refuse_plain_tests,
    shares_by_phase,
    weighted_ctr,
)
from experiments.decisions import DecisionRecord
from experiments.standing import Change, after, first_standing
from experiments.stats import NotEnoughData
from experiments.stats.ratio import RatioSample, ratio_interval
from experiments.variant_statistics import CELLS, VariantStatistics
from tests.bench.bench_rollout import learned
from tests.support.simulated_rollout import Truth, experiment_of

TRUTHS = (Truth(ctr=0.05), Truth(ctr=0.07), Truth(ctr=0.05))
NOTHING = VariantStatistics.from_fields({})


def sums_of(clicks, impressions):
    """Spread evenly over the cells of units, each cell with a different CTR."""
    cells = np.bincount(np.arange(clicks) % CELLS, minlength=CELLS)
    shown = np.full(CELLS, impressions // CELLS, np.int64)
    return replace(
        NOTHING, clicks=clicks, impressions=impressions, cell_clicks=cells, cell_impressions=shown
    )


def phase(old, new, shares=(5_000, 5_000)):
    return Allocated(
        shares_bp=dict(zip(("old", "new"), shares, strict=True)),
        statistics={"old": sums_of(*old), "new": sums_of(*new)},
    )


def test_shares_are_the_chance_to_be_best_above_a_floor_and_sum_to_everything():
    equal = allocation([Posterior(50, 950)] * 2, seed=1)
    better = allocation([Posterior(50, 950), Posterior(90, 910)], seed=1)
    many = allocation([Posterior(1, 9)] * 7, seed=1, floor_bp=0)

    assert equal == pytest.approx((5_000, 5_000), abs=120)
    assert better == pytest.approx((500, 9_500), abs=20)
    assert min(better) >= 500
    assert sum(equal) == sum(better) == sum(many) == 10_000


def test_equal_arguments_give_equal_shares():
    known = [Posterior(5, 95), Posterior(7, 93)]

    assert allocation(known, seed=3) == allocation(known, seed=3)


def test_floors_that_are_more_than_everything_are_refused():
    with pytest.raises(ValueError, match="3 variants with at least 4000 bp"):
        allocation([Posterior(0, 0)] * 3, seed=1, floor_bp=4_000)


def test_a_variant_that_nobody_clicked_loses_its_traffic():
    about = posterior([phase((40, 10_240), (0, 10_240))], "new")

    assert about == Posterior(0, 10_240)


def test_units_that_resemble_themselves_are_worth_less_than_their_impressions():
    """All clicks from one unit in ten: a tenth of the certainty, not ten times as much."""
    sums = sums_of(0, 102_400)
    clicks = np.zeros(CELLS, np.int64)
    clicks[::10] = 40
    sums = replace(sums, clicks=int(clicks.sum()), cell_clicks=clicks)
    clumped = Allocated(shares_bp={"new": 5_000}, statistics={"new": sums})

    about = posterior([clumped], "new")

    assert about.successes + about.failures < 102_400 / 10
    rate = about.successes / (about.successes + about.failures)
    assert rate == pytest.approx(clicks.sum() / 102_400)


def test_weighting_undoes_that_a_variant_got_more_traffic_at_better_times():
    """In the good hour CTRs are 20 and 20 %, in the bad one 2 and 2 %; the variants are equal."""
    bad_hour = phase((184, 9_216), (20, 1_024), shares=(9_000, 1_000))
    good_hour = phase((205, 1_024), (1_843, 9_216), shares=(1_000, 9_000))
    both = [bad_hour, good_hour]

    plain = {
        name: sum(p.statistics[name].clicks for p in both)
        / sum(p.statistics[name].impressions for p in both)
        for name in ("old", "new")
    }
    weighted = {name: weighted_ctr(both, name).value for name in ("old", "new")}

    assert plain["new"] > 4 * plain["old"]
    assert weighted["new"] == pytest.approx(weighted["old"], rel=0.02)
    assert weighted["new"] == pytest.approx(0.11, rel=0.02)


def test_one_phase_is_what_the_plain_estimate_says():
    only = phase((200, 10_240), (300, 10_240))
    sums = only.statistics["new"]

    plain = ratio_interval(RatioSample(sums.cell_clicks, sums.cell_impressions))

    assert weighted_ctr([only], "new").value == pytest.approx(plain.value)
    assert weighted_ctr([only], "new").low == pytest.approx(plain.low)


def test_without_support_there_is_no_estimate():
    with pytest.raises(NotEnoughData, match="'new' had no share of the traffic"):
        weighted_ctr([phase((20, 1_024), (0, 1_024), shares=(10_000, 0))], "new")


def test_plain_tests_are_refused_on_what_a_bandit_allocated():
    assert refuse_plain_tests(experiment_of(TRUTHS)) is None
    assert "Thompson" in refuse_plain_tests(experiment_of(TRUTHS, policy="thompson"))


def test_phases_of_another_split_of_nobody_and_long_ago_teach_nothing():
    definition = replace(experiment_of(TRUTHS, policy="thompson"), rollout=None)
    standing, records = first_standing(definition, 0.0), []

    def follows(now):
        record = DecisionRecord(
            at=0.0,
            key="x",
            action="allocate",
            by="rule",
            reason="",
            before=None,
            after=now,
            config_digest="",
        )
        records.insert(0, record)
        return now

    follows(replace(standing, phase=0, definition="another"))
    follows(replace(standing, phase=0, models={"ranker": "m@0"}))
    follows(replace(standing, phase=0, counted="aa"))
    for new in range(30):
        shares = {"control": 4_000 + new, "b": 3_000, "c": 3_000 - new}
        standing = follows(
            after(definition, standing, Change(action="allocate", shares_bp=shares), 1.0)
        )

    found = shares_by_phase(definition, standing, records)

    assert list(found) == list(range(31, 7, -1))
    assert found[31] == {"control": 4_029, "b": 3_000, "c": 2_971}


def test_before_the_first_impression_nothing_is_allocated():
    experiment = experiment_of(TRUTHS, policy="thompson")

    assert reallocated(experiment, [Allocated(shares_bp={"control": 5_000}, statistics={})]) is None


def test_the_best_variant_gets_most_of_the_traffic_and_the_estimates_stay_honest():
    phases = learned(TRUTHS, seed=2, rounds=8)

    assert phases[-1].shares_bp["b"] > 8_000
    assert min(phases[-1].shares_bp.values()) >= 500
    for name, truth in zip(("control", "b", "c"), TRUTHS, strict=True):
        estimate = weighted_ctr(phases, name, confidence=0.999)
        assert estimate.low < truth.ctr < estimate.high
