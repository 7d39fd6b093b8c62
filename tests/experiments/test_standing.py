"""How an experiment may come along: every change, what it refuses, and when a phase begins."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from experiments.decisions import DecisionRecord
from experiments.definition import Experiment, Rollout, Variant
from experiments.standing import (
    Change,
    ChangeRefused,
    Standing,
    after,
    digest_of_split,
    first_standing,
    in_force,
    kept_by,
    taken_up,
    why_defined,
)

PLAN = Rollout(stages_bp=(100, 500, 10_000))


def defined(**fields) -> Experiment:
    variants = (Variant(name="old", share_bp=5000), Variant(name="new", share_bp=5000))
    return Experiment(**({"key": "e", "variants": variants, "rollout": PLAN} | fields))


def walk(definition: Experiment, *actions: str | Change) -> Standing:
    standing = first_standing(definition, 1.0)
    for action in actions:
        change = Change(action=action) if isinstance(action, str) else action
        standing = after(definition, standing, change, 2.0)
    return standing


def test_an_experiment_begins_as_its_file_says_and_a_rollout_with_its_first_stage():
    standing = first_standing(defined(state="draft", phase=3), 7.0)

    assert (standing.state, standing.phase, standing.generation) == ("draft", 3, 1)
    assert (standing.traffic_bp, standing.stage, standing.since) == (100, 0, 7.0)
    assert in_force(defined(rollout=None), None) == defined(rollout=None)


@pytest.mark.parametrize(
    ("actions", "state", "phase"),
    [
        (("pause",), "paused", 1),
        (("pause", "start"), "running", 1),
        (("rollback",), "rolled_back", 1),
        (("rollback", "start"), "running", 2),
        (("promote",), "promoted", 1),
        (("promote", "rollback"), "rolled_back", 1),
        (("promote", "rollback", "start"), "running", 2),
        (("stop", "start"), "running", 2),
        (("ramp",), "running", 2),
        (("ramp", "pause", "start"), "running", 2),
        (("pause", "ramp", "start"), "running", 2),
        (("advance", "advance"), "running", 3),
    ],
)
def test_pausing_promoting_and_rolling_back_keep_the_phase_and_a_restart_begins_one(
    actions, state, phase
):
    standing = walk(defined(), *actions)

    assert (standing.state, standing.phase) == (state, phase)


@pytest.mark.parametrize(
    ("actions", "refused", "why"),
    [
        (("rollback",), "pause", "it is rolled_back, so it cannot be paused; start it first"),
        (("rollback",), "promote", "start it first"),
        (("stop",), "rollback", "start it first"),
        (("stop",), "ramp", "start it first"),
        (("promote",), "ramp", "start it first"),
        (("pause",), "advance", "start it first"),
        (("advance", "advance"), "advance", "stage 2 is the last one"),
        ((), Change(action="ramp", stage=3), "there is no stage 3; there are 0 to 2"),
        ((), Change(action="ramp", stage=1, traffic_bp=5), "not both"),
        ((), Change(action="ramp", traffic_bp=0), "1 to 10000"),
        ((), Change(action="promote", variant="newer"), "no variant 'newer'; there are old, new"),
        ((), "allocate", "policy = 'thompson'"),
    ],
)
def test_a_change_that_does_not_fit_is_refused_with_what_would(actions, refused, why):
    with pytest.raises(ChangeRefused, match=why):
        walk(defined(), *actions, refused)


@pytest.mark.parametrize(
    ("actions", "again"),
    [
        ((), "start"),
        (("pause",), "pause"),
        (("rollback",), "rollback"),
        (("promote",), "promote"),
        (("stop",), "stop"),
        ((), Change(action="ramp", stage=0)),
    ],
)
def test_what_is_so_already_is_no_change(actions, again):
    definition = defined()
    standing = walk(definition, *actions)
    change = Change(action=again) if isinstance(again, str) else again

    assert after(definition, standing, change, 9.0) is standing


def test_traffic_by_hand_knows_the_stage_that_it_has_reached():
    by_hand = walk(defined(), Change(action="ramp", traffic_bp=600))
    below = walk(defined(), Change(action="ramp", traffic_bp=50))

    assert (by_hand.traffic_bp, by_hand.stage) == (600, 1)
    assert (below.traffic_bp, below.stage) == (50, None)
    assert after(defined(), below, Change(action="advance"), 3.0).stage == 0
    without = walk(defined(rollout=None), Change(action="ramp", traffic_bp=50))
    assert (without.traffic_bp, without.phase) == (50, 2)


def test_a_third_variant_has_to_be_named_to_be_promoted():
    three = tuple(Variant(name=n, share_bp=s) for n, s in (("a", 4000), ("b", 3000), ("c", 3000)))

    with pytest.raises(ChangeRefused, match="name the variant; there are a, b, c"):
        walk(defined(variants=three), "promote")
    promoted = walk(defined(variants=three), Change(action="promote", variant="c"))
    assert in_force(defined(variants=three), promoted).promoted == "c"


def test_after_an_a_a_phase_the_comparison_begins_with_a_phase_that_knows_it():
    definition = defined(state="aa")
    aa = first_standing(definition, 1.0)
    assert aa.traffic_bp is None

    running = taken_up(defined(), aa, 5.0)

    assert (running.state, running.phase, running.pre_phase) == ("running", 2, 1)
    assert (running.traffic_bp, running.since) == (100, 5.0)
    assert after(defined(), running, Change(action="ramp"), 6.0).pre_phase == 1
    assert taken_up(definition, running, 7.0).pre_phase is None


def test_an_a_a_phase_goes_on_after_a_pause():
    assert walk(defined(state="aa"), "pause", "start").state == "aa"


def test_starting_an_a_a_phase_begins_the_comparison():
    running = walk(defined(state="aa"), "start")

    assert (running.state, running.phase, running.pre_phase) == ("running", 2, 1)
    assert walk(defined(state="aa"), "start", "start") == running


def test_a_bandit_moves_shares_and_begins_a_phase_each_time():
    definition = defined(policy="thompson")
    allocate = Change(action="allocate", shares_bp={"old": 2000, "new": 8000})

    moved = walk(definition, allocate)

    assert moved.phase == 2
    assert [v.share_bp for v in in_force(definition, moved).variants] == [2000, 8000]
    assert after(definition, moved, allocate, 3.0) is moved
    for shares in ({"old": 10_000}, {"old": 1, "new": 2}):
        with pytest.raises(ChangeRefused, match="together 10000 bp"):
            walk(definition, Change(action="allocate", shares_bp=shares))


@pytest.mark.parametrize(
    "edit",
    [
        {"salt": "other"},
        {"traffic_bp": 5000},
        {"holdout_bp": 100},
        {"unit": "session"},
        {"layer": "l"},
        {"policy": "thompson"},
        {"phase": 2},
        {"rollout": None},
        {"variants": (Variant(name="old", share_bp=6000), Variant(name="new", share_bp=4000))},
        {
            "variants": (
                Variant(name="old", share_bp=5000),
                Variant(name="new", share_bp=5000, deployment="d"),
            )
        },
        {
            "variants": (
                Variant(name="old", share_bp=5000),
                Variant(name="new", share_bp=5000, cache="off"),
            )
        },
        {"isolate_cache": True},
    ],
)
def test_an_edit_of_the_split_begins_a_phase_and_the_rollout_again(edit):
    later = walk(defined(), "ramp", "ramp")

    edited = taken_up(defined(**edit), later, 8.0)

    assert (edited.phase, edited.since) == (4, 8.0)
    assert edited.definition == digest_of_split(defined(**edit)) != later.definition
    assert edited.stage == (None if edit.get("rollout", PLAN) is None else 0)


@pytest.mark.parametrize(
    "edit",
    [
        {"overrides": {"u": "new"}},
        {"objective": "latency"},
        {"shadow_bp": 10},
        {"rollout": replace(PLAN, ctr_margin=0.05)},
    ],
)
def test_an_edit_beside_the_split_keeps_the_phase_and_is_a_generation(edit):
    standing = walk(defined(), "ramp")

    edited = taken_up(defined(**edit), standing, 8.0)

    assert (edited.phase, edited.since, edited.stage) == (2, 2.0, 1)
    assert edited.generation == standing.generation + 1
    assert taken_up(defined(**edit), edited, 9.0) is edited


def test_a_persons_change_wins_until_the_file_says_another_state():
    rolled_back = walk(defined(), "rollback")

    assert taken_up(defined(), rolled_back, 3.0) is rolled_back
    paused = taken_up(defined(state="paused"), rolled_back, 3.0)
    assert (paused.state, paused.phase) == ("paused", 2)
    running = taken_up(defined(), paused, 4.0)
    assert (running.state, running.phase) == ("running", 2)


def test_a_rollback_survives_an_edit_of_the_split():
    rolled_back = walk(defined(), "rollback")

    assert taken_up(defined(salt="s"), rolled_back, 3.0).state == "rolled_back"


def test_a_promoted_variant_that_is_edited_away_serves_nobody():
    promoted = walk(defined(), "promote")
    without = defined(
        variants=(Variant(name="old", share_bp=5000), Variant(name="newer", share_bp=5000))
    )

    assert taken_up(without, promoted, 3.0).state == "stopped"
    assert in_force(without, promoted).state == "paused"


def test_a_replica_with_the_older_file_keeps_its_phase_and_obeys_a_rollback():
    own = walk(defined(), "ramp")
    newest = taken_up(defined(salt="s"), own, 3.0)

    assert kept_by(own, newest) == own
    rolled_back = after(defined(salt="s"), newest, Change(action="rollback"), 4.0)
    kept = kept_by(own, rolled_back)
    assert (kept.state, kept.phase, kept.traffic_bp) == ("rolled_back", 2, 500)


def test_a_clock_that_goes_back_moves_no_beginning_back():
    assert after(defined(), first_standing(defined(), 9.0), Change(action="stop"), 2.0).since == 9.0


_ACTIONS = st.sampled_from(["start", "pause", "ramp", "promote", "rollback", "stop", "advance"])
_FILES = st.sampled_from(["draft", "running", "paused", "aa", "stopped"])


@given(st.lists(st.one_of(_ACTIONS.map(lambda a: Change(action=a)), _FILES), max_size=25))
def test_whatever_happens_no_phase_holds_two_kinds_of_data(steps):
    """A phase is named once and for all: its state when counting, its traffic, its stage."""
    definition = defined()
    standing = first_standing(definition, 0.0)
    seen, ended = {}, set()
    for now, step in enumerate(steps, 1):
        before = standing
        if isinstance(step, Change):
            try:
                standing = after(definition, standing, step, float(now))
            except ChangeRefused:
                continue
        else:
            definition = defined(state=step)
            standing = taken_up(definition, standing, float(now))
        assert standing is before or standing.generation == before.generation + 1
        assert standing.phase in (before.phase, before.phase + 1)
        if standing.state in ("rolled_back", "promoted", "stopped") and standing.phase in seen:
            ended.add(standing.phase)
        if standing.state in ("running", "aa"):
            assert standing.phase not in ended
            kind = (standing.state, standing.traffic_bp, standing.stage)
            assert seen.setdefault(standing.phase, kind) == kind
        in_force(definition, standing)


def test_a_record_is_read_as_it_was_written():
    standing = walk(defined(policy="thompson"), "ramp")
    record = DecisionRecord(
        at=1.5,
        key="e",
        action="hold",
        by="rule",
        reason="too few users",
        before=standing,
        after=standing,
        config_digest="d",
        evidence={"users": 3, "ctr": None},
        dry_run=True,
    )

    assert msgspec.json.decode(msgspec.json.encode(record), type=DecisionRecord) == record


def test_another_version_of_a_model_begins_a_phase_and_the_rollout_again():
    served = {"ranker": "m@1", "popular": "m@1"}
    aa = first_standing(defined(state="aa"), 1.0, served)
    running = after(defined(state="aa"), aa, Change(action="start"), 2.0)
    later = after(defined(state="aa"), running, Change(action="ramp", stage=2), 3.0)
    assert taken_up(defined(state="aa"), later, 4.0, served) is later

    begun = taken_up(defined(state="aa"), later, 4.0, served | {"ranker": "m@2"})

    assert (begun.phase, begun.stage, begun.traffic_bp) == (4, 0, 100)
    assert (begun.state, begun.since, begun.pre_phase) == ("running", 4.0, aa.phase)
    assert why_defined(later, begun) == (
        "another model serves, ranker by m@2 instead of m@1: phase 4 begins"
    )


def test_models_that_were_not_known_before_begin_no_phase():
    running = walk(defined())

    known = taken_up(defined(), running, 3.0, {"ranker": "m@1"})

    assert (known.phase, known.models) == (running.phase, {"ranker": "m@1"})


@pytest.mark.parametrize("end", ["rollback", "promote", "stop"])
def test_an_experiment_that_ended_keeps_its_phase_and_learns_the_models_when_it_starts(end):
    first, second = {"ranker": "m@1"}, {"ranker": "m@2"}
    ended = after(defined(), first_standing(defined(), 1.0, first), Change(action=end), 2.0)

    assert taken_up(defined(), ended, 3.0, second) is ended
    if end == "promote":
        ended = after(defined(), ended, Change(action="rollback"), 3.0)
    started = after(defined(), ended, Change(action="start"), 4.0)
    assert (started.phase, started.models) == (2, {})
    known = taken_up(defined(), started, 5.0, second)
    assert (known.phase, known.models) == (2, second)
