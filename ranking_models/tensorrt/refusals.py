"""What NVIDIA's parser and builder refuse, in one line that says what to do.

Their messages run over several lines and name source files of theirs. What
the first one says is kept word for word, so that it can be searched for; what
helps is added where we know it.
"""

import re
from collections.abc import Iterable
from typing import Any

from ranking_models.errors import InputError

_ADVICE = (
    (
        r"FP32 GEMM is not supported",
        "this GPU's builder takes no fp32 matrix product: compile an fp16 graph, and keep what is "
        "not quantised of an int8 one in fp16",
    ),
    (
        r"must have same input types|types Half and Float|types Float and Half",
        "a strongly typed network casts nothing on its own: one operand is fp16 and the other "
        "fp32; put a Cast before this node, or export the precision again",
    ),
    (
        r"must have type FP8, FP4, Int4, Int8",
        "TensorRT dequantises no int32 bias: quantise without biases, as the precision int8-trt is",
    ),
    (
        r"shiftIsAllZeros",
        "TensorRT takes symmetric s8 only, with zero point 0: compile the precision int8-trt, "
        "int8-cpu is for ONNX Runtime",
    ),
    (
        r"Quantized constant .* is only allowed before DQ",
        "TensorRT gathers no rows of 8 bits: keep the embedding rows in fp16 or fp32",
    ),
    (r"Plugin not found", "it is an operator of somebody's own: rewrite it in standard ones"),
    (r"Failed to parse the ONNX model", "it is not a file of ONNX: export the graph again"),
    (
        r"[Oo]ut ?[Oo]f ?[Mm]emory|insufficient memory",
        "the GPU has too little free memory: stop what else runs on it, or lower the buckets",
    ),
)
"""By what the message says, wherever it says it."""

_OPERATOR_MISSING = (
    "TensorRT does not build this operator: replace it in the model and export it again"
)

_REASON = re.compile(r"Error Code \d+: [\w ]+\((?:\[[^\]]*\] )?(.*?)(?:\.? In \w+ at /.*)?\)?$")
"""What an error says between its kind and the place in NVIDIA's sources that raised it."""

_FOLLOWS = re.compile(r"checkMacros|catchCudaError|^Invalid Node - ")
"""Lines that say nothing of the graph: RTX asks for a CUDA device whenever it reports an error."""

LONGEST_CHARS = 300


def parser_refusal(parser: Any, graph: str) -> InputError:
    """Why the parser did not take a graph, with the node and its operator."""
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    if not errors:
        return InputError(f"{graph}: TensorRT's parser refused it and gave no reason")
    first = errors[0]
    reason = _reason(error.desc() for error in errors)
    advice = _advice(reason, first.desc())
    where = "it: "
    if first.node_operator():
        name = first.node_name() or "without a name"
        where = f"node {first.node()} ({first.node_operator()}, {name}): "
        if first.func().startswith("check") and not advice:
            reason, advice = "not supported", _OPERATOR_MISSING
    return InputError(_sentence(f"{graph}: TensorRT's parser refused {where}{reason}", advice))


def builder_refusal(errors: Iterable[str], graph: str) -> InputError:
    """Why the builder made no plan, from the errors that were logged."""
    logged = tuple(errors)
    if not logged:
        return InputError(f"{graph}: TensorRT built no plan and gave no reason")
    reason = _reason(logged)
    return InputError(_sentence(f"{graph}: TensorRT built no plan: {reason}", _advice(*logged)))


def _reason(messages: Iterable[str]) -> str:
    """The first line that says something of the graph."""
    lines = [line.strip() for message in messages for line in message.splitlines()]
    told = [line for line in lines if line and not _FOLLOWS.search(line)] or lines
    match = _REASON.search(told[0])
    return (match[1] if match else told[0]).strip(" .")[:LONGEST_CHARS]


def _advice(*messages: str) -> str:
    for pattern, advice in _ADVICE:
        if any(re.search(pattern, message) for message in messages):
            return advice
    return ""


def _sentence(refusal: str, advice: str) -> str:
    return f"{refusal}; {advice}" if advice else refusal
