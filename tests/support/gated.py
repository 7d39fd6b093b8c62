"""A small ranker with layers, whose weights a test can spoil, and evidence to see it by."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ranking_models.gates import Evidence, evidence_of
from ranking_models.manifest import GateFigures, Interval
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.schema import FeatureBatch
from tests.support.bundles import tiny_schema

ITEMS, USERS, WIDTH = 400, 60, 24
SCHEMA = tiny_schema(ITEMS, USERS)

Weights = dict[str, npt.NDArray[np.float32]]


def random_rows(rows: int, seed: int) -> FeatureBatch:
    """Rows with all columns of `SCHEMA`, drawn alike for every user and item."""
    random = np.random.default_rng(seed)
    return FeatureBatch(
        dense=random.normal(size=(rows, len(SCHEMA.dense))).astype(np.float32),
        ids=random.integers(
            0, [spec.last_id + 1 for spec in SCHEMA.ids], (rows, len(SCHEMA.ids))
        ).astype(np.int32),
        multi={s.name: _padded(random, rows, s.max_length, s.last_id) for s in SCHEMA.multi},
    )


def catalogue(items: int = ITEMS, seed: int = 3) -> FeatureBatch:
    """Items with the columns of ``SCHEMA.of("item")``; each has its own id."""
    rows = random_rows(items, seed)
    dense = [c for c, spec in enumerate(SCHEMA.dense) if spec.source == "item"]
    ids = [c for c, spec in enumerate(SCHEMA.ids) if spec.source == "item"]
    batch = FeatureBatch(
        dense=np.ascontiguousarray(rows.dense[:, dense]),
        ids=np.ascontiguousarray(rows.ids[:, ids]),
        multi=rows.multi,
    )
    batch.ids[:, 0] = 1 + np.arange(items) % ITEMS
    return batch


def evidence(weights: Weights, *, rows: int = 2000, seed: int = 5) -> Evidence:
    """Held-out rows whose clicks follow the ranker's own probabilities."""
    held_out = random_rows(rows, seed)
    chance = onnx_runtime_scorer(ranker(weights))(held_out)
    clicks = np.random.default_rng(seed).random(rows) < chance
    users = held_out.ids[:, 0]
    labels = clicks.astype(np.float32)
    return evidence_of(SCHEMA, catalogue(), held_out, labels, users, source="made up")


def random_weights(seed: int = 0) -> Weights:
    """Weights whose scores spread over 0..1."""
    random = np.random.default_rng(seed)
    columns = len(SCHEMA.ids) + sum(s.max_length for s in SCHEMA.multi)
    table = 1 + max(spec.last_id for spec in SCHEMA.features)
    shapes = {
        "table": (table, 4),
        "first": (columns * 4 + len(SCHEMA.dense), WIDTH),
        "second": (WIDTH, WIDTH),
        "third": (WIDTH, WIDTH),
        "head": (WIDTH, 1),
    }
    scales = {"table": 1.0, "first": 0.25, "second": 0.4, "third": 0.4, "head": 0.6}
    return {
        name: random.normal(0, scales[name], shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def ranker(weights: Weights) -> bytes:
    """``sigmoid(head(relu(third(relu(second(relu(first([embeddings, dense]))))))))``."""
    multi = [f"multi_{spec.name}" for spec in SCHEMA.multi]
    node = helper.make_node
    nodes = [
        node("Concat", ["ids", *multi], ["all_ids"], axis=1),
        node("Gather", ["table", "all_ids"], ["gathered"]),
        node("Flatten", ["gathered"], ["embedded"]),
        node("Concat", ["embedded", "dense"], ["x0"], axis=1),
        *_layer("first", "x0", "x1"),
        *_layer("second", "x1", "x2"),
        *_layer("third", "x2", "x3"),
        node("MatMul", ["x3", "head"], ["logits"]),
        node("Squeeze", ["logits", "last_axis"], ["logit"]),
        node("Sigmoid", ["logit"], ["score"]),
    ]
    inputs = [_input("dense", TensorProto.FLOAT, len(SCHEMA.dense))]
    inputs.append(_input("ids", TensorProto.INT32, len(SCHEMA.ids)))
    inputs += [_input(f"multi_{s.name}", TensorProto.INT32, s.max_length) for s in SCHEMA.multi]
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "last_axis"))
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])
    graph = helper.make_graph(nodes, "ranker", inputs, [score], constants)
    opset = [helper.make_opsetid("", 20)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opset)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def changed(weights: Weights, **changes: Callable[..., npt.NDArray[np.generic]]) -> Weights:
    """The weights with some of them put through a function."""
    return weights | {n: change(weights[n]).astype(np.float32) for n, change in changes.items()}


def sound_figures() -> GateFigures:
    """Figures that pass every gate."""
    same = Interval(value=0.0, low=0.0, high=0.0)
    return GateFigures(
        rows=10_000,
        users=800,
        lists=200,
        list_items=1682,
        reference_auc=0.8,
        auc=0.8,
        auc_change=same,
        log_loss_change=same,
        max_difference=0.0,
        p99_difference=0.0,
        top10_overlap=1.0,
        top10_overlap_worst=1.0,
        kendall_tau=1.0,
        not_finite=0,
        max_activation=80.0,
        baseline_auc=0.75,
    )


def _layer(weights: str, source: str, target: str) -> list[onnx.NodeProto]:
    product = f"{target}_product"
    return [
        helper.make_node("MatMul", [source, weights], [product]),
        helper.make_node("Relu", [product], [target]),
    ]


def _input(name: str, kind: int, columns: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["rows", columns])


def _padded(
    random: np.random.Generator, rows: int, length: int, last: int
) -> npt.NDArray[np.int32]:
    """Known ids first, then padding."""
    ids = random.integers(1, last + 1, (rows, length))
    known = random.integers(0, length + 1, rows)[:, None] > np.arange(length)
    return np.where(known, ids, 0).astype(np.int32)
