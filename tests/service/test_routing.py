"""Which deployment serves: the surface's own, or what an experiment decides."""

from typing import get_args

import msgspec
import pytest
from msgspec.structs import replace

from experiments import definition
from experiments.assignment import Assigner, Units
from experiments.definition import Experiment, Rule, Variant
from experiments.source import FixedExperiments
from service import settings
from service.errors import InvalidRequest
from service.messages import ExperimentRef
from service.routing import AS_CONFIGURED, Caching, Router

MODEL = Experiment(
    key="model",
    unit="user",
    variants=(
        Variant(name="old", share_bp=10_000),
        Variant(name="new", share_bp=0, deployment="fp16"),
    ),
)
LOOKS = Experiment(
    key="looks",
    unit="user",
    variants=(Variant(name="plain", share_bp=10_000), Variant(name="bold", share_bp=0)),
)
SURFACES = {"default": "fp32", "mail": "slow"}


def router(*experiments, surfaces=SURFACES, default="first"):
    return Router(FixedExperiments(Assigner(experiments)), surfaces, default)


def route(*experiments, surface=None, user="u1", context=None, force=None, external=None, **how):
    return router(*experiments, **how).route(
        Units(user, None),
        surface,
        context=context or {},
        force=force or {},
        external=external or {},
    )


@pytest.mark.parametrize(
    ("surface", "deployment"),
    [("mail", "slow"), ("default", "fp32"), (None, "fp32"), ("of their own making", "fp32")],
)
def test_a_surface_has_its_deployment_and_any_other_the_default_surfaces(surface, deployment):
    assert route(surface=surface).deployment == deployment


def test_without_a_default_surface_the_default_deployment_serves():
    assert route(surfaces={"mail": "slow"}).deployment == "first"
    assert route(surfaces={"mail": "slow"}, surface="mail").deployment == "slow"


def test_a_variant_replaces_the_surfaces_deployment_if_it_names_one():
    assert route(MODEL, surface="mail").deployment == "slow"
    assert route(MODEL, surface="mail", force={"model": "new"}).deployment == "fp16"


@pytest.mark.parametrize("force", [{"nope": "new"}, {"model": "nope"}])
def test_forcing_what_does_not_exist_is_refused_with_the_place(force):
    (key,) = force

    with pytest.raises(InvalidRequest, match="nope") as refused:
        route(MODEL, force=force)

    assert refused.value.path == f"$.force.{key}"


def test_a_decision_taken_elsewhere_is_obeyed_and_one_we_do_not_know_is_reported():
    known = route(MODEL, external={"model": "new"})
    unknown = route(MODEL, external={"model": "newer", "nope": "x"})

    assert (known.deployment, known.external_ignored) == ("fp16", ())
    assert unknown.deployment == "fp32"
    assert set(unknown.external_ignored) == {"model", "nope"}


def test_the_reply_tells_every_decision_in_the_order_of_definition():
    routed = route(LOOKS, MODEL, user=None)

    assert routed.references() == (
        ExperimentRef(key="looks", phase=1, variant="plain", reason="TARGETING_KEY_MISSING"),
        ExperimentRef(key="model", phase=1, variant="old", reason="TARGETING_KEY_MISSING"),
    )


def test_what_serves_are_the_picked_variants_the_one_that_decides_the_deployment_first():
    assert route(LOOKS, MODEL, user=None).serving() == ()

    both = route(LOOKS, MODEL, force={"model": "new"})
    assert [(e.key, e.variant) for e in both.references()] == [("looks", "plain"), ("model", "new")]
    assert [(e.key, e.variant) for e in both.serving()] == [("model", "new"), ("looks", "plain")]


def test_the_definitions_that_decided_are_named():
    assert route(MODEL).config_digest == Assigner([MODEL]).digest
    assert route(MODEL).config_digest != route(MODEL, LOOKS).config_digest


def test_the_context_decides_who_is_targeted():
    phones = msgspec.structs.replace(MODEL, targeting=(Rule("device", "==", "phone"),))

    on_a_phone = route(phones, context={"device": "phone"})
    elsewhere = route(phones, context={"device": "tablet"})

    assert [a.reason for a in on_a_phone.assignments] == ["SPLIT"]
    assert [a.reason for a in elsewhere.assignments] == ["NOT_TARGETED"]


def test_an_experiment_that_is_not_ready_cannot_be_forced():
    source = FixedExperiments(Assigner([MODEL], {"model": "fp16 failed its parity gate"}))
    routes = Router(source, SURFACES, "first")

    with pytest.raises(InvalidRequest, match="not ready: fp16 failed its parity gate"):
        routes.route(Units("u1"), None, context={}, force={"model": "new"}, external={})
    (assignment,) = routes.route(
        Units("u1"), None, context={}, force={}, external={"model": "new"}
    ).assignments
    assert (assignment.reason, assignment.deployment) == ("NOT_READY", None)


def test_while_no_experiment_runs_a_surface_alone_says_what_serves():
    router = Router(FixedExperiments(Assigner(())), {"home": "new"}, "old")

    for surface, deployment in ((None, "old"), ("home", "new"), ("elsewhere", "old")):
        alone = router.alone(surface)
        assert alone == router.route(Units("u1", None), surface, context={}, force={}, external={})
        assert alone.deployment == deployment


def test_where_an_experiment_runs_no_surface_is_alone():
    assert router(MODEL).alone("mail") is None


# --- what experiments say of the cache ---

CACHES = Experiment(
    key="caches",
    unit="user",
    isolate_cache=True,
    variants=(
        Variant(name="on", share_bp=10_000, cache="exact"),
        Variant(name="off", share_bp=0, cache="off"),
    ),
)


def test_a_variant_says_how_the_cache_is_used_and_an_isolated_one_shares_nothing():
    assert route(CACHES).caching == Caching("exact", "caches/on")
    assert route(CACHES, force={"caches": "off"}).caching == Caching("off", "caches/off")
    assert route(CACHES, LOOKS).caching == Caching("exact", "caches/on")


def test_without_a_word_of_it_the_cache_is_used_as_configured():
    assert route().caching == AS_CONFIGURED
    assert route(MODEL, LOOKS).caching == AS_CONFIGURED


def test_arms_of_several_experiments_are_all_kept_apart():
    looks = replace(LOOKS, isolate_cache=True)

    assert route(CACHES, looks).caching.arm == "caches/on,looks/plain"
    assert route(looks, CACHES).caching.arm == "caches/on,looks/plain"


@pytest.mark.parametrize("state", ["draft", "paused", "rolled_back", "aa"])
def test_who_is_not_served_by_a_variant_uses_the_cache_as_configured(state):
    assert route(replace(CACHES, state=state)).caching == AS_CONFIGURED
    assert route(CACHES, user=None).caching == AS_CONFIGURED


def test_the_winner_of_an_experiment_keeps_its_cache_mode():
    won = replace(CACHES, state="promoted", promoted="off")

    assert route(won).caching.mode == "off"


def test_each_ranker_of_an_interleaved_slate_has_its_own_cache_mode():
    both = replace(
        MODEL,
        method="interleave",
        isolate_cache=True,
        variants=(
            Variant(name="old", share_bp=5000),
            Variant(name="new", share_bp=5000, deployment="fp16", cache="off"),
        ),
    )

    routed = route(both)

    assert routed.interleave.caching == (Caching(None, "model/old"), Caching("off", "model/new"))


def test_cache_modes_are_decided_once_per_request_like_deployments():
    assert CACHES.layer == "deployment"


def test_experiments_and_settings_know_the_same_cache_modes():
    assert get_args(definition.CacheMode) == get_args(settings.CacheMode)
