"""Which requests are copied, and for whom."""

import numpy as np
import pytest

from experiments.assignment import Assigner, Units
from experiments.definition import Experiment, Variant
from experiments.events import unit_digest
from experiments.source import FixedExperiments
from experiments.targeting import Rule
from service.messages import ModelRef, RankRequest
from service.routing import Router
from service.scoring import SlateScores
from service.shadow.sampling import Sampler, is_sampled

MODEL = ModelRef(name="m", version="1", precision="fp32", engine="e")
SCORES = np.array([0.5, 0.4], np.float32)
SCORED = SlateScores(scores=SCORES, model=MODEL)


def experiment(key="int8", **given):
    values = {
        "shadow_bp": 10_000,
        "variants": (
            Variant(name="control", share_bp=5000),
            Variant(name="int8", share_bp=5000, deployment="ranker-int8"),
        ),
    }
    return Experiment(key=key, **values | given)


def pairs(*experiments, user="u1", force=None, context=None, scored=SCORED):
    """(experiment, variant, reference) of the copies of one request on a surface of its own."""
    router = Router(FixedExperiments(Assigner(experiments)), {}, "ranker")
    routed = router.route(Units(user), None, context=context or {}, force=force or {}, external={})
    request = RankRequest(candidates=("i1", "i2"), context=context or {})
    copy = Sampler().copy_of(request, routed, scored, "slate")
    return [] if copy is None else [(p.experiment, p.variant, p.reference) for p in copy.pairs]


def test_the_variant_that_did_not_serve_scores_the_copy():
    found = {user: pairs(experiment(), user=f"u{user}") for user in range(40)}

    assert {tuple(p) for p in found.values()} == {
        (("int8", "int8", "control"),),
        (("int8", "control", "int8"),),
    }


@pytest.mark.parametrize("changes", [{"state": "draft"}, {"state": "aa"}, {"traffic_bp": 0}])
def test_before_traffic_the_surfaces_own_deployment_is_the_reference(changes):
    for user in ("u1", "u2", "u3", "u4", "u5", None):
        assert pairs(experiment(**changes), user=user) == [("int8", "int8", "control")]


@pytest.mark.parametrize("changes", [{"state": "paused"}, {"state": "stopped"}, {"shadow_bp": 0}])
def test_who_wants_no_copies_gets_none(changes):
    assert pairs(experiment(**changes)) == []


def test_who_is_held_out_or_forced_is_none_of_its_requests():
    assert pairs(experiment(holdout_bp=10_000)) == []
    assert pairs(experiment(), force={"int8": "int8"}) == []


def test_a_draft_sees_only_whom_it_targets():
    phones = experiment(state="draft", targeting=(Rule("device", "==", "phone"),))

    assert pairs(phones, context={"device": "tablet"}) == []
    assert pairs(phones, context={"device": "phone"}) != []


def test_variants_of_one_deployment_have_nothing_to_compare():
    same = (Variant(name="a", share_bp=5000), Variant(name="b", share_bp=5000))

    assert pairs(experiment(variants=same)) == []


def test_a_slate_that_another_experiments_variant_served_has_no_reference():
    other = Experiment(
        key="other",
        layer_range_bp=(0, 5000),
        variants=(
            Variant(name="a", share_bp=5000, deployment="x"),
            Variant(name="b", share_bp=5000, deployment="y"),
        ),
    )
    draft = experiment(state="draft", layer_range_bp=(5000, 10_000))
    found = [pairs(other, draft, user=f"u{n}") for n in range(40)]

    assert [("int8", "int8", "control")] in found  # nobody's but the surface's
    assert [] in found


def test_what_its_own_engine_did_not_score_is_no_reference():
    degraded = SlateScores(scores=SCORES, model=MODEL, degraded="fallback_engine")

    assert pairs(experiment(), scored=degraded) == []


def test_a_copy_carries_the_unit_and_for_nobody_the_slate():
    router = Router(FixedExperiments(Assigner([experiment(state="draft")])), {}, "ranker")
    units = []
    for user in ("u1", None):
        routed = router.route(Units(user), None, context={}, force={}, external={})
        copy = Sampler().copy_of(RankRequest(candidates=("i1",)), routed, SCORED, "slate")
        units.append(copy.pairs[0].unit)

    assert units == [unit_digest("u1"), unit_digest("slate")]


def test_samples_have_their_share_and_are_the_same_again():
    slates = [f"slate {n}" for n in range(20_000)]
    sample = [slate for slate in slates if is_sampled(slate, "int8", 500)]

    assert len(sample) == pytest.approx(1000, abs=150)
    assert sample == [slate for slate in slates if is_sampled(slate, "int8", 500)]
    assert set(sample) < {slate for slate in slates if is_sampled(slate, "int8", 1000)}
    both = [slate for slate in sample if is_sampled(slate, "other", 500)]
    assert len(both) == pytest.approx(50, abs=35)  # 5 % of 5 %: another experiment's is another


def test_a_change_of_definitions_is_followed():
    sampler = Sampler()
    request = RankRequest(candidates=("i1",))
    for wants in (True, False, True):
        e = experiment(state="draft", shadow_bp=10_000 if wants else 0)
        router = Router(FixedExperiments(Assigner([e])), {}, "ranker")
        routed = router.route(Units("u"), None, context={}, force={}, external={})
        assert (sampler.copy_of(request, routed, SCORED, "s") is not None) == wants
