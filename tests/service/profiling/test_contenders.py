"""Who takes part in a comparison, and why the rest does not."""

import msgspec
import pytest

from ranking_models.gates import thresholds_for
from ranking_models.manifest import ExactSplit, Gate, ModelManifest, Variant
from service.profiling.contenders import Asked, Field, field_of, standing_of
from tests.support.gated import sound_figures

SPLIT = ExactSplit(user_width=1, item_width=1, parity=0.0, factored=("linear",), whole=())
ALL = Asked(
    engines=("onnxruntime-cpu", "openvino", "tensorrt"),
    precisions=(),
    threads=(1, 2),
    splits=(False, True),
)


@pytest.fixture
def manifest(tiny_bundle) -> ModelManifest:
    """Of a bundle with fp32, fp16 and int8-cpu, and a split."""
    more = {name: variant() for name in ("fp16", "int8-cpu")}
    precisions = tiny_bundle.manifest.precisions | more
    return msgspec.structs.replace(tiny_bundle.manifest, precisions=precisions, split=SPLIT)


def variant(*, gate: Gate | None = None) -> Variant:
    return Variant(file="ranker.onnx", tolerance=1.0, parity=0.0, gate=gate)


def field(manifest: ModelManifest, asked: Asked = ALL, *, cores: int = 2, absent=()) -> Field:
    return field_of(
        manifest, asked, cores=cores, absent=lambda name: "not here" if name in absent else None
    )


def names(found: Field) -> list[str]:
    return [contender.name for contender in found.contenders]


def reasons(found: Field) -> dict[str, str]:
    return {left.what: left.reason for left in found.left_out}


def test_every_graph_runs_on_every_engine_that_runs_it(manifest):
    assert names(field(manifest)) == [
        "onnxruntime-cpu fp32, 1 thread",
        "onnxruntime-cpu fp32, 2 threads",
        "onnxruntime-cpu fp32 split, 1 thread",
        "onnxruntime-cpu fp32 split, 2 threads",
        "onnxruntime-cpu int8-cpu, 1 thread",
        "onnxruntime-cpu int8-cpu, 2 threads",
        "openvino fp32, 1 thread",
        "openvino fp32, 2 threads",
        "openvino int8-cpu, 1 thread",
        "openvino int8-cpu, 2 threads",
        "tensorrt fp32",
        "tensorrt fp16",
    ]


def test_what_does_not_take_part_is_named_with_the_reason(manifest):
    asked = msgspec.structs.replace(ALL, precisions=("fp16", "fp8"), threads=(1, 4))

    found = field(manifest, asked, absent={"openvino"})

    assert names(found) == ["tensorrt fp16"]
    assert reasons(found) == {
        "fp8": f"tiny@{manifest.version} has no such graph; it has fp32, fp16, int8-cpu",
        "4 threads": "more than the 2 usable cores",
        "openvino": "not here",
        "onnxruntime-cpu fp16": (
            "onnxruntime-cpu does not run it; a deployment of fp16 gets fp32 there"
        ),
    }


def test_the_form_of_the_fp32_graph_can_be_chosen(manifest):
    def forms(*splits: bool) -> list[bool]:
        asked = msgspec.structs.replace(
            ALL, engines=("onnxruntime-cpu",), precisions=("fp32",), threads=(1,), splits=splits
        )
        return [contender.split for contender in field(manifest, asked).contenders]

    assert (forms(True), forms(False), forms(False, True)) == ([True], [False], [False, True])


def test_a_bundle_without_a_split_is_said_to_have_none(tiny_bundle):
    found = field(tiny_bundle.manifest)

    assert not any(contender.split for contender in found.contenders)
    assert "has no exact split" in reasons(found)["onnxruntime-cpu fp32 split"]


def test_only_fp32_and_what_passed_its_gate_may_be_recommended(manifest):
    passed = Gate(
        reference="fp32",
        evidence="100 rows",
        figures=sound_figures(),
        thresholds=thresholds_for("int8"),
        failures=(),
    )
    failed = msgspec.structs.replace(passed, failures=("too far off",), forced=True)
    gated = {"a": variant(gate=passed), "b": variant(gate=failed), "c": variant()}
    bundle = msgspec.structs.replace(manifest, precisions=manifest.precisions | gated)

    assert [standing_of(bundle, name) for name in ("fp32", "a", "b", "c")] == [
        "reference",
        "passed",
        "failed",
        "ungated",
    ]
