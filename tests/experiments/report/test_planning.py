"""Until when: the wait that is promised is the one that it takes."""

import pytest
from msgspec.structs import replace

from experiments.report.inputs import Beside, Case
from experiments.report.planning import counted_seconds
from experiments.stats.power import growth_needed
from experiments.stats.ratio import log_change
from experiments.stats.sequential import TUNING
from tests.support.reports import DAY, NOW, ROLLED_OUT, planted, record, report_of, standing_of


def test_the_days_left_are_the_growth_that_is_needed_at_the_present_traffic():
    old, new = planted(seed=1), planted(seed=2)

    plan = report_of(ROLLED_OUT, {"old": old, "new": new}).plan

    (need,) = plan.needs
    growth = growth_needed(log_change(old.ctr_sample, new.ctr_sample), 0.02, tuning=TUNING)
    assert plan.smallest == ROLLED_OUT.rollout.ctr_margin == 0.02
    assert plan.seconds == DAY
    assert plan.users_per_day == pytest.approx(20_000)
    assert need.growth_always == growth > need.growth_once > 1
    assert need.days_left == pytest.approx(growth - 1)
    assert need.users_left == pytest.approx(20_000 * (growth - 1), abs=1)
    assert plan.sentence.startswith("About ")
    assert "more days at 20,000 users a day until a change of +2 % in CTR" in plan.sentence


def test_so_many_more_data_make_the_change_detectable():
    few = report_of(ROLLED_OUT, {"old": planted(seed=1), "new": planted(seed=2)}).plan.needs[0]
    more = 200 * few.growth_always
    sums = {"old": planted(seed=1, impressions=more), "new": planted(seed=2, impressions=more)}

    plan = report_of(ROLLED_OUT, sums).plan

    assert few.detectable_always > 0.02
    assert plan.needs[0].detectable_always == pytest.approx(0.02, rel=0.1)
    assert plan.needs[0].growth_always == pytest.approx(1, rel=0.1)


def test_enough_data_are_called_enough():
    sums = {"old": planted(impressions=9e4), "new": planted(impressions=9e4, seed=2)}

    report = report_of(ROLLED_OUT, sums)

    assert report.plan.sentence.startswith("There are enough data for a change of +2 % in CTR")
    assert report.plan.needs[0].users_left == 0


def test_an_empty_one_says_what_is_missing_and_what_the_rule_waits_for():
    sentence = report_of(ROLLED_OUT, {}, standing=standing_of(ROLLED_OUT, since=NOW - 60)).plan

    assert "'new': no impressions yet" in sentence.sentence
    assert "takes about 1,740,000 users of the control" in sentence.sentence
    assert "The rule waits until 2026-09-22 14:12 UTC, and for 1,000 users of each variant, 0" in (
        sentence.sentence
    )


def test_a_phase_of_minutes_does_not_speak_of_days():
    standing = standing_of(ROLLED_OUT, since=NOW - 120)

    plan = report_of(ROLLED_OUT, {"old": planted(), "new": planted(seed=2)}, standing=standing).plan

    assert "more users, or " in plan.sentence
    assert "if the traffic stays as in its first 2 minutes" in plan.sentence


@pytest.mark.parametrize("state", ["paused", "rolled_back", "stopped", "draft"])
def test_nobody_waits_for_data_that_do_not_come(state):
    standing = standing_of(ROLLED_OUT, state=state)

    plan = report_of(ROLLED_OUT, {"old": planted(), "new": planted(seed=2)}, standing=standing).plan

    said = state.replace("_", " ")
    assert plan.sentence == f"No more data come: the experiment is {said}."


def test_more_data_do_not_mend_a_broken_split():
    sums = {"old": planted(users=10_000), "new": planted(users=9_000, seed=2)}

    assert report_of(ROLLED_OUT, sums).plan.sentence == (
        "More data do not help: the units do not split as planned. "
        "Mend that, then begin a new phase."
    )


def case(standing, *records):
    beside = Beside(definition=ROLLED_OUT, standing=standing, decisions=tuple(reversed(records)))
    return Case(experiment=ROLLED_OUT, sums={}, as_of=NOW, backlog=0, beside=beside)


def test_pauses_and_other_phases_are_no_time_in_which_data_came():
    running = standing_of(ROLLED_OUT)
    paused = replace(running, state="paused")
    other = replace(running, phase=9)

    resumed = replace(running, since=NOW - 1_000)
    found = counted_seconds(
        case(
            resumed,
            record(other, at=NOW - 9_000),
            record(running, at=NOW - 5_000),
            record(paused, "pause", at=NOW - 4_000),
            record(resumed, "resume", at=NOW - 1_000),
        )
    )

    assert found == 2_000


def test_notes_of_the_rule_do_not_stop_the_clock():
    running = standing_of(ROLLED_OUT, since=NOW - 5_000)

    found = counted_seconds(
        case(
            running,
            record(running, at=NOW - 5_000),
            record(running, "hold", at=NOW - 3_000, before=running),
        )
    )

    assert found == 5_000


def test_where_the_log_does_not_reach_back_the_standing_tells():
    running = standing_of(ROLLED_OUT, since=NOW - 5_000)

    assert counted_seconds(case(running)) == 5_000
    assert counted_seconds(case(replace(running, state="paused"))) is None
    assert counted_seconds(case(None)) is None
