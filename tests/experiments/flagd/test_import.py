"""flagd's definitions: what maps gives every unit flagd's variant, and the rest is refused."""

import json
import sys

import pytest
from mmh3 import hash as murmur3

from experiments.assignment import Assigner, Units
from experiments.flagd import Refused, import_flagd
from experiments.source import parse_experiments
from experiments.writing import to_toml

CARDS = ["clubs", "diamonds", "hearts", "spades"]
SUITS = {"variants": {name: name for name in [*CARDS, "wild"]}, "defaultVariant": "wild"}
UNIT = {"var": "targetingKey"}


def quarters(*before):
    by = {"cat": [*before, {"var": "user.name"}]}
    return {"fractional": [by, *([name, 25] for name in CARDS)]}


# Flags and rows of open-feature/flagd-testbed v3.9.0: evaluator/flags/testkit-flags.json,
# evaluator/gherkin/fractional.feature (v2) and gherkin/targeting.feature (v3).
TESTBED = {
    "fractional-flag": SUITS | {"targeting": quarters({"var": "$flagd.flagKey"})},
    "fractional-flag-A-shared-seed": SUITS | {"targeting": quarters("shared-seed")},
    "fractional-flag-shorthand": {
        "variants": {"heads": "heads", "tails": "tails", "draw": "draw"},
        "defaultVariant": "draw",
        "targeting": {"fractional": [["heads"], ["tails", 1]]},
    },
    "fractional-hash-edge-flag": {
        "variants": {"lower": "lower", "upper": "upper"},
        "defaultVariant": "lower",
        "targeting": {"fractional": [UNIT, ["lower", 50], ["upper", 50]]},
    },
    "fractional-single-entry-flag": {
        "variants": {"single": "single", "fallback": "fallback"},
        "defaultVariant": "fallback",
        "targeting": {"fractional": [["single", 1]]},
    },
    "fractional-negative-weight-flag": {
        "variants": {"one": "one", "two": "two", "fallback": "fallback"},
        "defaultVariant": "fallback",
        "targeting": {"fractional": [UNIT, ["one", -50], ["two", 100]]},
    },
}
ROWS = [
    ("flagd-v2", "user.name", "fractional-flag", "jack", "hearts"),
    ("flagd-v2", "user.name", "fractional-flag", "queen", "spades"),
    ("flagd-v2", "user.name", "fractional-flag", "ten", "clubs"),
    ("flagd-v2", "user.name", "fractional-flag", "nine", "diamonds"),
    ("flagd-v2", "user.name", "fractional-flag", "3", "clubs"),
    ("flagd-v2", "user.name", "fractional-flag-A-shared-seed", "seven", "hearts"),
    ("flagd-v2", "user.name", "fractional-flag-A-shared-seed", "eight", "diamonds"),
    ("flagd-v2", "user.name", "fractional-flag-A-shared-seed", "nine", "clubs"),
    ("flagd-v2", "user.name", "fractional-flag-A-shared-seed", "two", "spades"),
    ("flagd-v2", "targetingKey", "fractional-flag-shorthand", "jon@company.com", "heads"),
    ("flagd-v2", "targetingKey", "fractional-flag-shorthand", "jane@company.com", "tails"),
    ("flagd-v2", "targetingKey", "fractional-hash-edge-flag", "ejOoVL", "lower"),
    ("flagd-v2", "targetingKey", "fractional-hash-edge-flag", "bY9fO-", "lower"),
    ("flagd-v2", "targetingKey", "fractional-hash-edge-flag", "SI7p-", "lower"),
    ("flagd-v2", "targetingKey", "fractional-hash-edge-flag", "6LvT0", "upper"),
    ("flagd-v2", "targetingKey", "fractional-hash-edge-flag", "ceQdGm", "upper"),
    ("flagd-v2", "targetingKey", "fractional-single-entry-flag", "some-targeting-key", "single"),
    ("flagd-v2", "targetingKey", "fractional-negative-weight-flag", "any-user", "two"),
    ("flagd-v3", "user.name", "fractional-flag", "jack", "diamonds"),
    ("flagd-v3", "user.name", "fractional-flag", "queen", "diamonds"),
    ("flagd-v3", "user.name", "fractional-flag", "ten", "clubs"),
    ("flagd-v3", "user.name", "fractional-flag", "nine", "clubs"),
    ("flagd-v3", "user.name", "fractional-flag", "3", "spades"),
    ("flagd-v3", "user.name", "fractional-flag-A-shared-seed", "seven", "hearts"),
    ("flagd-v3", "user.name", "fractional-flag-A-shared-seed", "eight", "hearts"),
    ("flagd-v3", "user.name", "fractional-flag-A-shared-seed", "nine", "diamonds"),
    ("flagd-v3", "user.name", "fractional-flag-A-shared-seed", "two", "diamonds"),
    ("flagd-v3", "targetingKey", "fractional-flag-shorthand", "jon@company.com", "tails"),
    ("flagd-v3", "targetingKey", "fractional-flag-shorthand", "jane@company.com", "tails"),
]


