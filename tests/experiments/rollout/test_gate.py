"""Figures in, one action with its reason out."""

import msgspec
import numpy as np
import pytest
from msgspec.structs import replace

from experiments.rollout import PhaseFigures, judge
from experiments.standing import Change, after, first_standing
from experiments.variant_statistics import CELLS
from tests.support.simulated_rollout import Shoppers, Truth, experiment_of, rollout

EQUAL = (Truth(), Truth())


def stage_of(truths, *, visits=40_000, at=4_000.0, last=False, units=30_000, **fields):
    """A judgement of one stage after so many visits, and what it was made of."""
    definition = experiment_of(truths, **fields)
    standing = first_standing(definition, 0.0)
    stage = len(definition.rollout.stages_bp) - 1 if last else 2
    standing = after(definition, standing, Change(action="ramp", stage=stage), 0.0)
    shares = tuple(variant.share_bp for variant in definition.variants)
    shoppers = Shoppers(truths, shares, units=units, seed=7)
    shoppers.visit(visits, standing.traffic_bp)
    figures = shoppers.figures(definition, standing.phase)
    return judge(definition, standing, figures, at), (definition, standing, figures)


# --- what it does -------------------------------------------------------------------------


def test_a_better_variant_walks_all_stages_and_is_promoted():
    course = rollout((Truth(), Truth(ctr=0.065)), seed=1)

    assert (course.last.action, course.last.variant) == ("promote", "b")
    assert course.standing.stage == 4
    assert course.last.reason.startswith("promoted: 'b' has a better CTR than 'control', +")


def test_a_worse_variant_is_rolled_back_before_everybody_sees_it():
    course = rollout((Truth(), Truth(ctr=0.035)), seed=1)

    assert (course.last.action, course.last.ground) == ("rollback", "ctr_worse")
    assert course.standing.traffic_bp < 10_000
    assert "where a loss of 2 % is allowed" in course.last.reason


def test_a_faster_variant_with_the_same_ctr_is_promoted_for_the_objective_latency():
    fields = {"objective": "latency", "rollout": {"ctr_margin": 0.1}}

    course = rollout((Truth(), Truth(latency_ms=14.0)), seed=1, **fields)

    assert course.last.action == "promote"
    assert "better latency" in course.last.reason


def test_speed_alone_is_no_success_for_the_objective_ctr_nor_clicks_for_latency():
    faster, _ = stage_of((Truth(), Truth(latency_ms=14.0)), last=True)
    clicked, _ = stage_of((Truth(), Truth(ctr=0.08)), last=True, objective="latency")

    assert (faster.action, faster.ground) == ("continue", "objective")
    assert (clicked.action, clicked.ground) == ("continue", "objective")


def test_a_slower_variant_is_rolled_back_though_it_gets_more_clicks():
    found, _ = stage_of((Truth(), Truth(ctr=0.08, latency_ms=26.0)))

    assert (found.action, found.ground) == ("rollback", "latency_worse")


def test_less_gain_than_asked_for_is_no_success():
    truths = (Truth(), Truth(latency_ms=17.0))
    fields = {"objective": "latency", "last": True}

    some, _ = stage_of(truths, rollout={"ctr_margin": 0.2, "latency_gain": 0.05}, **fields)
    too_little, _ = stage_of(truths, rollout={"ctr_margin": 0.2, "latency_gain": 0.3}, **fields)

    assert some.action == "promote"
    assert too_little.action == "continue"
    assert "by more than 30 %" in too_little.reason


def test_within_the_margin_but_shown_to_be_worse_at_its_objective_waits_for_a_person():
    found, _ = stage_of((Truth(), Truth(ctr=0.0425)), rollout={"ctr_margin": 0.5}, last=True)

    assert (found.action, found.ground) == ("hold", "objective_worse")


def test_a_stage_needs_its_time_and_its_units():
    early, _ = stage_of(EQUAL, at=100.0)
    small, _ = stage_of(EQUAL, visits=700)
    enough, _ = stage_of(EQUAL)

    assert early.reason == "continued: the stage has lasted 100 s of 50 min"
    assert (small.action, small.ground) == ("continue", "too_early")
    assert (enough.action, enough.ground) == ("advance", "no_harm")


def test_a_clock_that_was_set_back_makes_no_stage_older():
    _, (definition, standing, figures) = stage_of(EQUAL)

    found = judge(definition, replace(standing, since=10_000.0), figures, 4_000.0)

    assert (found.action, found.ground) == ("continue", "too_early")
    assert found.evidence.seconds == 0.0


# --- what spoils a comparison ----------------------------------------------------------------


def test_a_sample_ratio_mismatch_holds_however_good_the_figures_look():
    found, _ = stage_of((Truth(), Truth(ctr=0.08, loses_units=0.1)), last=True)

    assert (found.action, found.ground) == ("hold", "split")
    assert "where 50:50 % was planned" in found.reason


