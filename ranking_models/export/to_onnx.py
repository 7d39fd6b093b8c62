"""A PyTorch module as an ONNX graph that every engine of the service takes.

What that asks of a graph is in `graph_rules`; what an export that fails has to
say is in `explain`. Inputs without columns are left out: no runtime likes an
empty one.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO

import onnx
import torch
from onnx import TensorProto
from torch import Tensor, nn

from ranking_models.errors import InputError
from ranking_models.export.explain import export_failure, refuse_operators
from ranking_models.export.graph_rules import ROWS, Border, check_model, ranker_border
from ranking_models.schema import FeatureSchema

OPSET = 20

_KINDS: dict[int, torch.dtype] = {
    int(TensorProto.FLOAT): torch.float32,
    int(TensorProto.INT32): torch.int32,
}

_TRACED_ROWS = 3
"""Rows of the example input: 0 and 1 are special to the exporter."""
_TRACED_OTHERS = 2
"""Length of any other dynamic axis in it."""

_Described = (
    onnx.ModelProto | onnx.GraphProto | onnx.NodeProto | onnx.ValueInfoProto | onnx.TensorProto
)


def export_graph(module: nn.Module, schema: FeatureSchema) -> bytes:
    """Export ``module(dense, ids, *multi) -> score [rows]`` as a serialised ONNX model.

    Raises:
        InputError: the module cannot be exported, or the graph breaks a rule
            of `check_graph`; says where and what helps.
    """
    if not schema.features:
        raise InputError("the schema has no features; a model needs at least one")
    return export_module(WithoutEmptyInputs(module, schema), ranker_border(schema))


def export_module(module: nn.Module, border: Border) -> bytes:
    """Export a module that takes the border's inputs by position, and gives its one output.

    Raises:
        InputError: as `export_graph`.
    """
    wrapped = _ByPosition(module).eval()
    with _quiet(), torch.no_grad():
        try:
            captured = torch.export.export(
                wrapped, _example(border), dynamic_shapes=(_axes(border),), strict=False
            )
        except Exception as error:
            # Whatever the module's own code raises comes out of here too.
            raise export_failure(error, wrapped) from error
        refuse_operators(captured)
        try:
            program = torch.onnx.export(
                captured,
                (),
                dynamic_shapes=(_axes(border),),  # again, for the axes' names
                input_names=list(border.inputs),
                output_names=list(border.outputs),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise export_failure(error, wrapped, captured) from error
    assert program is not None  # it is None only for the old exporter
    model = program.model_proto
    check_model(model, border)
    _forget_origin(model)
    return bytes(model.SerializeToString(deterministic=True))


def _example(border: Border) -> tuple[Tensor, ...]:
    def size(axis: str | int) -> int:
        if isinstance(axis, int):
            return axis
        return _TRACED_ROWS if axis == ROWS else _TRACED_OTHERS

    return tuple(
        torch.zeros([size(axis) for axis in axes], dtype=_KINDS[kind])
        for kind, axes in border.inputs.values()
    )


def _axes(border: Border) -> tuple[dict[int, torch.export.Dim], ...]:
    names = {axes[0] for _, axes in border.inputs.values()}
    # One object per name, so that the exporter takes equal names as equal sizes.
    dims = {name: torch.export.Dim(str(name), min=1) for name in names}
    return tuple({0: dims[axes[0]]} for _, axes in border.inputs.values())


class _ByPosition(nn.Module):
    """One star argument, whatever the module calls its own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Tensor:
        out: Tensor = self.module(*inputs)
        return out


class WithoutEmptyInputs(nn.Module):
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
    """Keep what the exporter says about itself off the terminal; errors are raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # What it prints of a program that it gives up on goes there, past the log.
            with redirect_stderr(StringIO()):
                yield
    finally:
        logging.disable(before)
