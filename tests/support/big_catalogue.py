"""A bundle with a catalogue as large as a real marketplace's, made in seconds.

Items have no ids in the vocabulary, as in a model that ranks new items too; the
network is as large as the demonstration's, with random weights: what it costs
matters here, not what it says.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ranking_models.architectures import DCNv2
from ranking_models.bundle import BundleArrays, BundleContents, Graph, write_bundle
from ranking_models.manifest import DataSource, Quality
from ranking_models.schema import (
    Encoder,
    FeatureBatch,
    FeatureSchema,
    FeatureSpec,
    Float32,
    Int32,
)
from tests.support.bundles import run_graph

ITEMS = 1_000_000
CANDIDATES = 100
CATEGORIES = 500
BRANDS = 5_000
DIMENSIONS = 16
HIDDEN = (256, 128)
_DEVICES = ("android", "ios", "web")


def big_schema() -> FeatureSchema:
    """Item, user and context features, numeric and categorical."""
    return FeatureSchema(
        features=(
            FeatureSpec(name="price", source="item", kind="numeric", log=True, mean=3.0, scale=1.5),
            FeatureSpec(
                name="category",
                source="item",
                kind="categorical",
                vocabulary=tuple(f"c{i}" for i in range(CATEGORIES)),
            ),
            FeatureSpec(
                name="brand",
                source="item",
                kind="categorical",
                vocabulary=tuple(f"b{i}" for i in range(BRANDS)),
            ),
            FeatureSpec(name="age", source="user", kind="numeric", mean=40.0, scale=15.0),
            FeatureSpec(
                name="device",
                source="context",
                kind="categorical",
                vocabulary=_DEVICES,
                default="web",
            ),
        )
    )


def write_big_bundle(
    root: Path, *, items: int = ITEMS, candidates: int = CANDIDATES, seed: int = 0
) -> Path:
    """Write a bundle ``big`` with items ``i0, i1, ...``; the order of popularity is random."""
    random = np.random.default_rng(seed)
    schema = big_schema()
    graph = network(schema, random)
    golden = _rows(schema, 64, random)
    contents = BundleContents(
        name="big",
        created=datetime(2026, 11, 1, tzinfo=UTC),
        architecture=DCNv2(embedding_dim=DIMENSIONS, cross_layers=1, hidden=HIDDEN),
        schema=schema,
        graphs={"fp32": Graph(onnx=graph, tolerance=1e-5, parity=0.0)},
        arrays=BundleArrays(
            item_ids=np.char.add("i", np.arange(items).astype(str)),
            items=_rows(schema.of("item"), items, random),
            user_ids=np.array(["u0"]),
            users=Encoder(schema.of("user")).encode_rows([{"age": 40.0}]),
            candidates=neighbours(items, candidates, random),
            popularity=random.permutation(items).astype(np.int32),
            golden=golden,
            golden_scores=run_graph(graph, golden),
        ),
        max_batch_rows=4096,
        quality=Quality(
            split="none: random weights",
            rows=100,
            users=1,
            auc=0.5,
            log_loss=0.69,
            gauc=0.5,
            ndcg_at_10=0.5,
        ),
        data=DataSource(
            name="tests/support/big_catalogue.py",
            licence="Apache-2.0",
            interactions=100,
            users=1,
            items=items,
            first_event="2026-01-01T00:00:00Z",
            last_event="2026-01-31T00:00:00Z",
        ),
        tools={"onnx": onnx.__version__},
    )
    return write_bundle(root, contents)


def neighbours(items: int, width: int, random: np.random.Generator) -> Int32:
    """For every item `width` distinct others: it plus the same distinct steps, round the end."""
    steps = np.sort(random.choice(np.arange(1, items), width, replace=False)).astype(np.int64)
    found = np.empty((items, width), np.int32)
    for start in range(0, items, 100_000):
        at = np.arange(start, min(start + 100_000, items))[:, None]
        found[start : start + 100_000] = (at + steps) % items
    return found


def network(schema: FeatureSchema, random: np.random.Generator) -> bytes:
    """Embeddings and dense features through a small perceptron, as a serialised ONNX model."""
    sizes = [len(spec.vocabulary) + 1 for spec in schema.ids]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    width = len(sizes) * DIMENSIONS + len(schema.dense)
    constants = {
        "starts": starts,
        "table": random.normal(0, 1, (sum(sizes), DIMENSIONS)).astype(np.float32),
        "flat": np.array([-1, len(sizes) * DIMENSIONS], np.int64),
        "last": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("Add", ["ids", "starts"], ["at"]),
        helper.make_node("Gather", ["table", "at"], ["embedded"]),
        helper.make_node("Reshape", ["embedded", "flat"], ["wide"]),
        helper.make_node("Concat", ["wide", "dense"], ["x0"], axis=1),
    ]
    for layer, (before, after) in enumerate(zip((width, *HIDDEN), (*HIDDEN, 1), strict=True)):
        weights = random.normal(0, before**-0.5, (before, after))
        constants[f"w{layer}"] = weights.astype(np.float32)
        nodes.append(helper.make_node("MatMul", [f"x{layer}", f"w{layer}"], [f"y{layer}"]))
        kind = "Relu" if after > 1 else "Sigmoid"
        nodes.append(helper.make_node(kind, [f"y{layer}"], [f"x{layer + 1}"]))
    nodes.append(helper.make_node("Squeeze", [f"x{len(HIDDEN) + 1}", "last"], ["score"]))
    graph = helper.make_graph(
        nodes,
        "big",
        [
            helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["rows", len(schema.dense)]),
            helper.make_tensor_value_info("ids", TensorProto.INT32, ["rows", len(sizes)]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _rows(schema: FeatureSchema, rows: int, random: np.random.Generator) -> FeatureBatch:
    """Random encoded rows of a schema without multi-valued features."""
    dense: Float32 = random.normal(0, 1, (rows, len(schema.dense))).astype(np.float32)
    columns = [random.integers(0, spec.last_id + 1, rows) for spec in schema.ids]
    ids = np.stack(columns, axis=1) if columns else np.empty((rows, 0))
    return FeatureBatch(dense=dense, ids=ids.astype(np.int32))
