"""A PyTorch ranker as an ONNX graph that every engine of the service takes.

The graph is strict, so that no engine needs to guess: one named dynamic axis,
``rows``, on every input and on the output; opset and IR version within what
ONNX Runtime and TensorRT read; weights inside the file; only standard
operators. Inputs without columns are left out: no runtime likes an empty one.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch
from onnx import TensorProto
from torch import Tensor, nn

from ranking_models.errors import InputError
from ranking_models.schema import FeatureSchema

ROWS = "rows"
"""Name of the dynamic axis."""

OPSET = 20
MAX_OPSET = 26
"""Newest operator set that ONNX Runtime 1.31 reads."""
MAX_IR = 13
"""Newest file format that ONNX Runtime 1.31 reads."""

MAX_BYTES = 2**31 - 1
"""Largest protobuf message; beyond it weights would need files of their own."""

_Described = (
    onnx.ModelProto | onnx.GraphProto | onnx.NodeProto | onnx.ValueInfoProto | onnx.TensorProto
)

_TRACED_ROWS = 3
"""Rows of the example input: 0 and 1 are special to the exporter."""


def export_graph(module: nn.Module, schema: FeatureSchema) -> bytes:
    """Export ``module(dense, ids, *multi) -> score [rows]`` as a serialised ONNX model.

    Raises:
        InputError: the module cannot be exported, or the graph breaks a rule
            of `check_graph`.
    """
    inputs = graph_inputs(schema)
    if not inputs:
        raise InputError("the schema has no features; a model needs at least one")
    example = tuple(torch.zeros(_TRACED_ROWS, width, dtype=kind) for kind, width in inputs.values())
    rows = torch.export.Dim(ROWS, min=1)
    wrapped = _WithoutEmptyInputs(module, schema).eval()
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                wrapped,
                example,
                input_names=list(inputs),
                output_names=["score"],
                dynamic_shapes=(tuple({0: rows} for _ in inputs),),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"the model cannot be exported to ONNX: {first}") from error
    assert program is not None  # it is None only for the old exporter
    model = program.model_proto
    _forget_origin(model)
    check_graph(model, schema)
    return bytes(model.SerializeToString(deterministic=True))


def graph_inputs(schema: FeatureSchema) -> dict[str, tuple[torch.dtype, int]]:
    """Type and width of the graph's inputs by name, in the module's order."""
    every = {
        "dense": (torch.float32, len(schema.dense)),
        "ids": (torch.int32, len(schema.ids)),
        **{f"multi_{spec.name}": (torch.int32, spec.max_length) for spec in schema.multi},
    }
    return {name: (kind, width) for name, (kind, width) in every.items() if width > 0}


def check_graph(model: onnx.ModelProto, schema: FeatureSchema) -> None:
    """Refuse a graph that an engine could not load or would have to guess at.

    Raises:
        InputError: names the rule that is broken.
    """
    if model.ByteSize() > MAX_BYTES:
        raise InputError(f"the graph is larger than {MAX_BYTES} bytes; use smaller vocabularies")
    if model.ir_version > MAX_IR:
        raise InputError(f"the graph has IR version {model.ir_version}, at most {MAX_IR} is read")
    for used in model.opset_import:
        if used.domain:
            raise InputError(f"the graph uses operators of {used.domain!r}, not ONNX's own alone")
        if used.version > MAX_OPSET:
            raise InputError(f"the graph has opset {used.version}, at most {MAX_OPSET} is read")
    try:
        onnx.checker.check_model(model, full_check=True)  # also that nodes are in order
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"the graph is not valid ONNX: {error}") from error
    _check_border(model.graph, schema)


def _check_border(graph: onnx.GraphProto, schema: FeatureSchema) -> None:
    kinds = {torch.float32: TensorProto.FLOAT, torch.int32: TensorProto.INT32}
    wanted = {
        name: (kinds[kind], (ROWS, width)) for name, (kind, width) in graph_inputs(schema).items()
    }
    got = {value.name: _signature(value) for value in graph.input}
    if got != wanted:
        raise InputError(f"the graph's inputs are {got}, the schema asks for {wanted}")
    outputs = {value.name: _signature(value) for value in graph.output}
    if outputs != {"score": (TensorProto.FLOAT, (ROWS,))}:
        raise InputError(f"the graph's outputs are {outputs}, not one float32 score [{ROWS}]")
    outside = [weights.name for weights in graph.initializer if weights.external_data]
    if outside:
        raise InputError(f"the graph keeps weights outside of its file: {', '.join(outside)}")


def _signature(value: onnx.ValueInfoProto) -> tuple[int, tuple[str | int, ...]]:
    tensor = value.type.tensor_type
    return tensor.elem_type, tuple(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)


class _WithoutEmptyInputs(nn.Module):
    """Takes the inputs that have columns, and hands the module all of them."""

    def __init__(self, module: nn.Module, schema: FeatureSchema) -> None:
        super().__init__()
        self.module = module
        self.has_dense, self.has_ids = bool(schema.dense), bool(schema.ids)

    def forward(self, *inputs: Tensor) -> Tensor:
        rest = list(inputs)
        rows = rest[0].shape[0]
        dense = rest.pop(0) if self.has_dense else torch.zeros(rows, 0)
        ids = rest.pop(0) if self.has_ids else torch.zeros(rows, 0, dtype=torch.int32)
        scores: Tensor = self.module(dense, ids, *rest)
        return scores


def _forget_origin(model: onnx.ModelProto) -> None:
    """Drop source paths and traces: the same network is the same file on every machine."""
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    entries: list[_Described] = [model, graph, *graph.node, *values, *graph.initializer]
    for entry in entries:
        del entry.metadata_props[:]
        entry.doc_string = ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's warnings and log lines about itself off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
