"""A tiny valid bundle, made without torch: a hand-written graph over a few features."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ranking_models.architectures import DCNv2
from ranking_models.bundle import (
    BundleArrays,
    BundleContents,
    Graph,
    SegmentArrays,
    SplitGraphs,
    id_array,
    write_bundle,
)
from ranking_models.bundle.layout import segment_version
from ranking_models.candidates import co_occurring, fill_popular
from ranking_models.manifest import (
    DataSource,
    ExactSplit,
    FileDigest,
    ModelManifest,
    Quality,
    Segments,
    decode_manifest,
    encode_manifest,
    sealed,
)
from ranking_models.schema import (
    Encoder,
    FeatureBatch,
    FeatureSchema,
    FeatureSpec,
    FeatureValue,
    Float32,
)

Row = dict[str, FeatureValue]

CATEGORIES = ("books", "garden", "music", "toys")
COUNTRIES = ("DK", "NO", "SE")
DEVICES = ("android", "ios", "web")
TAGS = ("cheap", "new", "used", "vintage")


def tiny_schema(items: int, users: int) -> FeatureSchema:
    """All three kinds from the item, and at least one feature of every source."""
    return FeatureSchema(
        features=(
            FeatureSpec(
                name="user_id", source="user", kind="categorical", vocabulary=_names("u", users)
            ),
            FeatureSpec(
                name="item_id", source="item", kind="categorical", vocabulary=_names("i", items)
            ),
            FeatureSpec(name="price", source="item", kind="numeric", log=True, mean=3.0, scale=1.5),
            FeatureSpec(name="category", source="item", kind="categorical", vocabulary=CATEGORIES),
            FeatureSpec(name="tags", source="item", kind="multi", vocabulary=TAGS, max_length=3),
            FeatureSpec(name="age", source="user", kind="numeric", mean=40.0, scale=15.0),
            FeatureSpec(name="country", source="user", kind="categorical", vocabulary=COUNTRIES),
            FeatureSpec(
                name="device",
                source="context",
                kind="categorical",
                vocabulary=DEVICES,
                default="web",
            ),
            FeatureSpec(name="hour", source="context", kind="numeric", mean=12.0, scale=7.0),
        )
    )


def tiny_contents(
    *, name: str = "tiny", items: int = 50, users: int = 20, seed: int = 0
) -> BundleContents:
    """What `write_tiny_bundle` writes, for tests that change some of it first."""
    random = np.random.default_rng(seed)
    schema = tiny_schema(items, users)
    graph = linear_graph(schema, seed=seed)
    item_rows = [_item(i, random) for i in range(items)]
    user_rows = [_user(u, random) for u in range(users)]
    golden = Encoder(schema).encode_rows(
        [_golden_row(item_rows, user_rows, random) for _ in range(32)]
    )
    popularity = random.permutation(items).astype(np.int32)
    likes = random.integers(0, [max(users, 1), items], (5 * items, 2)).astype(np.int32)
    candidates = co_occurring(likes[:, 0], likes[:, 1], items, size=30)
    fill_popular(candidates, popularity)
    return BundleContents(
        name=name,
        created=datetime(2026, 11, 1, tzinfo=UTC),
        architecture=DCNv2(embedding_dim=1, cross_layers=1, hidden=()),
        schema=schema,
        graphs={"fp32": Graph(onnx=graph, tolerance=1e-5, parity=0.0)},
        arrays=BundleArrays(
            item_ids=id_array(_names("i", items), "items"),
            items=Encoder(schema.of("item")).encode_rows(item_rows),
            user_ids=id_array(_names("u", users), "users"),
            users=Encoder(schema.of("user")).encode_rows(user_rows),
            candidates=candidates,
            popularity=popularity,
            golden=golden,
            golden_scores=run_graph(graph, golden),
        ),
        max_batch_rows=4096,
        quality=Quality(
            split="none: random weights",
            rows=100,
            users=users,
            auc=0.5,
            log_loss=0.69,
            gauc=0.5,
            ndcg_at_10=0.5,
        ),
        data=DataSource(
            name="tests/support/bundles.py",
            licence="Apache-2.0",
            interactions=100,
            users=users,
            items=items,
            first_event="2026-01-01T00:00:00Z",
            last_event="2026-01-31T00:00:00Z",
        ),
        tools={"onnx": onnx.__version__},
    )


def with_parts(contents: BundleContents) -> BundleContents:
    """The same with every optional file: segments, and a split that stands for one."""
    users, items = len(contents.arrays.user_ids), len(contents.arrays.item_ids)
    of_user = (np.arange(users) % 4 + 1).astype(np.int32)
    representatives = np.full((5, 8), -1, np.int32)
    for segment in range(1, 5):
        members = np.flatnonzero(of_user == segment)[:8]
        representatives[segment, : len(members)] = members
    split = ExactSplit(user_width=1, item_width=1, parity=0.0, factored=("linear",), whole=())
    segments = SegmentArrays(
        users=of_user,
        representatives=representatives,
        scores=np.random.default_rng(0).random((items, 5), np.float32),
        figures=Segments(count=5, version=segment_version(of_user), probes=50, explained=0.5),
    )
    return msgspec.structs.replace(
        contents,
        split=SplitGraphs(user=b"user", item=b"item", row=b"row", figures=split),
        segments=segments,
    )


def write_tiny_bundle(
    root: Path, *, name: str = "tiny", items: int = 50, users: int = 20, seed: int = 0
) -> Path:
    """Write a bundle with items ``i0, i1, ...``, users ``u0, u1, ...``, and weights by `seed`.

    Its scores depend on every feature of user, item and context.
    """
    return write_bundle(root, tiny_contents(name=name, items=items, users=users, seed=seed))


def write_tiny_segmented_bundle(root: Path) -> Path:
    """Like `write_tiny_bundle`, with five segments: nobody's, and user ``uN`` in ``1 + N % 4``."""
    contents = with_parts(tiny_contents())
    return write_bundle(root, msgspec.structs.replace(contents, split=None))


