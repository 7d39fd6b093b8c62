"""Which graph an engine runs for a deployment: one rule, and it stands here.

A deployment names one precision, its chain several engines, and not every
engine runs every graph: INT8 for TensorRT is quantised in another way than
INT8 for a CPU, and fp16 brings a CPU nothing. An engine runs the deployment's
precision where it can, else the reference. What it says of itself
(`EngineInfo.precision`) is what it really runs.
"""

from collections.abc import Mapping

REFERENCE = "fp32"

_RUNS: Mapping[str, frozenset[str]] = {
    "tensorrt": frozenset({"fp32", "fp16", "int8-trt"}),
    "onnxruntime-cuda": frozenset({"fp32", "fp16"}),
    # bf16 is the fp32 graph computed in bfloat16, which only OpenVINO is asked for.
    "openvino": frozenset({"fp32", "bf16", "int8-cpu", "int8-trt"}),
    "onnxruntime-cpu": frozenset({"fp32", "int8-cpu"}),
}


def precision_of(engine: str, wanted: str) -> str:
    """The precision that an engine runs for a deployment that asks for ``wanted``."""
    if engine == "triton":
        return wanted  # it has what its operator gave it; the golden rows tell
    return wanted if wanted in _RUNS[engine] else REFERENCE
