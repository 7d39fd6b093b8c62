"""What a graph is called on a Triton server, what it takes, and what it gives."""

from typing import Literal

from msgspec import Struct

from ranking_models.manifest import ModelManifest
from ranking_models.schema import FeatureSchema

DataType = Literal["FP32", "INT32"]

OUTPUT = "score"
"""FP32, one for each row."""


class InputTensor(Struct, frozen=True):
    """An input of a graph: ``[rows, width]``."""

    name: str
    datatype: DataType
    width: int


def model_name(manifest: ModelManifest, precision: str) -> str:
    """What a server calls one graph of a bundle, such as ``movielens-1c9fa2a1-fp16``.

    Triton numbers versions from 1, ours are hashes of the content: so the
    version is part of the name, and of each model the server's default is used.
    """
    return f"{manifest.name}-{manifest.version}-{precision}"


def inputs_of(schema: FeatureSchema) -> tuple[InputTensor, ...]:
    """The inputs that the graph has: one without columns is not among them."""
    tensors = (
        InputTensor("dense", "FP32", len(schema.dense)),
        InputTensor("ids", "INT32", len(schema.ids)),
        *(InputTensor(f"multi_{spec.name}", "INT32", spec.max_length) for spec in schema.multi),
    )
    return tuple(tensor for tensor in tensors if tensor.width)
