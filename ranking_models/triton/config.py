"""A model's configuration in Triton's words (``model_config.proto``), as text and as JSON.

The fields are those that Podium sets, with Triton's names and its spelling of
enumerations. `as_text` writes the protobuf text format of ``config.pbtxt``:
Triton's own message classes need gRPC to be imported, for a page of text.
`tests/verify_triton.py` reads it back with those, and with a real server.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

TYPES = {"FP32": "TYPE_FP32", "INT32": "TYPE_INT32"}


class Reshape(Struct, frozen=True):
    """The dimensions that the graph has, where they are not those of callers."""

    shape: tuple[int, ...] = ()


class TensorConfig(Struct, frozen=True, omit_defaults=True):
    """An input or output, without the batch dimension if the server batches."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    reshape: Reshape | None = None
    label_filename: str = ""


class InstanceGroup(Struct, frozen=True, omit_defaults=True):
    """Copies of the model that run at the same time."""

    kind: str
    """``KIND_CPU``, or ``KIND_GPU``: so many on every device."""
    count: int
    profile: tuple[str, ...] = ()
    """Of a TensorRT plan: the optimisation profiles to choose from for each batch."""


class DynamicBatching(Struct, frozen=True, omit_defaults=True):
    """When waiting requests become a batch."""

    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0


class WarmupInput(Struct, frozen=True):
    """What one input gets while the model is warmed up, from a file of the folder ``warmup``."""

    data_type: str
    dims: tuple[int, ...]
    input_data_file: str


class Warmup(Struct, frozen=True):
    """A request that a model answers before it is ready."""

    name: str
    batch_size: int
    inputs: dict[str, WarmupInput]


class ResponseCache(Struct, frozen=True):
    """Whether the server may answer a repeated request from its cache."""

    enable: bool


class ModelConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a server runs one model."""

    name: str
    platform: str = ""
    backend: str = ""
    max_batch_size: int
    input: tuple[TensorConfig, ...]
    output: tuple[TensorConfig, ...]
    instance_group: tuple[InstanceGroup, ...] = ()
    dynamic_batching: DynamicBatching | None = None
    default_model_filename: str = ""
    model_warmup: tuple[Warmup, ...] = ()
    response_cache: ResponseCache | None = None


def as_json(config: ModelConfig) -> bytes:
    """What a server answers when it is asked for the configuration."""
    return msgspec.json.encode(config)


def as_text(config: ModelConfig) -> str:
    """``config.pbtxt``."""
    return "\n".join(_message(config, "")) + "\n"


def _message(message: Struct, indent: str) -> Iterator[str]:
    for name in message.__struct_fields__:
        value = getattr(message, name)
        if value or name in _ALWAYS:
            yield from _field(name, value, indent)


_ALWAYS = frozenset(("max_batch_size", "enable"))
"""Fields whose zero is worth reading."""


def _field(name: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield f"{indent}{name} {{"
            yield f"{indent}  key: {json.dumps(key)}"
            yield from _field("value", entry, indent + "  ")
            yield f"{indent}}}"
    elif isinstance(value, tuple) and value and isinstance(value[0], Struct):
        for entry in value:
            yield from _field(name, entry, indent)
    elif isinstance(value, tuple):
        yield f"{indent}{name}: [{', '.join(_scalar(name, entry) for entry in value)}]"
    elif isinstance(value, Struct):
        yield f"{indent}{name} {{"
        yield from _message(value, indent + "  ")
        yield f"{indent}}}"
    else:
        yield f"{indent}{name}: {_scalar(name, value)}"


def _scalar(name: str, value: str | int | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or name in _ENUMERATIONS:
        return str(value)
    # Escapes of JSON are escapes of the text format; what is not ASCII stays as it is.
    return json.dumps(value, ensure_ascii=False)


_ENUMERATIONS = frozenset(("data_type", "kind"))
"""Fields whose text is a name of an enumeration, written without quotes."""