def test_units_in_several_variants_hold():
    found, _ = stage_of((Truth(), Truth(ctr=0.08, leaks=0.05)), last=True)

    assert (found.action, found.ground) == ("hold", "crossovers")


@pytest.mark.parametrize("missing", ["control", "b"])
def test_a_variant_without_data_holds_for_ever(missing):
    _, (definition, standing, figures) = stage_of(EQUAL, last=True)
    statistics = {name: own for name, own in figures.statistics.items() if name != missing}

    found = judge(definition, standing, replace(figures, statistics=statistics), 1e9)

    assert found.action == "hold"
    assert found.reason == f"held: {missing!r} has no exposures yet"


def test_missing_clicks_latencies_and_figures_hold():
    _, (definition, standing, figures) = stage_of((Truth(), Truth(ctr=0.08)), last=True)
    nobody_clicks, no_slates = dict(figures.statistics), dict(figures.statistics)
    for name, own in figures.statistics.items():
        nobody_clicks[name] = replace(own, clicks=0, cell_clicks=own.cell_clicks * 0)
        no_slates[name] = replace(own, cell_computed=own.cell_computed * 0)

    def judged(**changes):
        found = judge(definition, standing, replace(figures, **changes), 4_000.0)
        return found.action, found.ground

    assert judged()[0] == "promote"
    assert judged(statistics=nobody_clicks) == ("hold", "ctr_unknown")
    assert judged(statistics=no_slates) == ("hold", "latency_unknown")
    assert judged(unreadable="the event server is away") == ("hold", "unreadable")
    assert judged(phase=99) == ("hold", "other_phase")
    assert judged(backlog=10_000_000) == ("hold", "backlog")


@pytest.mark.parametrize("clicks", range(6))
def test_a_variant_whose_clicks_stopped_after_a_handful_is_rolled_back(clicks):
    _, (definition, standing, figures) = stage_of(EQUAL)
    statistics = dict(figures.statistics)
    stopped = np.zeros_like(statistics["b"].cell_clicks)
    stopped[np.flatnonzero(statistics["b"].cell_clicks)[:clicks]] = 1
    statistics["b"] = replace(statistics["b"], clicks=clicks, cell_clicks=stopped)

    found = judge(definition, standing, replace(figures, statistics=statistics), 4_000.0)

    assert (found.action, found.ground) == ("rollback", "ctr_worse")
    assert "'b' has a lower CTR than 'control'" in found.reason


def test_a_paused_experiment_is_not_judged():
    _, (definition, standing, figures) = stage_of((Truth(), Truth(ctr=0.02)))

    found = judge(definition, replace(standing, state="paused"), figures, 4_000.0)

    assert (found.action, found.reason) == ("hold", "held: the experiment is paused")


# --- guardrails ------------------------------------------------------------------------------


def test_failing_requests_roll_back_even_with_a_mismatch():
    found, _ = stage_of((Truth(), Truth(errors=0.05, loses_units=0.2)))

    assert (found.action, found.ground) == ("rollback", "errors")
    assert "of the requests of 'b' got no slate" in found.reason


def test_fallbacks_roll_back():
    found, _ = stage_of((Truth(), Truth(degraded=0.2)))

    assert (found.action, found.ground) == ("rollback", "fallbacks")


def test_a_broken_variant_is_noticed_within_a_few_requests():
    found, _ = stage_of((Truth(), Truth(errors=1.0)), visits=60, at=1.0)

    assert (found.action, found.ground) == ("rollback", "errors")
    assert found.evidence.arms[1].lapses < 15


def test_one_client_that_fails_again_and_again_is_one_failure():
    _, (definition, standing, figures) = stage_of(EQUAL)
    sums = figures.statistics["b"]
    failures = sums.cell_failures.copy()
    failures[5] = 400
    statistics = {**figures.statistics, "b": replace(sums, cell_failures=failures, lapses=400)}

    found = judge(definition, standing, replace(figures, statistics=statistics), 4_000.0)

    assert found.evidence.arms[1].error_rate.value > 0.01
    assert (found.action, found.ground) == ("continue", "guardrail")


@pytest.mark.parametrize("others", [0, 1, 30])
def test_nor_is_it_more_in_a_young_stage_where_it_is_most_of_the_requests(others):
    _, (definition, standing, figures) = stage_of(EQUAL)
    failures, slates = np.zeros(CELLS, np.int64), np.zeros(CELLS, np.int64)
    failures[5], slates[10 : 10 + others] = 1_000, 1
    young = replace(figures.statistics["b"], cell_failures=failures, cell_slates=slates)

    found = judge(
        definition,
        standing,
        replace(figures, statistics={**figures.statistics, "b": young}),
        4_000.0,
    )

    assert found.evidence.arms[1].error_rate.value > 0.9
    assert found.action != "rollback"


