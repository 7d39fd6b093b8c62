"""Decisions of one and of several experiments; the hash itself is told in test_hash.py."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.assignment import Assigner, Assignment, Decision, ForceRefused, Units, bucket
from experiments.definition import Experiment, Rule, Variant

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def experiment(key: str = "demo", *, deploys: bool = True, **changes: object) -> Experiment:
    variants = tuple(
        Variant(name=name, share_bp=5000, deployment=f"{key}-{name}" if deploys else None)
        for name in ("control", "treatment")
    )
    return Experiment(**{"key": key, "variants": variants, **changes})


def one(decision: Decision) -> Assignment:
    (assignment,) = decision.assignments
    return assignment


def decide(e: Experiment, user: str | None = "u1", **how: object) -> Assignment:
    return one(Assigner([e]).decide(Units(user), **how))


def test_a_split_unit_gets_the_variant_of_its_bucket_and_its_deployment():
    e = experiment()
    assigner = Assigner([e])

    for number in range(200):
        user = f"u{number}"
        expected = "control" if bucket(user, "demo.split") < 5_000_000 else "treatment"
        decision = assigner.decide(Units(user))

        assert one(decision) == Assignment(
            "demo", 1, expected, f"demo-{expected}", "SPLIT", user, propensity=0.5
        )
        assert decision.deployment == f"demo-{expected}"
        assert one(decision).counts


def test_every_draw_uses_the_salt_that_is_published_for_it():
    e = experiment(
        "a", holdout_bp=2000, layer_range_bp=(1000, 9000), traffic_bp=7000, salt="2026-11"
    )
    assigner = Assigner([e])

    for number in range(1000):
        user = f"u{number}"
        if bucket(user, "podium.holdout") < 2_000_000:
            expected = "HOLDOUT"
        elif not 1_000_000 <= bucket(user, "deployment") < 9_000_000:
            expected = "LAYER"
        elif bucket(user, "2026-11.gate") >= 7_000_000:
            expected = "TRAFFIC"
        else:
            expected = "SPLIT"
        assert one(assigner.decide(Units(user))).reason == expected


@pytest.mark.parametrize(
    ("user", "salt", "slot", "expected"),
    [
        ("u389293", "demo.split", 4_999_999, ("SPLIT", "control")),
        ("u13353230", "demo.split", 5_000_000, ("SPLIT", "treatment")),
        ("u15595790", "demo.gate", 6_999_999, ("SPLIT", "treatment")),
        ("u2689399", "demo.gate", 7_000_000, ("TRAFFIC", "control")),
    ],
)
def test_a_range_ends_before_its_end(user, salt, slot, expected):
    assignment = decide(experiment(traffic_bp=7000 if salt == "demo.gate" else 10_000), user)

    assert bucket(user, salt) == slot
    assert (assignment.reason, assignment.variant) == expected


def test_a_rollout_reaches_all_variants_alike():
    """With one hash for gate and split, a tenth of the traffic would be control only."""
    assigner = Assigner([experiment(traffic_bp=1000)])
    variants = Counter(
        assignment.variant
        for number in range(20_000)
        if (assignment := one(assigner.decide(Units(f"u{number}")))).picked
    )

    assert variants["treatment"] / variants.total() == pytest.approx(0.5, abs=0.04)


@given(ids)
def test_a_unit_always_gets_the_same_answer(user):
    assert decide(experiment(), user) == decide(experiment(), user)


@given(ids, st.integers(0, 10_000), st.integers(0, 10_000))
def test_growing_traffic_never_moves_a_unit_that_is_in(user, one_bp, other_bp):
    low, high = sorted((one_bp, other_bp))
    before = decide(experiment(traffic_bp=low), user)
    after = decide(experiment(traffic_bp=high), user)

    if before.reason == "SPLIT":
        assert after == before


def test_traffic_adds_units_at_the_pace_of_its_share():
    users = [f"u{n}" for n in range(20_000)]
    members: set[str] = set()
    for traffic in (100, 500, 2000, 5000, 10_000):
        e = Assigner([experiment(traffic_bp=traffic)])
        now = {user for user in users if one(e.decide(Units(user))).picked}

        assert members <= now
        assert len(now) / len(users) == pytest.approx(traffic / 10_000, abs=0.01)
        members = now


def test_no_traffic_is_nobody_and_all_traffic_is_everybody():
    for number in range(2000):
        assert decide(experiment(traffic_bp=0), f"u{number}").reason == "TRAFFIC"
        assert decide(experiment(), f"u{number}").reason == "SPLIT"


@given(st.lists(st.integers(1, 100), min_size=2, max_size=6), ids)
def test_every_bucket_belongs_to_the_variant_whose_range_holds_it(weights, user):
    shares = [10_000 * w // sum(weights) for w in weights]
    shares[0] += 10_000 - sum(shares)
    e = Experiment(
        key="demo",
        variants=tuple(Variant(name=str(at), share_bp=s) for at, s in enumerate(shares)),
    )

    at = int(decide(e, user).variant)

    place = bucket(user, "demo.split")
    assert sum(shares[:at]) * 1000 <= place < sum(shares[: at + 1]) * 1000


def test_a_variant_without_share_gets_nobody():
    e = Experiment(
        key="demo",
        variants=(
            Variant(name="a", share_bp=0),
            Variant(name="b", share_bp=10_000),
            Variant(name="c", share_bp=0),
        ),
    )

    assert {decide(e, f"u{n}").variant for n in range(2000)} == {"b"}


@pytest.mark.parametrize("user", [None, ""])
def test_a_request_without_unit_is_never_drawn(user):
    assignment = decide(experiment(), user)

    assert assignment.reason == "TARGETING_KEY_MISSING"
    assert assignment.variant == "control"
    assert assignment.deployment is None
    assert not assignment.counts


@pytest.mark.parametrize(
    ("kind", "user", "session", "expected"),
    [
        ("user", "u1", "s1", "u1"),
        ("user", None, "s1", None),
        ("session", "u1", "s1", "s1"),
        ("session", "u1", "", None),
        ("user_or_session", "u1", "s1", "u1"),
        ("user_or_session", "", "s1", "s1"),
        ("user_or_session", None, None, None),
    ],
)
def test_the_unit_is_what_the_experiment_randomises(kind, user, session, expected):
    assignment = one(Assigner([experiment(unit=kind)]).decide(Units(user, session)))

    assert assignment.unit == expected
    assert assignment.picked == (expected is not None)


def test_text_that_looks_like_a_number_is_text():
    """Each spelling is a unit of its own: nothing is trimmed, folded or converted."""
    buckets = {bucket(user, "demo.split") for user in ("7", "07", "7.0", " 7", "７")}

    assert len(buckets) == 5


def test_a_paused_experiment_touches_nobody():
    e = experiment(state="paused", overrides={"u1": "treatment"})
    for how in ({}, {"external": {"demo": "treatment"}}):
        assignment = decide(e, **how)
        assert (assignment.reason, assignment.deployment) == ("DISABLED", None)


def test_a_paused_experiment_can_be_looked_at_by_force():
    assignment = decide(experiment(state="paused"), forced={"demo": "treatment"})

    assert (assignment.reason, assignment.deployment) == ("FORCED", "demo-treatment")


def test_an_override_wins_over_every_draw_and_is_not_counted():
    e = experiment(traffic_bp=0, holdout_bp=10_000, overrides={"u1": "treatment"})
    assignment = decide(e)

    assert (assignment.variant, assignment.reason) == ("treatment", "OVERRIDE")
    assert assignment.deployment == "demo-treatment"
    assert not assignment.counts
    assert decide(e, "u2").reason == "HOLDOUT"


def test_an_override_names_the_unit_that_is_randomised():
    e = experiment(unit="session", overrides={"x": "treatment"})
    assigner = Assigner([e])

    assert one(assigner.decide(Units("x", "s1"))).reason == "SPLIT"
    assert one(assigner.decide(Units("u1", "x"))).reason == "OVERRIDE"


def test_a_forced_variant_wins_over_an_override_and_is_not_counted():
    e = experiment(overrides={"u1": "treatment"})
    assignment = decide(e, forced={"demo": "control"}, external={"demo": "treatment"})

    assert (assignment.variant, assignment.reason) == ("control", "FORCED")
    assert not assignment.counts


@pytest.mark.parametrize(
    ("forced", "key", "says"),
    [
        ({"nope": "control"}, "nope", "there is no experiment 'nope'; there are: a, b, ui"),
        ({"a": "x"}, "a", "experiment 'a' has no variant 'x'; there are: control, treatment"),
        ({"a": ""}, "a", "has no variant ''"),
        ({"a": "control", "b": "control"}, "b", "are in the layer 'deployment'; force one"),
    ],
)
def test_a_force_that_cannot_be_is_the_callers_mistake(forced, key, says):
    assigner = Assigner(
        [
            experiment("a", layer_range_bp=(0, 5000)),
            experiment("b", layer_range_bp=(5000, 10_000)),
            experiment("ui", deploys=False),
        ]
    )

    with pytest.raises(ForceRefused) as refused:
        assigner.decide(Units("u1"), forced=forced)

    assert refused.value.key == key
    assert says in str(refused.value)


def test_an_external_decision_is_taken_over_and_counted():
    assignment = decide(experiment(traffic_bp=0), external={"demo": "treatment"})

    assert (assignment.variant, assignment.reason) == ("treatment", "EXTERNAL")
    assert assignment.deployment == "demo-treatment"
    assert assignment.counts


def test_an_external_decision_without_unit_serves_but_cannot_be_counted():
    assignment = decide(experiment(), None, external={"demo": "treatment"})

    assert assignment.reason == "EXTERNAL"
    assert not assignment.counts


@pytest.mark.parametrize("how", [{"method": "interleave"}, {"policy": "thompson"}])
def test_no_variant_is_decided_elsewhere_where_slates_are_mixed_or_a_bandit_sets_the_shares(how):
    """Mixed, the unit would be counted beside those that see both; a bandit weighs by
    probabilities, which nobody has told."""
    decision = Assigner([experiment(**how)]).decide(Units("u1"), external={"demo": "treatment"})

    (assignment,) = decision.assignments
    assert (assignment.variant, assignment.reason) == ("control", "DEFAULT")
    assert not assignment.counts
    assert decision.external_ignored == ("demo",)


def test_an_external_decision_that_names_nothing_of_ours_is_reported_and_harmless():
    decision = Assigner([experiment()]).decide(
        Units("u1"), external={"demo": "purple", "nope": "treatment"}
    )

    assignment = one(decision)
    assert (assignment.reason, assignment.variant) == ("DEFAULT", "control")
    assert decision.deployment is None
    assert not assignment.counts
    assert decision.external_ignored == ("demo", "nope")


def test_experiments_of_one_layer_never_share_a_unit():
    assigner = Assigner(
        [
            experiment("a", layer_range_bp=(0, 3000)),
            experiment("b", layer_range_bp=(3000, 10_000)),
        ]
    )
    got: Counter[str] = Counter()
    for number in range(10_000):
        user = f"u{number}"
        a, b = assigner.decide(Units(user)).assignments
        assert {a.reason, b.reason} == {"SPLIT", "LAYER"}
        assert a.picked == (bucket(user, "deployment") < 3_000_000)
        got["a" if a.picked else "b"] += 1

    assert got["a"] / 10_000 == pytest.approx(0.3, abs=0.015)


@given(
    ids,
    st.sampled_from(["forced", "external", "override"]),
    st.sampled_from(["a", "b"]),
)
def test_one_experiment_decides_the_model_however_it_was_decided(user, how, key):
    overrides = {user: "treatment"} if how == "override" else {}
    assigner = Assigner(
        [
            experiment(k, layer_range_bp=part, overrides=overrides if k == key else {})
            for k, part in (("a", (0, 5000)), ("b", (5000, 10_000)))
        ]
    )
    named = {} if how == "override" else {how: {key: "treatment"}}

    decision = assigner.decide(Units(user), **named)

    deciding = [a.key for a in decision.assignments if a.picked]
    assert deciding == [key]
    assert decision.deployment == f"{key}-treatment"
    assert {a.reason for a in decision.assignments} - {"LAYER"} == {how.upper()}


def test_the_stronger_decision_takes_the_layer():
    assigner = Assigner(
        [
            experiment("a", layer_range_bp=(0, 5000)),
            experiment("b", layer_range_bp=(5000, 10_000)),
        ]
    )

    decision = assigner.decide(Units("u1"), forced={"b": "control"}, external={"a": "treatment"})

    assert [a.reason for a in decision.assignments] == ["LAYER", "FORCED"]


def test_a_pinned_unit_is_still_drawn_in_other_layers():
    assigner = Assigner([experiment("a"), experiment("ui", deploys=False)])

    decision = assigner.decide(Units("u1"), forced={"a": "treatment"})

    assert [a.reason for a in decision.assignments] == ["FORCED", "SPLIT"]
    assert decision.deployment == "a-treatment"


def test_the_namespace_holds_out_the_same_units_everywhere():
    def held(e: Experiment) -> set[str]:
        users = (f"u{n}" for n in range(10_000))
        return {user for user in users if decide(e, user).reason == "HOLDOUT"}

    small = held(experiment("a", holdout_bp=500))

    assert small == held(experiment("b", holdout_bp=500))
    assert small < held(experiment("c", holdout_bp=1000))
    assert len(small) / 10_000 == pytest.approx(0.05, abs=0.01)
    assert small != held(experiment("a", holdout_bp=500, namespace="elsewhere"))


def test_who_is_kept_out_is_not_touched():
    everyone_out = [
        experiment(holdout_bp=10_000),
        experiment(traffic_bp=0),
        experiment(state="paused"),
    ]
    for e in everyone_out:
        decision = Assigner([e]).decide(Units("u1"))
        assert decision.deployment is None
        assert not one(decision).counts
        assert not one(decision).picked


def test_a_variant_without_deployment_leaves_the_surface_as_it_is():
    e = Experiment(
        key="demo",
        variants=(
            Variant(name="control", share_bp=5000),
            Variant(name="treatment", share_bp=5000, deployment="fp16"),
        ),
    )
    decisions = [Assigner([e]).decide(Units(f"u{n}")) for n in range(50)]

    assert {(one(d).variant, d.deployment) for d in decisions} == {
        ("control", None),
        ("treatment", "fp16"),
    }


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("draft", "DRAFT"),
        ("paused", "DISABLED"),
        ("stopped", "STOPPED"),
        ("rolled_back", "ROLLED_BACK"),
    ],
)
def test_an_experiment_that_does_not_run_says_why_and_can_be_looked_at(state, reason):
    e = experiment(state=state, overrides={"u1": "treatment"})

    for how in ({}, {"external": {"demo": "treatment"}}, {"external": {"demo": "nope"}}):
        kept_out = decide(e, **how)
        assert (kept_out.reason, kept_out.deployment, kept_out.counts) == (reason, None, False)
    assert decide(e, forced={"demo": "treatment"}).deployment == "demo-treatment"


def test_in_an_aa_everybody_is_drawn_and_counted_and_served_as_ever():
    running, aa = experiment(traffic_bp=5000), experiment(traffic_bp=5000, state="aa")

    for number in range(200):
        drawn, same = decide(running, f"u{number}"), decide(aa, f"u{number}")
        assert (same.variant, same.reason, same.counts, same.propensity) == (
            drawn.variant,
            drawn.reason,
            drawn.counts,
            drawn.propensity,
        )
        assert same.deployment is None


def test_in_an_aa_only_force_reaches_a_deployment():
    e = experiment(state="aa", overrides={"u2": "treatment"})

    assert decide(e, external={"demo": "treatment"}).deployment is None
    assert decide(e, "u2").deployment is None
    assert decide(e, forced={"demo": "treatment"}).deployment == "demo-treatment"


def test_a_promoted_variant_serves_whoever_could_have_been_drawn_and_counts_nobody():
    changes = {
        "traffic_bp": 100,
        "holdout_bp": 1000,
        "layer_range_bp": (0, 9000),
        "targeting": (Rule("device", "==", "phone"),),
    }
    running = Assigner([experiment(**changes)])
    promoted = Assigner([experiment(**changes, state="promoted", promoted="treatment")])
    seen: Counter[str] = Counter()
    for number in range(1000):
        for context in ({"device": "phone"}, {"device": "tablet"}):
            before = one(running.decide(Units(f"u{number}"), context=context))
            after = one(promoted.decide(Units(f"u{number}"), context=context))
            seen[after.reason] += 1
            if before.reason in ("SPLIT", "TRAFFIC"):
                assert (after.variant, after.reason) == ("treatment", "PROMOTED")
                assert after.deployment == "demo-treatment"
                assert (after.picked, after.counts, after.propensity) == (True, False, 1.0)
            else:
                assert (after.reason, after.deployment) == (before.reason, None)

    assert set(seen) == {"PROMOTED", "NOT_TARGETED", "HOLDOUT", "LAYER"}
    assert one(promoted.decide(Units(None))).reason == "TARGETING_KEY_MISSING"


def test_after_a_promotion_pins_of_units_are_over():
    e = experiment(state="promoted", promoted="treatment", overrides={"u1": "control"})

    for how in ({}, {"external": {"demo": "control"}}, {"external": {"demo": "nope"}}):
        assert decide(e, **how).reason == "PROMOTED"
    assert decide(e, forced={"demo": "control"}).deployment == "demo-control"


def test_a_promoted_experiment_leaves_the_layer_to_what_is_forced():
    assigner = Assigner(
        [
            experiment("a", layer_range_bp=(0, 5000), state="promoted", promoted="treatment"),
            experiment("b", layer_range_bp=(5000, 10_000)),
        ]
    )

    for number in range(50):
        decision = assigner.decide(Units(f"u{number}"), forced={"b": "control"})
        assert decision.deployment == "b-control"
        assert [a.reason for a in decision.assignments] == ["LAYER", "FORCED"]


@pytest.mark.parametrize("state", ["running", "aa", "promoted"])
def test_an_experiment_that_is_not_ready_assigns_nobody_however_it_is_asked(state):
    promoted = "treatment" if state == "promoted" else None
    e = experiment(state=state, promoted=promoted, overrides={"u2": "treatment"})
    assigner = Assigner([e], {"demo": "demo-treatment is not warm"})

    for user, external in (("u1", {}), ("u2", {}), ("u1", {"demo": "treatment"})):
        assignment = one(assigner.decide(Units(user), external=external))
        assert (assignment.reason, assignment.deployment) == ("NOT_READY", None)
        assert not assignment.picked
    with pytest.raises(ForceRefused, match="'demo' is not ready: demo-treatment is not warm"):
        assigner.decide(Units("u1"), forced={"demo": "treatment"})


def test_readiness_of_one_experiment_leaves_the_others_alone_and_is_no_definition():
    experiments = [experiment("a"), experiment("ui", deploys=False)]
    assigner = Assigner(experiments, {"a": "cold", "long gone": "cold"})

    assert [a.reason for a in assigner.decide(Units("u1")).assignments] == ["NOT_READY", "SPLIT"]
    assert assigner.digest == Assigner(experiments).digest


def test_a_paused_experiment_is_paused_whether_it_is_ready_or_not():
    assert (
        one(Assigner([experiment(state="paused")], {"demo": "cold"}).decide(Units("u1"))).reason
        == "DISABLED"
    )


def test_the_propensity_is_the_share_of_the_variant_drawn():
    e = Experiment(
        key="demo",
        variants=(Variant(name="a", share_bp=9000), Variant(name="b", share_bp=1000)),
        traffic_bp=5000,
    )
    drawn = [decide(e, f"u{n}") for n in range(500)]

    assert {(a.variant, a.propensity) for a in drawn if a.reason == "SPLIT"} == {
        ("a", 0.9),
        ("b", 0.1),
    }
    assert decide(e, forced={"demo": "b"}).propensity == 1.0


def test_an_interleaving_gives_both_variants_to_who_takes_part():
    e = experiment(method="interleave", traffic_bp=5000)
    assignments = [decide(e, f"u{n}") for n in range(200)]

    for assignment in assignments:
        takes_part = assignment.reason == "SPLIT"
        assert assignment.interleaves is takes_part
        assert assignment.variant == "control"
        assert assignment.deployment == ("demo-control" if takes_part else None)
        assert assignment.propensity == 1.0
    assert 0 < sum(a.interleaves for a in assignments) < 200
    assert decide(e, forced={"demo": "treatment"}).interleaves is False
    assert decide(experiment(method="interleave", state="aa")).interleaves is False


@pytest.mark.parametrize("how", ["forced", "external", "override"])
def test_a_variant_named_0_is_a_variant_like_any_other(how):
    e = Experiment(
        key="demo",
        variants=(
            Variant(name="1", share_bp=10_000, deployment="one"),
            Variant(name="0", share_bp=0, deployment="zero"),
        ),
        overrides={"u1": "0"} if how == "override" else {},
    )
    named = {} if how == "override" else {how: {"demo": "0"}}

    assignment = decide(e, **named)

    assert (assignment.variant, assignment.deployment) == ("0", "zero")
    assert assignment.reason == how.upper()


def test_an_id_without_utf8_form_is_no_id():
    """mmh3 5.3.1 ends the process with SIGSEGV on a str with a lone surrogate."""
    e = experiment(unit="user_or_session", holdout_bp=10)

    assignment = decide(e, "u\ud800")

    assert (assignment.reason, assignment.unit) == ("TARGETING_KEY_MISSING", None)
    for how in ("external", "forced"):
        pinned = decide(e, "u\ud800", **{how: {"demo": "treatment"}})
        assert (pinned.variant, pinned.unit, pinned.counts) == ("treatment", None, False)
    assert decide(experiment(state="paused"), "u\ud800").unit is None


def test_an_id_that_is_no_text_is_refused_and_not_converted():
    with pytest.raises(AttributeError):
        decide(experiment(), 12345)


def test_no_experiments_decide_nothing():
    assert Assigner([]).decide(Units("u1")) == Decision(())


def test_the_digest_names_the_definitions():
    assert Assigner([experiment()]).digest == Assigner([experiment()]).digest
    assert Assigner([experiment()]).digest != Assigner([experiment(traffic_bp=1)]).digest


def test_experiments_that_cannot_run_side_by_side_are_refused():
    with pytest.raises(ValueError, match="overlap"):
        Assigner([experiment("a"), experiment("b")])
