"""Which deployment serves: the surface's own, or what an experiment decides."""

import pytest

from experiments.assignment import Assigner, Units
from experiments.definition import Experiment, Variant
from experiments.source import FixedExperiments
from service.errors import InvalidRequest
from service.messages import ExperimentRef
from service.routing import Router

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


def route(*experiments, surface=None, user="u1", force=None, external=None, **how):
    return router(*experiments, **how).route(
        Units(user, None), surface, force=force or {}, external=external or {}
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