def document(**flags):
    return json.dumps({"flags": {key: {"state": "ENABLED", **flag} for key, flag in flags.items()}})


def one(targeting, *, hash_id="flagd-v2", variants=("off", "on", "max"), **changes):
    flag = {
        "variants": {name: name for name in variants},
        "defaultVariant": "off",
        "targeting": targeting,
        **changes,
    }
    return import_flagd(document(flag=flag), hash_id=hash_id)


def imported(targeting, **changes):
    (experiment,) = one(targeting, **changes).experiments
    return experiment


def refusal(targeting, **changes):
    (refused,) = one(targeting, **changes).refused
    return str(refused)


def decided(experiment, unit, context=None):
    decision = Assigner((experiment,)).decide(Units(user=unit), context=context or {})
    (assignment,) = decision.assignments
    return assignment


HALF = {"fractional": [["off", 50], ["on", 50]]}


@pytest.mark.parametrize(("hash_id", "unit", "flag", "who", "variant"), ROWS)
def test_the_testbeds_rows_come_out(hash_id, unit, flag, who, variant):
    text = document(**{flag: TESTBED[flag]})
    (experiment,) = import_flagd(text, hash_id=hash_id, unit=unit).experiments

    assert decided(experiment, who).variant == variant


def test_what_is_written_reads_back_as_the_same_experiments():
    targeting = {
        "if": [
            {"in": [UNIT, ['tester \u007f "1" ☃', "tester\n2"]]},
            "max",
            {
                "if": [
                    {
                        "and": [
                            {"==": [{"var": "country"}, "SE"]},
                            {"in": [{"var": "os"}, ["a", "b"]]},
                        ]
                    },
                    {"fractional": [["off", 1], ["on", 2]]},
                ]
            },
        ]
    }
    experiments = (
        imported(targeting),
        *import_flagd(
            document(**{"fractional-hash-edge-flag": TESTBED["fractional-hash-edge-flag"]}),
            hash_id="flagd-v2",
        ).experiments,
    )

    assert parse_experiments(to_toml(experiments), where="test") == experiments


def test_thirds_stay_thirds():
    experiment = imported({"fractional": [["off", 1], ["on", 1], ["max", 1]]})

    assert experiment.weights == (1, 1, 1)
    assert [variant.share_bp for variant in experiment.variants] == [3334, 3333, 3333]


def test_a_default_that_is_drawn_later_stays_the_control_and_keeps_its_part_of_the_range():
    by = {"fractional": [["on", 1], ["off", 8], ["max", 1]]}
    experiment = imported(by)

    assert experiment.control.name == "off"
    assert experiment.draw_order == ("on", "off", "max")
    assert experiment.weights == (8, 1, 1)
    for n in range(200):
        place = murmur3(f"flagu{n}".encode(), 0, False) * 10 >> 32
        expected = "on" if place < 1 else "off" if place < 9 else "max"
        assert decided(experiment, f"u{n}").variant == expected


