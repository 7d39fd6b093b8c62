"""A flag system decides, Podium serves what it decided."""

import pytest

pytest.importorskip("openfeature", reason="needs the extra `openfeature`")

from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.flag_evaluation import FlagResolutionDetails
from openfeature.provider.in_memory_provider import InMemoryFlag, InMemoryProvider

from experiments.assignment import Assigner, Units
from experiments.definition import Experiment, Variant
from service.openfeature.decisions import UNDECIDED, external_decisions

VARIANTS = {"old": "value of old", "new": "value of new"}
HALVES = (Variant(name="old", share_bp=5000), Variant(name="new", share_bp=5000))
ASSIGNER = Assigner(
    tuple(Experiment(key=key, variants=HALVES) for key in ("ranker", "asleep", "absent", "number"))
)


def by_country(flag, context):
    variant = "new" if context.attributes.get("country") == "SE" else "old"
    return FlagResolutionDetails(flag.variants[variant], variant=variant, reason="TARGETING_MATCH")


def disabled(flag, context):
    return FlagResolutionDetails(flag.variants["old"], variant="old", reason="DISABLED")


@pytest.fixture
def client():
    flags = {
        "ranker": InMemoryFlag("old", VARIANTS, context_evaluator=by_country),
        "asleep": InMemoryFlag("old", VARIANTS, context_evaluator=disabled),
        "number": InMemoryFlag("one", {"one": 1}),
    }
    api.set_provider(InMemoryProvider(flags), "their-flags")
    yield api.get_client("their-flags")
    api.clear_providers()


def test_their_variant_is_served_and_counted_as_external(client):
    swede = EvaluationContext("u1", {"country": "SE"})

    decided = external_decisions(client, ["ranker"], swede)
    (assignment,) = [
        a
        for a in ASSIGNER.decide(Units(user="u1"), external=decided).assignments
        if a.key == "ranker"
    ]

    assert decided == {"ranker": "new"}
    assert (assignment.variant, assignment.reason) == ("new", "EXTERNAL")
    assert assignment.counts


def test_where_they_do_not_decide_nobody_is_drawn_instead(client):
    decided = external_decisions(client, ["asleep", "absent", "number"], EvaluationContext("u1"))
    decision = ASSIGNER.decide(Units(user="u1"), external=decided)

    assert decided == dict.fromkeys(["asleep", "absent", "number"], UNDECIDED)
    reasons = {a.key: a.reason for a in decision.assignments}
    assert reasons == {"ranker": "SPLIT"} | dict.fromkeys(decided, "DEFAULT")
    assert decision.external_ignored == tuple(decided)