def reseal(path: Path) -> None:
    """Make the manifest of a tampered bundle agree with its files again.

    What is then refused is refused for what it holds, not for its digest.
    """
    manifest = decode_manifest((path / "manifest.json").read_bytes())
    files = {file: _digest((path / file).read_bytes()) for file in manifest.files}
    rewrite_manifest(path, msgspec.structs.replace(manifest, files=files))


def rewrite_manifest(path: Path, manifest: ModelManifest) -> None:
    """Replace a bundle's manifest by another one that is right in itself."""
    overwrite(path / "manifest.json", encode_manifest(sealed(manifest)))


def overwrite(file: Path, content: bytes) -> None:
    """Replace a read-only file."""
    file.unlink(missing_ok=True)
    file.write_bytes(content)


def linear_graph(
    schema: FeatureSchema, *, seed: int, opset: int = 20, ir_version: int = 10
) -> bytes:
    """A logistic regression over all features as a serialised ONNX model.

    Like every graph of a bundle it leaves out the inputs that have no columns.
    """
    random = np.random.default_rng(seed)
    parts = _Parts(random)
    if schema.dense:
        parts.add_dense(len(schema.dense))
    if schema.ids:
        parts.add_ids([len(spec.vocabulary) + 1 for spec in schema.ids])
    for spec in schema.multi:
        parts.add_multi(f"multi_{spec.name}", spec.max_length, len(spec.vocabulary) + 1)
    parts.nodes.append(helper.make_node("Sum", parts.terms, ["logit"]))
    parts.nodes.append(helper.make_node("Sigmoid", ["logit"], ["score"]))
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])
    graph = helper.make_graph(parts.nodes, "tiny", parts.inputs, [score], parts.constants)
    model = helper.make_model(
        graph, ir_version=ir_version, opset_imports=[helper.make_opsetid("", opset)]
    )
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def run_graph(graph: bytes, batch: FeatureBatch) -> Float32:
    """The scores of a serialised graph, straight from ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    inputs = batch.inputs()
    (score,) = session.run(["score"], {i.name: inputs[i.name] for i in session.get_inputs()})
    return np.asarray(score, dtype=np.float32)


class _Parts:
    """Collects the graph's nodes, one term of the logit for every input."""

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random
        self.inputs: list[onnx.ValueInfoProto] = []
        self.nodes: list[onnx.NodeProto] = []
        self.terms: list[str] = []
        self.constants: list[onnx.TensorProto] = [
            numpy_helper.from_array(np.array([1], np.int64), "last_axis")
        ]

    def add_dense(self, columns: int) -> None:
        self._input("dense", TensorProto.FLOAT, columns)
        weights = self._constant("dense_weights", self._weights(columns))
        self._node("Mul", ["dense", weights], "dense_products")
        self._sum("dense_products")

    def add_ids(self, sizes: list[int]) -> None:
        self._input("ids", TensorProto.INT32, len(sizes))
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
        self._node("Add", ["ids", self._constant("ids_starts", starts)], "ids_shifted")
        table = self._constant("ids_table", self._weights(sum(sizes)))
        self._node("Gather", [table, "ids_shifted"], "ids_weights")
        self._sum("ids_weights")

    def add_multi(self, name: str, length: int, size: int) -> None:
        self._input(name, TensorProto.INT32, length)
        weights = self._weights(size)
        weights[0] = 0.0  # padding
        self._node("Gather", [self._constant(f"{name}_table", weights), name], f"{name}_weights")
        self._sum(f"{name}_weights")

    def _weights(self, size: int) -> Float32:
        return self._random.normal(0, 0.6, size).astype(np.float32)

    def _input(self, name: str, kind: int, columns: int) -> None:
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["rows", columns]))

    def _constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output]))

    def _sum(self, name: str) -> None:
        term = f"{name}_sum"
        self.nodes.append(helper.make_node("ReduceSum", [name, "last_axis"], [term], keepdims=0))
        self.terms.append(term)


def _digest(content: bytes) -> FileDigest:
    return FileDigest(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _names(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{i}" for i in range(count))


def _item(i: int, random: np.random.Generator) -> Row:
    tags = random.choice(TAGS, size=int(random.integers(0, 4)), replace=False)
    return {
        "item_id": f"i{i}",
        "price": float(np.round(random.lognormal(3, 1), 2)),
        "category": str(random.choice(CATEGORIES)),
        "tags": [str(tag) for tag in tags],
    }


def _user(u: int, random: np.random.Generator) -> Row:
    return {
        "user_id": f"u{u}",
        "age": int(random.integers(18, 80)),
        "country": str(random.choice(COUNTRIES)),
    }


def _golden_row(items: list[Row], users: list[Row], random: np.random.Generator) -> Row:
    """A known or unknown user and item, with or without context."""
    row: Row = {}
    if users and random.random() < 0.8:
        row |= users[random.integers(len(users))]
    if random.random() < 0.8:
        row |= items[random.integers(len(items))]
    if random.random() < 0.8:
        row |= {"device": str(random.choice(DEVICES)), "hour": int(random.integers(24))}
    return row
