"""Which graph each engine of a chain runs."""

import pytest

from service.engines.precisions import precision_of

ENGINES = ("tensorrt", "onnxruntime-cuda", "openvino", "onnxruntime-cpu")


@pytest.mark.parametrize(
    ("wanted", "run"),
    [
        ("fp32", ("fp32", "fp32", "fp32", "fp32")),
        ("fp16", ("fp16", "fp16", "fp32", "fp32")),
        ("int8-trt", ("int8-trt", "fp32", "int8-trt", "fp32")),
        ("int8-cpu", ("fp32", "fp32", "int8-cpu", "int8-cpu")),
        ("bf16", ("fp32", "fp32", "bf16", "fp32")),
        ("one nobody knows", ("fp32", "fp32", "fp32", "fp32")),
    ],
)
def test_an_engine_runs_the_deployments_precision_or_the_reference(wanted, run):
    assert tuple(precision_of(engine, wanted) for engine in ENGINES) == run


def test_a_triton_server_runs_what_its_operator_gave_it():
    assert precision_of("triton", "fp16") == "fp16"