def test_rules_say_for_whom():
    targeting = {"if": [{"===": ["SE", {"var": "country"}]}, HALF, None]}
    experiment = imported(targeting)

    swede = decided(experiment, "u1", {"country": "SE"})
    other = decided(experiment, "u1", {"country": "NO"})
    nobody = decided(experiment, "u1")

    assert swede.reason == "SPLIT"
    assert swede.variant == decided(imported(HALF), "u1").variant
    assert (
        (other.reason, other.variant) == (nobody.reason, nobody.variant) == ("NOT_TARGETED", "off")
    )


def test_pinned_units_are_pinned_and_the_first_condition_wins():
    experiment = imported(
        {
            "if": [
                {"==": [UNIT, "ann"]},
                "max",
                {"in": [UNIT, ["ann", "bob"]]},
                "on",
                HALF,
            ]
        }
    )

    assert experiment.overrides == {"ann": "max", "bob": "on"}
    assert decided(experiment, "ann").variant == "max"
    assert decided(experiment, "bob").variant == "on"
    assert decided(experiment, "eve").reason == "SPLIT"


def test_a_disabled_flag_is_a_paused_experiment():
    assert imported(HALF, state="DISABLED").state == "paused"


def test_shared_evaluators_stand_where_they_are_named():
    text = json.dumps(
        {
            "flags": {
                "flag": {
                    "state": "ENABLED",
                    "variants": {"off": False, "on": True},
                    "defaultVariant": "off",
                    "targeting": {"if": [{"$ref": "swedes"}, HALF, "off"]},
                }
            },
            "$evaluators": {"swedes": {"==": [{"var": ["country"]}, "SE"]}},
        }
    )
    (experiment,) = import_flagd(text, hash_id="flagd-v2").experiments

    assert decided(experiment, "u1", {"country": "SE"}).reason == "SPLIT"


COUNTRY = {"var": "country"}


@pytest.mark.parametrize(
    ("condition", "place", "reason"),
    [
        ({"!=": [COUNTRY, "SE"]}, "if[0]", "the operator '!='"),
        ({"!": COUNTRY}, "if[0]", "the operator '!'"),
        ({"or": [COUNTRY]}, "if[0]", "the operator 'or'"),
        ({"<": [{"var": "hour"}, 12]}, "if[0]", "the operator '<'"),
        ({">=": [{"var": "hour"}, 12]}, "if[0]", "the operator '>='"),
        ({"sem_ver": [{"var": "v"}, ">", "1.0.0"]}, "if[0]", "the operator 'sem_ver'"),
        ({"ends_with": [COUNTRY, "E"]}, "if[0]", "the operator 'ends_with'"),
        ({"==": [COUNTRY, "5"]}, "if[0].==[1]", "also equals a number"),
        ({"==": [COUNTRY, ""]}, "if[0].==[1]", "also equals a number"),
        ({"==": [COUNTRY, "true"]}, "if[0].==[1]", "also equals a number"),
        ({"==": [COUNTRY, 5]}, "if[0].==[1]", "compared with conversion"),
        ({"==": [COUNTRY, True]}, "if[0].==[1]", "compared with conversion"),
        ({"==": [COUNTRY, None]}, "if[0].==[1]", "compared with conversion"),
        ({"==": [COUNTRY, {"var": "home"}]}, "if[0].==[1]", "compared with conversion"),
        ({"==": [COUNTRY]}, "if[0].==", "must have 2 arguments, has 1"),
        ({"==": [{"var": "user.country"}, "SE"]}, "if[0].==[0]", "is nested"),
        ({"==": [{"var": ["country", "SE"]}, "SE"]}, "if[0].==[0]", 'must be {"var": name}'),
        ({"==": [{"var": "$flagd.timestamp"}, "SE"]}, "if[0].==[0]", "not in the context"),
        ({"in": [COUNTRY, "SE NO"]}, "if[0].in[1]", "must be a list of texts"),
        ({"in": ["S", COUNTRY]}, "if[0].in[0]", 'must be {"var": name}'),
        ({"in": [COUNTRY, [1, 2]]}, "if[0].in[1]", "must be a list of texts"),
        ({"in": [COUNTRY, []]}, "if[0].in", "needs 1 to"),
        ({"starts_with": [COUNTRY, 5]}, "if[0].starts_with[1]", "must be text"),
        ({"and": [{"==": [UNIT, "u"]}, {"==": [COUNTRY, "SE"]}]}, "and[0]", "not in the context"),
        ({"and": []}, "if[0].and", "holds for nobody"),
        ({"===": [COUNTRY, "\ud800"]}, "if[0].===", "a lone surrogate"),
        ({"$ref": "unknown"}, "if[0]", "there is no evaluator 'unknown'"),
        ({"$ref": ["unknown"]}, "if[0]", "there is no evaluator ['unknown']"),
        (True, "if[0]", "must be an expression"),
        (COUNTRY, "if[0]", "the operator 'var'"),
        ({"in": ["u", UNIT]}, "if[0].in", "a text is searched"),
        ({"==": [UNIT, 5]}, "if[0].==", "a unit is compared with one text"),
    ],
)
def test_conditions_that_might_answer_otherwise_are_refused_with_their_place(
    condition, place, reason
):
    told = refusal({"if": [condition, HALF, None]})

    assert told.startswith("$.flags.flag.targeting.")
    assert place in told
    assert reason in told


