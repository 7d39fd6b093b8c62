import msgspec
import pytest

from experiments.definition import Experiment, Rollout, Rule, Variant
from experiments.together import check_together


def variants(*shares: int, deployment: str | None = None) -> tuple[Variant, ...]:
    return tuple(
        Variant(name=f"v{at}", share_bp=share, deployment=deployment)
        for at, share in enumerate(shares)
    )


HALVES = variants(5000, 5000)
TWO_MODELS = (Variant(name="a", share_bp=5000), Variant(name="b", share_bp=5000, deployment="b"))
INTERLEAVED_BY_NAME = (TWO_MODELS[0], Variant(name="interleaved", share_bp=5000, deployment="b"))


def test_the_key_is_the_salt_unless_another_is_given():
    assert Experiment(key="demo", variants=HALVES).salt == "demo"
    assert Experiment(key="demo", variants=HALVES, salt="2026-11").salt == "2026-11"


def test_the_first_variant_is_the_control():
    assert Experiment(key="demo", variants=HALVES).control.name == "v0"


def test_a_variant_may_be_named_0():
    experiment = Experiment(
        key="demo", variants=(Variant(name="0", share_bp=0), Variant(name="1", share_bp=10_000))
    )
    assert experiment.control.name == "0"


def test_an_experiment_with_deployments_is_in_the_deployment_layer():
    decides = variants(5000, 5000, deployment="fp16")

    assert Experiment(key="demo", variants=decides).layer == "deployment"
    assert Experiment(key="demo", variants=HALVES).layer is None


def test_a_definition_survives_json():
    experiment = Experiment(
        key="demo",
        variants=HALVES,
        layer="ui",
        layer_range_bp=(0, 100),
        targeting=(Rule("hour", "in", (1, 2.5, "x", True)), Rule("x", "exists")),
        rollout=Rollout(automatic=True),
        hash="flagd-v3",
        weights=(1, 1),
    )

    assert msgspec.json.decode(msgspec.json.encode(experiment), type=Experiment) == experiment


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"key": ""}, "experiment key must be"),
        ({"key": "a{b}"}, "experiment key must be"),
        ({"key": "a:b"}, "experiment key must be"),
        ({"key": "x" * 65}, "experiment key must be"),
        ({"variants": variants(10_000)}, "at least 2 variants, it has 1"),
        ({"variants": variants(5000, 4999)}, "sum to 9999 bp, not to 10000"),
        ({"variants": HALVES[:1] * 2}, "names must be distinct, got v0, v0"),
        ({"hash": "md5"}, "the hash 'md5' is unknown; this version knows m3x32-v1, growthbook-v1,"),
        ({"traffic_bp": -1}, "traffic_bp must be 0 to 10000, got -1"),
        ({"traffic_bp": 10_001}, "traffic_bp must be 0 to 10000, got 10001"),
        ({"holdout_bp": 10_001}, "holdout_bp must be 0 to 10000, got 10001"),
        ({"overrides": {"u1": "v9"}}, "override of 'u1' names the variant 'v9'; there are v0, v1"),
        ({"overrides": {"": "v1"}}, "empty unit id"),
        ({"phase": 0}, "phase must be 1 to 1000000000"),
        ({"salt": "x" * 129}, "salt must have at most 128"),
        ({"layer": "ui", "layer_range_bp": (5, 5)}, "layer_range_bp must be [from, to]"),
        ({"layer": "ui", "layer_range_bp": (0, 10_001)}, "got [0, 10001]"),
        ({"layer_range_bp": (0, 5000)}, "layer_range_bp needs a layer"),
        ({"layer": "a b"}, "layer must be"),
        ({"namespace": "{ns}"}, "namespace must be"),
        ({"shadow_bp": 10_001}, "shadow_bp must be 0 to 10000, got 10001"),
        ({"salt": "\ud800"}, "salt holds half a character"),
        ({"overrides": {"u\ud800": "v1"}}, "override of 'u\\ud800' can match no unit"),
        ({"state": "promoted"}, "the state 'promoted' and the variant `promoted` go together"),
        ({"promoted": "v1"}, "the state 'promoted' and the variant `promoted` go together"),
        ({"state": "promoted", "promoted": "v9"}, "no variant 'v9'; there are v0, v1"),
        ({"method": "interleave"}, "exactly 2 variants with different deployments"),
        (
            {"method": "interleave", "variants": variants(5000, 5000, deployment="d")},
            "exactly 2 variants with different deployments",
        ),
        (
            {"method": "interleave", "variants": TWO_MODELS, "policy": "thompson"},
            "no split for a policy 'thompson' or a rollout to move",
        ),
        (
            {"method": "interleave", "variants": TWO_MODELS, "rollout": Rollout()},
            "no split for a policy 'thompson' or a rollout to move",
        ),
        (
            {"method": "interleave", "variants": INTERLEAVED_BY_NAME},
            "no variant of it can be named 'interleaved'",
        ),
        (
            {"policy": "thompson", "hash": "flagd-v3", "weights": (1, 1)},
            "policy 'thompson' moves the shares",
        ),
        (
            {"policy": "thompson", "hash": "unleash"},
            "policy 'thompson' moves the shares by basis points; 'unleash' has none",
        ),
        (
            {"hash": "unleash", "rollout": Rollout(stages_bp=(150, 10_000))},
            "counts traffic in whole percents (100 bp), got 150 bp",
        ),
        (
            {"layer": "ui", "variants": variants(1, 9999, deployment="d")},
            "its layer must be 'deployment', not 'ui'",
        ),
    ],
)
def test_an_invalid_definition_says_what_is_wrong(changes, says):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        Experiment(**{"key": "demo", "variants": HALVES, **changes})

    assert says in str(refused.value)


