"""OpenFeature's own SDK reads experiments in process."""

import pytest

pytest.importorskip("openfeature", reason="needs the extra `openfeature`")

from openfeature import api
from openfeature.evaluation_context import EvaluationContext

from experiments.assignment import Assigner, Units
from experiments.definition import Experiment, Variant
from experiments.source import FixedExperiments
from service.openfeature.provider import PodiumProvider

ASSIGNER = Assigner(
    (
        Experiment(
            key="test",
            variants=(
                Variant(name="old", share_bp=5000, deployment="ranker-old"),
                Variant(name="new", share_bp=5000, deployment="ranker-new"),
            ),
        ),
    )
)


@pytest.fixture
def client():
    api.set_provider(PodiumProvider(FixedExperiments(ASSIGNER)), "podium-in-process")
    yield api.get_client("podium-in-process")
    api.clear_providers()


def test_text_truth_and_object_say_the_same(client):
    for n in range(20):
        (decided,) = ASSIGNER.decide(Units(user=f"u{n}")).assignments
        context = EvaluationContext(f"u{n}")

        text = client.get_string_details("test", "x", context)
        truth = client.get_boolean_details("test", False, context)
        thing = client.get_object_details("test", {}, context)

        assert (text.value, text.variant, text.reason) == (decided.variant,) * 2 + ("SPLIT",)
        assert truth.value is (decided.variant == "new")
        assert thing.value["deployment"] == decided.deployment
        assert text.flag_metadata["configDigest"] == ASSIGNER.digest


async def test_async_code_reads_the_same(client):
    context = EvaluationContext("u1")

    assert await client.get_string_value_async("test", "x", context) == client.get_string_value(
        "test", "x", context
    )


def test_what_cannot_be_answered_is_the_callers_default_with_an_error(client):
    known = EvaluationContext("u1")

    missing = client.get_string_details("other", "mine", known)
    nobody = client.get_string_details("test", "mine")
    number = client.get_integer_details("test", 7, known)
    fraction = client.get_float_details("test", 0.5, known)

    assert (missing.value, missing.error_code) == ("mine", "FLAG_NOT_FOUND")
    assert (nobody.value, nobody.error_code) == ("mine", "TARGETING_KEY_MISSING")
    assert (number.value, number.error_code) == (7, "TYPE_MISMATCH")
    assert (fraction.value, fraction.error_code) == (0.5, "TYPE_MISMATCH")