@pytest.mark.parametrize(
    ("targeting", "told"),
    [
        (None, "flag: it has no targeting, so it splits nobody"),
        ({}, "flag: it has no targeting, so it splits nobody"),
        ("on", "targeting: gives everybody the same"),
        ({"if": [{"==": [COUNTRY, "SE"]}, "on", "off"]}, "if[1]: gives everybody the same"),
        ({"if": [{"==": [COUNTRY, "SE"]}, HALF, "on"]}, "if[2]: whom the rules leave out"),
        ({"if": [{"==": [COUNTRY, "SE"]}, HALF, HALF]}, "if[2]: whom the rules leave out"),
        ({"if": [{"==": [UNIT, "ann"]}, "on"]}, "targeting: splits nobody"),
        ({"if": [{"==": [UNIT, ""]}, "on", HALF]}, "the id '' is no unit"),
        ({"if": [{"==": [UNIT, "ann"]}, HALF, HALF]}, "if[1]: a pinned unit gets one variant"),
        ({"if": [HALF]}, "`if` needs a condition"),
        ({"fractional": []}, "fractional: all weights are 0"),
        ({"fractional": [["off", 0], ["on", 0]]}, "fractional: all weights are 0"),
        ({"fractional": [["off", 1.5], ["on", 1]]}, "fractional[0][1]: must be a whole number"),
        ({"fractional": [["off", True], ["on", 1]]}, "fractional[0][1]: must be a whole number"),
        ({"fractional": [["off", 1], [COUNTRY, 1]]}, "fractional[1][0]: must be a variant's name"),
        ({"fractional": [["off", 1], ["new", 1]]}, "'new' is no variant of the flag"),
        ({"fractional": [["off", 1], ["on", 1], ["off", 1]]}, "two parts of the range"),
        ({"fractional": [COUNTRY, ["off", 1], ["on", 1]]}, 'must be {"var": "targetingKey"}'),
        ({"fractional": [{"cat": [UNIT, UNIT]}, ["off"], ["on"]]}, "the unit, once"),
        ({"fractional": [{"cat": ["{unit}", UNIT]}, ["off"], ["on"]]}, "the unit, once"),
        ({"fractional": [{"cat": [COUNTRY, UNIT]}, ["off"], ["on"]]}, "the same for all units"),
        ({"fractional": [{"cat": []}, ["off"], ["on"]]}, "the unit, once"),
        ({"fractional": [["off", 2**31], ["on", 1]]}, "weights must be at least 0 and sum to"),
        ({"fractional": [["off", 1]]}, "it needs at least 2 variants"),
        ({"sem_ver": [{"var": "v"}, "=", "1.0.0"]}, "the operator 'sem_ver' does not split"),
        ({"if": [1], "fractional": [2]}, "an object with one operator"),
    ],
)
def test_targetings_that_no_experiment_says_are_refused(targeting, told):
    assert told in refusal(targeting)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"state": "PAUSED"}, "state must be ENABLED or DISABLED"),
        ({"state": ["ENABLED"]}, "state must be ENABLED or DISABLED"),
        ({"defaultVariant": None}, "defaultVariant must name one of the variants"),
        ({"defaultVariant": "other"}, "defaultVariant must name one of the variants"),
        ({"variants": ["off"]}, "defaultVariant must name one of the variants"),
        ({"source": "x"}, "the key 'source' is not one that this import knows"),
    ],
)
def test_flags_that_are_no_experiments_are_refused(changes, told):
    flag = {"variants": {"off": 0, "on": 1}, "defaultVariant": "off", "targeting": HALF} | changes
    (refused,) = import_flagd(document(flag=flag), hash_id="flagd-v2").refused

    assert told in str(refused)