@pytest.mark.parametrize("name", ["", " ", "a b", "-a", "ä", "a\n"])
def test_a_variant_name_is_printable_and_not_empty(name):
    with pytest.raises(ValueError, match="variant name must be"):
        Variant(name=name, share_bp=5000)


@pytest.mark.parametrize("share", [-1, 10_001])
def test_a_share_is_part_of_the_whole(share):
    with pytest.raises(ValueError, match="share_bp must be 0 to 10000"):
        Variant(name="a", share_bp=share)


def test_two_experiments_cannot_share_a_key():
    with pytest.raises(ValueError, match="two experiments have the key 'demo'"):
        check_together([Experiment(key="demo", variants=HALVES)] * 2)


def test_two_experiments_cannot_decide_the_model_of_one_request():
    decides = variants(5000, 5000, deployment="fp16")

    with pytest.raises(ValueError, match="'a' and 'b' overlap in the layer 'deployment' from 0"):
        check_together(
            [Experiment(key="a", variants=decides), Experiment(key="b", variants=decides)]
        )


def test_ranges_of_one_layer_may_touch_but_not_overlap():
    def at(key: str, start: int, end: int, layer: str = "ui") -> Experiment:
        return Experiment(key=key, variants=HALVES, layer=layer, layer_range_bp=(start, end))

    check_together([at("a", 0, 5000), at("b", 5000, 10_000), at("c", 0, 10_000, layer="other")])
    with pytest.raises(ValueError, match="from 4999 to 5000 bp"):
        check_together([at("a", 0, 5000), at("b", 4999, 10_000)])


def test_two_experiments_cannot_split_by_the_same_salt():
    """They would give the same units the same places: carry-over from one to the other."""
    says = (
        r"'a' with the salt 'a\.gate' and the experiment 'b' with the salt 'a\.gate' draw the same"
    )
    with pytest.raises(ValueError, match=says):
        check_together(
            [
                Experiment(key="a", variants=HALVES),
                Experiment(key="b", variants=HALVES, salt="a"),
            ]
        )


