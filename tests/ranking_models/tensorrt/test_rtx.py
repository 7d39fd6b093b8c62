"""NVIDIA's parser and optimiser build our graphs, and refuse the wrong ones with our messages.

A green build is strong evidence on graph, types, shapes and profiles. It is
no proof for the optimiser of TensorRT 11.4, and says nothing of speed.
"""

import functools
import re

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto

from ranking_models.architectures import (
    DLRM,
    Architecture,
    DCNv2,
    DeepFM,
    LogisticRegression,
    TwoTower,
    WideAndDeep,
)
from ranking_models.errors import InputError
from ranking_models.export.embedding_rows import reduce_embedding_rows
from ranking_models.export.half import export_half
from ranking_models.nn import build
from ranking_models.quantisation.layers import layers_of
from ranking_models.quantisation.ranges import Range
from ranking_models.quantisation.rewriting import with_int8
from ranking_models.schema import FeatureSchema
from tests.support import rtx as rtx_support
from tests.support import tensorrt_graphs as graphs
from tests.support.bundles import tiny_schema
from tests.support.rtx import Rtx, needs_rtx

pytestmark = needs_rtx

GPUS = {"T4": (7, 5), "A10": (8, 6), "L4": (8, 9), "RTX 5090": (12, 0)}
T4, L4 = GPUS["T4"], GPUS["L4"]


def test_the_version_is_the_one_that_the_messages_were_read_from():
    assert rtx_support.version() == "1.7.1.116"


@pytest.mark.parametrize("gpu", GPUS)
def test_an_fp16_graph_builds_for_every_generation(rtx: Rtx, gpu):
    built = rtx.build(graphs.half_graph(), graphs.SCHEMA, GPUS[gpu])

    assert len(built.plan) > 10_000
    assert built.errors == ()
    assert built.timing_cache is None


def test_a_graph_of_symmetric_s8_builds_for_ada(rtx: Rtx):
    assert rtx.build(graphs.quantised_graph(), graphs.dense_schema(), L4).plan


CROSS = DCNv2(embedding_dim=4, cross_layers=2, hidden=(8,))
ARCHITECTURES = (
    CROSS,
    DCNv2(embedding_dim=4, cross_layers=2, hidden=(8,), cross_rank=3, cross_experts=2),
    LogisticRegression(),
    WideAndDeep(embedding_dim=4, hidden=(8,)),
    DeepFM(embedding_dim=4, hidden=(8,)),
    DLRM(embedding_dim=4, bottom=(8,), hidden=(8,)),
    TwoTower(embedding_dim=4, hidden=(8,), output_dim=4),
)
REAL = tiny_schema(items=10, users=10)


@functools.cache
def exported(architecture: Architecture) -> bytes:
    torch.manual_seed(0)
    return export_half(build(architecture, REAL), REAL)


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=str)
def test_every_architecture_in_fp16_builds_for_a_t4(rtx: Rtx, architecture: Architecture):
    assert rtx.build(exported(architecture), REAL, T4, buckets=(64, 256)).plan


def test_our_own_int8_graph_builds_for_ada(rtx: Rtx):
    model = onnx.load_from_string(exported(CROSS))
    layers = layers_of(model)
    graph = with_int8(model, layers, {layer.input: Range(-4, 4) for layer in layers}, "s8")
    kinds = [node.op_type for node in onnx.load_from_string(graph).graph.node]

    assert kinds.count("QuantizeLinear") == 2, "of the cross layers' and the MLP's inputs"
    assert rtx.build(graph, REAL, L4, buckets=(64, 256)).plan


REFUSED = {
    "fp32 GEMM": (
        graphs.single_graph,
        graphs.SCHEMA,
        T4,
        r"Cannot compile operation 'cross_layer' for Turing \(SM75\): FP32 GEMM is not supported; "
        r".*compile an fp16 graph",
    ),
    "mixed types": (
        graphs.mixed_graph,
        graphs.dense_schema(),
        L4,
        r"node 1 \(Add, mixed_add\): mixed_add: ElementWiseOperation SUM must have same input "
        r"types. But they are of types Half and Float; .*put a Cast before this node",
    ),
    "int8 embedding rows": (
        lambda: reduce_embedding_rows(graphs.single_graph(), "int8"),
        graphs.SCHEMA,
        L4,
        r"Quantized constant \(table\.int8\) is only allowed before DQ.*keep the embedding rows",
    ),
    "int32 bias": (
        graphs.quantised_bias_graph,
        graphs.dense_schema(),
        L4,
        r"node 0 \(DequantizeLinear, bias_dq\).*quantise without biases",
    ),
    "asymmetric u8": (
        lambda: graphs.quantised_graph(np.uint8, 128),
        graphs.dense_schema(),
        L4,
        r"node 1 \(QuantizeLinear, quantise_x\).*symmetric s8 only",
    ),
    "missing operator": (
        graphs.missing_operator_graph,
        graphs.dense_schema(),
        L4,
        r"node 0 \(Det, determinant\): not supported; TensorRT does not build this operator",
    ),
    "custom operator": (
        graphs.custom_operator_graph,
        graphs.dense_schema(),
        L4,
        r"node 0 \(Rank, mine\).*an operator of somebody's own",
    ),
    "no ONNX": (lambda: b"no graph", graphs.SCHEMA, L4, r"export the graph again"),
    "another width": (
        lambda: graphs.half_graph(dense=("dense", TensorProto.FLOAT, ["rows", 13])),
        FeatureSchema(features=graphs.SCHEMA.features[1:]),
        L4,
        r"'dense' has the shape \[any, 13\], not \[any, 12\]",
    ),
    "dynamic columns": (
        lambda: graphs.half_graph(ids=("ids", TensorProto.INT32, ["rows", "columns"])),
        graphs.SCHEMA,
        L4,
        r"'ids' has the shape \[any, any\], not \[any, 2\]: the first axis is",
    ),
    "fixed rows": (
        lambda: graphs.half_graph(dense=("dense", TensorProto.FLOAT, [64, 13])),
        graphs.SCHEMA,
        L4,
        r"'dense' has the shape \[64, 13\], not \[any, 13\]",
    ),
    "two row axes": (
        graphs.other_rows_graph,
        graphs.SCHEMA,
        L4,
        r"do not share one row axis \(dense: 'rows', ids: 'pairs'\)",
    ),
    "wide ids": (
        lambda: graphs.half_graph(ids=("ids", TensorProto.INT64, ["rows", 2])),
        graphs.SCHEMA,
        L4,
        r"'ids' is INT64, the schema asks for INT32",
    ),
    "another input": (
        graphs.half_graph,
        graphs.dense_schema(),
        L4,
        r"inputs are dense, ids, the schema asks for dense;",
    ),
    "no such GPU": (graphs.half_graph, graphs.SCHEMA, (7, 0), r"does not build for SM70"),
    "no GPU named": (graphs.half_graph, graphs.SCHEMA, None, r"needs a target"),
}


@pytest.mark.parametrize("wrong", REFUSED)
def test_a_wrong_graph_is_refused_in_one_line(rtx: Rtx, wrong):
    graph, schema, target, message = REFUSED[wrong]

    with pytest.raises(InputError) as refusal:
        rtx.build(graph(), schema, target)

    assert re.search(message, str(refusal.value)), str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "checkMacros" not in str(refusal.value)


def test_a_plan_without_rows_is_refused_before_the_builder_sees_it(rtx: Rtx):
    with pytest.raises(InputError, match="at least one row bucket"):
        rtx.build(graphs.half_graph(), graphs.SCHEMA, L4, buckets=())