def test_clicks_that_stop_roll_back_though_no_ratio_can_be_estimated():
    truths = (Truth(ctr=0.2), Truth(ctr=0.0))

    found, _ = stage_of(truths, visits=400, at=10.0)

    assert (found.action, found.ground) == ("rollback", "ctr_worse")
    assert found.evidence.arms[1].clicks == 0


# --- caches ----------------------------------------------------------------------------------


def test_a_colder_cache_is_no_slower_model():
    """Nine tenths of the traffic fill one cache, one tenth the other; the models are equal."""
    truths = (Truth(hit_rate=0.7), Truth(hit_rate=0.3))

    found, _ = stage_of(truths, shares_bp=(9_000, 1_000), visits=200_000, last=True)

    slower = found.evidence.arms[1].latency_end_to_end
    assert slower.low > slower.limit
    assert found.evidence.arms[1].cache_excuses
    assert (found.action, found.ground) == ("continue", "objective")


def test_users_who_wait_longer_although_the_caches_had_the_same_chance_hold():
    found, _ = stage_of((Truth(hit_rate=0.7), Truth(hit_rate=0.3)), last=True)

    assert (found.action, found.ground) == ("hold", "end_to_end")
    assert "its cache knew 3" in found.reason


# --- several treatments, and what has no plain test ---------------------------------------------


def test_the_best_of_several_that_pass_is_promoted():
    truths = (Truth(), Truth(ctr=0.065), Truth(ctr=0.08), Truth())

    found, _ = stage_of(truths, last=True, visits=120_000)

    assert (found.action, found.variant) == ("promote", "c")
    assert [arm.passes for arm in found.evidence.arms] == [False, True, True, False]


def test_several_treatments_are_corrected_for():
    found, _ = stage_of((Truth(), Truth(ctr=0.056), Truth()), last=True)

    _, b, c = found.evidence.arms
    assert b.p_adjusted == pytest.approx(2 * b.p_value)
    assert c.p_adjusted >= c.p_value


def test_a_bandit_is_watched_but_not_compared():
    better, _ = stage_of((Truth(), Truth(ctr=0.08)), last=True, policy="thompson")
    failing, _ = stage_of((Truth(), Truth(errors=0.2)), last=True, policy="thompson")

    assert (better.action, better.ground) == ("continue", "thompson")
    assert failing.action == "rollback"


# --- evidence --------------------------------------------------------------------------------


def test_the_evidence_is_plain_json_with_every_input_bound_and_limit():
    found, (definition, standing, _) = stage_of((Truth(), Truth(ctr=0.08)), last=True)

    evidence = msgspec.json.decode(msgspec.json.encode(found.evidence))

    control, b = evidence["arms"]
    assert control["ctr"] is None
    assert b["ctr"]["low"] < b["ctr"]["value"] < b["ctr"]["high"]
    assert b["ctr"]["limit"] == -0.02
    assert b["latency"]["limit"] == 0.05
    assert b["error_rate"]["limit"] == 0.01
    assert evidence["minimum_users"] == definition.rollout.minimum_users
    assert (evidence["phase"], evidence["traffic_bp"]) == (standing.phase, 10_000)
    assert len(evidence["config_digest"]) == 16


def test_no_figures_at_all_still_make_evidence():
    definition = experiment_of(EQUAL)
    standing = first_standing(definition, 0.0)

    found = judge(definition, standing, PhaseFigures(phase=1, statistics={}), 5.0)

    assert found.action == "hold"
    assert found.evidence.arms[1].ctr.missing == "no impressions yet"
    assert msgspec.json.decode(msgspec.json.encode(found.evidence))["split_p"] is None


def test_a_definition_without_a_rollout_is_held_to_the_defaults():
    definition = replace(experiment_of(EQUAL), rollout=None)
    standing = first_standing(definition, 0.0)

    found = judge(definition, standing, PhaseFigures(phase=1, statistics={}), 5.0)

    assert found.evidence.stages == 0
    assert found.evidence.minimum_stage_s == 86_400.0


# --- the promises, in small; `python -m tests.bench rollout` has the long ones --------------------


def test_equal_variants_are_hardly_ever_promoted_or_rolled_back_however_often_one_looks():
    last_stage_at_once = {"stages_bp": (10_000,)}
    courses = [
        rollout(EQUAL, seed=seed, looks=25, visits=2_000, units=4_000, rollout=last_stage_at_once)
        for seed in range(25)
    ]

    actions = [course.last.action for course in courses]
    assert {c.last.ground for c in courses if c.last.action == "continue"} == {"objective"}
    assert actions.count("promote") <= 2
    assert actions.count("rollback") <= 2