def test_a_text_of_its_own_is_hashed_where_the_rule_makes_one():
    by = {"cat": ["a", UNIT, {"var": "$flagd.flagKey"}]}

    assert imported({"fractional": [UNIT, ["off"], ["on"]]}).split_salt == "{unit}"
    assert imported({"fractional": [by, ["off"], ["on"]]}).split_salt == "a{unit}flag"
    assert imported({"fractional": [["off"], ["on"]]}).split_draws_by == "flag"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "must be an object with `flags`"),
        ('{"flags": {}, "rules": 1}', "the key 'rules'"),
    ],
)
def test_what_is_no_flagd_document_is_refused_as_a_whole(text, told):
    with pytest.raises(Refused, match=told):
        import_flagd(text, hash_id="flagd-v2")


def test_flags_are_picked_by_key_and_the_others_do_not_matter():
    text = document(**TESTBED, broken={})
    found = import_flagd(text, hash_id="flagd-v2", keys=["fractional-flag-shorthand"])

    assert [experiment.key for experiment in found.experiments] == ["fractional-flag-shorthand"]
    assert found.refused == ()
    with pytest.raises(Refused, match="there is no flag 'nowhere'"):
        import_flagd(text, hash_id="flagd-v2", keys=["nowhere"])


def test_evaluators_that_name_each_other_end():
    text = json.dumps(
        {"flags": {"f": {"targeting": {"$ref": "a"}}}, "$evaluators": {"a": {"$ref": "a"}}}
    )
    (refused,) = import_flagd(text, hash_id="flagd-v2").refused

    assert "without an end" in refused.reason


def test_what_is_nested_without_measure_is_refused_alone():
    deep = HALF
    # From Python 3.12 on, calls within C are limited apart and comprehensions are no calls.
    for _ in range(300 if sys.version_info < (3, 12) else 700):
        deep = {"if": [{"===": [COUNTRY, "SE"]}, deep]}
    flag = {"state": "ENABLED", "variants": {"off": 0, "on": 1}, "defaultVariant": "off"}

    found = import_flagd(
        document(deep=flag | {"targeting": deep}, good=flag | {"targeting": HALF}),
        hash_id="flagd-v2",
    )

    assert [experiment.key for experiment in found.experiments] == ["good"]
    assert [str(one) for one in found.refused] == ["$.flags.deep: it is nested too deeply to read"]
