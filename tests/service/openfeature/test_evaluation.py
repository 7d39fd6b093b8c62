"""Experiments in OpenFeature's words."""

from typing import get_args

import pytest

from experiments.assignment import Assigner
from experiments.definition import Experiment, Rule, Variant
from experiments.outcome import Reason
from service.openfeature import evaluation
from service.openfeature.evaluation import ContextInvalid, flag, flags

HALVES = (Variant(name="a", share_bp=5000), Variant(name="b", share_bp=5000))


def one(**changes):
    return Assigner((Experiment(key="test", variants=HALVES, **changes),))


def test_every_reason_has_a_word():
    assert set(evaluation._REASONS) == set(get_args(Reason))


def test_a_flag_is_what_the_assigner_decides():
    assigner = one()
    for n in range(50):
        unit = f"u{n}"
        (decided,) = assigner.decide(evaluation.Units(user=unit)).assignments

        found = flag(assigner, "test", {"targetingKey": unit})

        assert (found.variant, found.value, found.reason) == (decided.variant,) * 2 + ("SPLIT",)
        assert found.treated is (found.value == "b")
        assert found.assignment == decided


@pytest.mark.parametrize(
    ("changes", "reason", "told"),
    [
        ({"state": "paused"}, "DISABLED", "DISABLED"),
        ({"state": "draft"}, "DISABLED", "DRAFT"),
        ({"state": "promoted", "promoted": "b"}, "STATIC", "PROMOTED"),
        ({"traffic_bp": 0}, "DEFAULT", "TRAFFIC"),
        ({"holdout_bp": 10_000}, "DEFAULT", "HOLDOUT"),
        ({"overrides": {"u1": "b"}}, "TARGETING_MATCH", "OVERRIDE"),
    ],
)
def test_why_is_told_in_both_words(changes, reason, told):
    found = flag(one(**changes), "test", {"targetingKey": "u1"})

    assert (found.reason, found.metadata["reason"]) == (reason, told)
    assert found.treated is (reason in ("STATIC", "TARGETING_MATCH"))


def test_in_an_aa_phase_the_draw_is_told_and_everybody_gets_the_control():
    found = [flag(one(state="aa"), "test", {"targetingKey": f"u{n}"}) for n in range(50)]

    assert {one.variant for one in found} == {"a", "b"}
    assert {(one.value, one.treated) for one in found} == {("a", False)}


def test_rules_see_the_context_without_ids_and_without_what_is_nested():
    rules = (Rule("tags", "in", ("new",)),)
    assigner = one(targeting=rules)

    inside = flag(assigner, "test", {"targetingKey": "u", "tags": ["new", "x"], "deep": {"a": 1}})
    outside = flag(assigner, "test", {"targetingKey": "u", "tags": {"new": True}, "none": None})

    assert inside.reason == "SPLIT"
    assert outside.metadata["reason"] == "NOT_TARGETED"


def test_an_id_that_is_no_text_is_refused_and_a_missing_one_told():
    with pytest.raises(ContextInvalid, match="targetingKey must be text, got int"):
        flags(one(), {"targetingKey": 12345})
    assert flag(one(), "test", {}).unit_missing
    assert flag(one(), "test", {"targetingKey": ""}).unit_missing
    assert flag(one(), "other", {"targetingKey": "u"}) is None