def test_a_layer_cannot_draw_with_the_salt_of_a_split():
    says = r"the layer or holdout 'a\.split' and the experiment 'a' with the salt 'a\.split' draw"
    with pytest.raises(ValueError, match=says):
        check_together([Experiment(key="a", variants=HALVES, layer="a.split")])


def test_salts_that_share_a_seed_by_chance_are_refused():
    """murmur3 of s16971.gate and of s126552.gate is the same 32-bit number."""
    with pytest.raises(ValueError, match=r"s16971\.gate.*s126552\.gate"):
        check_together([Experiment(key=key, variants=HALVES) for key in ("s16971", "s126552")])


def test_experiments_may_share_a_layer_and_a_holdout():
    check_together(
        [
            Experiment(key=key, variants=HALVES, layer="ui", layer_range_bp=part, holdout_bp=500)
            for key, part in (("a", (0, 5000)), ("b", (5000, 10_000)))
        ]
    )


def test_a_stopped_experiment_leaves_its_layer_to_the_next_but_not_its_salt():
    old = Experiment(key="old", variants=TWO_MODELS, state="stopped")

    check_together([old, Experiment(key="new", variants=TWO_MODELS)])
    with pytest.raises(ValueError, match="draw the same buckets"):
        check_together([old, Experiment(key="new", variants=TWO_MODELS, salt="old")])


@pytest.mark.parametrize("state", ["draft", "paused", "aa", "rolled_back"])
def test_any_other_keeps_its_part_of_the_layer(state):
    old = Experiment(key="old", variants=TWO_MODELS, state=state)

    with pytest.raises(ValueError, match="overlap in the layer 'deployment'"):
        check_together([old, Experiment(key="new", variants=TWO_MODELS)])


def test_an_interleaving_may_leave_one_of_its_rankers_to_the_surface():
    assert Experiment(key="demo", variants=TWO_MODELS, method="interleave").decides_deployment


def test_a_rollout_reaches_everybody_in_five_stages_and_a_person_takes_each():
    rollout = Rollout()

    assert rollout.stages_bp == (100, 500, 2000, 5000, 10_000)
    assert not rollout.automatic


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stages_bp": ()}, "stages_bp must rise from at least 1 to 10000, got []"),
        ({"stages_bp": (0, 10_000)}, "must rise from at least 1"),
        ({"stages_bp": (500, 500, 10_000)}, "must rise"),
        ({"stages_bp": (500, 100, 10_000)}, "must rise"),
        ({"stages_bp": (100, 5000)}, "to 10000, got [100, 5000]"),
        ({"stages_bp": (100, 10_001)}, "to 10000"),
        ({"ctr_margin": 1.0}, "rollout.ctr_margin must be at least 0 and below 1, got 1.0"),
        ({"ctr_margin": -0.1}, "ctr_margin"),
        ({"ctr_margin": float("nan")}, "ctr_margin"),
        ({"latency_margin": 11.0}, "latency_margin must be at least 0 and at most 10"),
        ({"latency_margin": float("inf")}, "latency_margin"),
        ({"latency_gain": 1.0}, "latency_gain"),
        ({"max_error_rate": 1.1}, "max_error_rate must be at least 0 and at most 1"),
        ({"max_fallback_rate": -0.1}, "max_fallback_rate"),
        ({"max_crossover_rate": float("nan")}, "max_crossover_rate"),
        ({"confidence": 0.4}, "confidence must be 0.5 to 0.9999"),
        ({"confidence": 1.0}, "confidence"),
        ({"minimum_stage_s": -1.0}, "minimum_stage_s must be finite and at least 0"),
        ({"minimum_stage_s": float("inf")}, "minimum_stage_s"),
        ({"minimum_users": 1}, "minimum_users must be at least 2"),
    ],
)
def test_a_rollout_that_cannot_be_judged_is_refused(changes, says):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        Rollout(**changes)

    assert says in str(refused.value)
