"""An inference request from bytes, and its answer to bytes. Pure; refuses, and never fails.

The body is JSON. With the binary extension tensors follow it, little-endian and
one after the other, and the header ``Inference-Header-Content-Length`` says
where the JSON ends. Each tensor of a request may be in the one form or the
other, and the answer's in the one that is asked for.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from ranking_models.schema import Float32
from ranking_models.triton.border import OUTPUT
from service.errors import InvalidInference
from service.messages import MAX_TEXT
from service.oip.tensors import (
    BINARY_SIZE,
    Array,
    Input,
    Parameter,
    binary_size,
    from_bytes,
    from_json,
    quoted,
    typed,
)

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
MOST_TENSORS: Final = 256
"""In one request."""

_NOT_HERE: Final = ("shared_memory_region", "classification")
"""Parameters of tensors that ask for something else than what comes without them."""


class InferRequest(Struct, frozen=True, kw_only=True):
    """What is asked, with every tensor in hand."""

    id: str = ""
    inputs: Mapping[str, Array]
    """By name: float32 or int32, in the shape that the request says, C-contiguous."""
    binary: bool
    """Whether the scores are wanted as bytes, not as JSON."""
    priority: int = 0
    """1 goes first; 0 is for who does not say."""
    timeout_us: int = 0
    """Microseconds that it may take; 0 is for who does not say."""


class InferReply(Struct, frozen=True, kw_only=True):
    """The answer to a request."""

    model_name: str
    model_version: str
    id: str
    scores: Float32
    parameters: Mapping[str, Parameter]


class _Output(Struct, frozen=True):
    name: str
    parameters: dict[str, Parameter] | None = None


class _Request(Struct, frozen=True):
    """The JSON of a request; whatever else is in it is for others.

    Some clients write null for what they leave out.
    """

    inputs: Annotated[tuple[Input, ...], Meta(min_length=1, max_length=MOST_TENSORS)]
    id: Annotated[str, Meta(max_length=MAX_TEXT)] | None = None
    outputs: Annotated[tuple[_Output, ...], Meta(max_length=MOST_TENSORS)] | None = None
    parameters: dict[str, Parameter] | None = None


_requests = msgspec.json.Decoder(_Request)


def json_length(header: str | None, body: bytes) -> int:
    """How much of a body is JSON.

    Args:
        header: ``Inference-Header-Content-Length``; None: all of it.

    Raises:
        InvalidInference: it is no length, or more than there is.
    """
    if header is None:
        return len(body)
    # 20 digits are more than any body has, and few enough to be read.
    length = int(header) if header.isascii() and header.isdigit() and len(header) <= 20 else -1
    if not 0 <= length <= len(body):
        raise InvalidInference(
            f"{HEADER_LENGTH} is {header[:40]!r}, not 0 to {len(body)}, the length of the body"
        )
    return length


def decode_request(body: bytes, json_bytes: int) -> InferRequest:
    """A request.

    Args:
        body: JSON, then the tensors.
        json_bytes: Of the JSON, at most the length of the body.

    Raises:
        InvalidInference: it is none, or asks for what is not done here; says where.
    """
    request = typed(_requests, body[:json_bytes], "")
    inputs, at = dict[str, Array](), json_bytes
    for tensor in request.inputs:
        if tensor.name in inputs:
            raise InvalidInference(f"input {quoted(tensor.name)} is there twice")
        _refuse_elsewhere("input", tensor.name, tensor.parameters)
        size = binary_size(tensor)
        if size is None:
            inputs[tensor.name] = from_json(tensor)
        else:
            inputs[tensor.name] = from_bytes(tensor, body[at : at + size], size)
            at += size
    if at != len(body):
        raise InvalidInference(f"{len(body) - at} bytes follow the last tensor of the request")
    asked = request.parameters or {}
    if asked.get("sequence_id") not in (None, 0, "", False):
        raise InvalidInference("sequence_id: requests here do not depend on each other")
    return InferRequest(
        id=request.id or "",
        inputs=inputs,
        binary=_wants_bytes(request.outputs or (), asked),
        priority=_whole(asked, "priority"),
        timeout_us=_whole(asked, "timeout"),
    )


def encode_reply(reply: InferReply, *, binary: bool) -> tuple[bytes, int | None]:
    """The body, and how much of it is JSON where the scores follow as bytes; else None."""
    output: dict[str, Any] = {"name": OUTPUT, "datatype": "FP32", "shape": [len(reply.scores)]}
    raw = reply.scores.astype("<f4", copy=False).tobytes() if binary else b""
    if binary:
        output["parameters"] = {BINARY_SIZE: len(raw)}
    else:
        # As doubles, which write a float32 so that it reads back the same.
        output["data"] = reply.scores.tolist()
    said = {"model_name": reply.model_name, "model_version": reply.model_version}
    named = {"id": reply.id} if reply.id else {}
    head = msgspec.json.encode(said | named | {"parameters": reply.parameters, "outputs": [output]})
    return (head + raw, len(head)) if binary else (head, None)


def _wants_bytes(outputs: tuple[_Output, ...], asked: Mapping[str, Parameter]) -> bool:
    """Whether the one output is wanted as bytes; without outputs all are wanted."""
    usual = _flag(asked, "binary_data_output", default=False)
    for output in outputs:
        _refuse_elsewhere("output", output.name, output.parameters)
        if output.name != OUTPUT:
            raise InvalidInference(f"there is no output {quoted(output.name)}, but {OUTPUT!r}")
    if len(outputs) > 1:
        raise InvalidInference(f"output {OUTPUT!r} is asked for {len(outputs)} times")
    wanted = outputs[0].parameters if outputs else None
    return _flag(wanted or {}, "binary_data", default=usual)


def _refuse_elsewhere(what: str, name: str, parameters: Mapping[str, Parameter] | None) -> None:
    for asked in _NOT_HERE:
        if parameters and parameters.get(asked):
            raise InvalidInference(f"{what} {quoted(name)}: {asked} is not done here")


def _flag(parameters: Mapping[str, Parameter], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidInference(f"parameter {name} is true or false")
    return value


def _whole(parameters: Mapping[str, Parameter], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or value < 0:
        raise InvalidInference(f"parameter {name} is a whole number, 0 or more")
    return value
