"""The work that every server of the benchmark is given: one model, one catalogue, seeded requests.

The model is a DCN-v2 of input width 166 with two full-rank cross layers beside
an MLP 256-128-64, over 100,000 items and 10,000 users. Its weights are random:
what a forward pass costs does not depend on them, and nothing here is about the
quality of a ranking. It is written as a real bundle, by the code that exports
trained models, and kept in a folder for the next run.
"""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from ranking_models.architectures import DCNv2
from ranking_models.bundle import (
    Bundle,
    BundleArrays,
    BundleContents,
    id_array,
    list_bundles,
    write_bundle,
)
from ranking_models.manifest import DataSource, Quality
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.schema import FeatureBatch, FeatureSchema, FeatureSpec, Float32, Source

NAME = "benchmark"
ITEMS, USERS = 100_000, 10_000
EMBEDDING_DIM = 16
ARCHITECTURE = DCNv2(embedding_dim=EMBEDDING_DIM, cross_layers=2, hidden=(256, 128, 64))
INPUT_WIDTH = 166
VOCABULARIES: dict[Source, dict[str, int]] = {
    "user": {"user_id": USERS, "country": 30, "user_group": 64},
    "context": {"device": 8, "hour": 24},
    "item": {"item_id": ITEMS, "category": 200, "brand": 2_000, "region": 50},
}
NUMBERS: dict[Source, int] = {"user": 10, "context": 4, "item": 8}
SLATE = 20
BODIES = 400
SEED = 7
GOLDEN_ROWS = 256
TIMEOUT_MS = 1000
"""Of the requests: so long that none is given up while a peer is measured at its maximum."""


class Work(NamedTuple):
    """One kind of request: its bodies, and what the right replies are."""

    name: str
    bodies: list[bytes]
    candidates: list[list[str]]
    scores: list[Float32]
    """By direct ONNX Runtime, ``[candidates]`` each."""

    def slate_error(self, index: int, reply: list[tuple[str, float]]) -> float:
        """Largest difference of a score of the reply to request ``index``.

        Raises:
            ValueError: not the items with the best scores, best first; items
                whose scores differ by less than 1e-6 may change places.
        """
        return slate_error(self.candidates[index], self.scores[index], reply)


def slate_error(candidates: list[str], scores: Float32, reply: list[tuple[str, float]]) -> float:
    """See `Work.slate_error`."""
    right = dict(zip(candidates, scores.tolist(), strict=True))
    best = sorted(right.values(), reverse=True)[:SLATE]
    items = [item for item, _ in reply]
    if len(items) != len(best) or len(set(items)) != len(items) or not set(items) <= set(right):
        raise ValueError(f"a slate of {len(items)} items, not of {len(best)} of the candidates")
    place = max(abs(right[item] - value) for item, value in zip(items, best, strict=True))
    if place > 1e-6:
        raise ValueError(f"a wrong order: off by {place:.1e}")
    return max(abs(right[item] - score) for item, score in reply)


def schema() -> FeatureSchema:
    """22 numbers and 9 fields of 16: 166 columns, 94 of user and context and 72 of the item."""
    specs: list[FeatureSpec] = []
    for source, vocabularies in VOCABULARIES.items():
        specs += [
            FeatureSpec(name=name, source=source, kind="categorical", vocabulary=names(name, size))
            for name, size in vocabularies.items()
        ]
        specs += [
            FeatureSpec(name=f"{source}_{i}", source=source, kind="numeric")
            for i in range(NUMBERS[source])
        ]
    return FeatureSchema(features=tuple(specs))


def names(feature: str, size: int) -> tuple[str, ...]:
    """The vocabulary of a feature; `i123` is an item, `u123` a user."""
    return tuple(f"{feature[0]}{i}" for i in range(size))


def benchmark_bundle(root: Path) -> Bundle:
    """The benchmark's bundle under ``root``; made if this recipe did not make it yet.

    Raises:
        ImportError: it has to be made, and torch is not installed.
    """
    folder = root / _recipe_digest()
    if not folder.is_dir() or not list_bundles(folder):
        print("making the benchmark's bundle (about half a minute, once)", flush=True)
        write_bundle(folder, _contents())
    (found,) = list_bundles(folder)
    return Bundle.open(found.path)


def _recipe_digest() -> str:
    """Names what makes the bundle: this file, and the code that exports."""
    exporting = Path(__file__).parents[2] / "ranking_models" / "export"
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for file in sorted(exporting.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


def work(bundle: Bundle, *, candidates: int, count: int = BODIES) -> Work:
    """Seeded requests for known users and items, with the scores that the model gives them."""
    random = np.random.default_rng([SEED, candidates])
    score = onnx_runtime_scorer(bundle.graph("fp32"))
    bodies, ids, scores = [], [], []
    for _ in range(count):
        user, items = int(random.integers(USERS)), random.choice(ITEMS, candidates, replace=False)
        context, context_row = _context(random)
        ids.append([f"i{item}" for item in items])
        bodies.append(_body(user, context, ids[-1]))
        scores.append(score(_rows(bundle, user, context_row, items)))
    return Work(f"rank-{candidates}", bodies, ids, scores)


def _body(user: int, context: dict[str, str | float], items: list[str]) -> bytes:
    return msgspec.json.encode(
        {
            "user": {"id": f"u{user}"},
            "context": context,
            "candidates": items,
            "k": SLATE,
            "timeout_ms": TIMEOUT_MS,
        }
    )


def _context(random: np.random.Generator) -> tuple[dict[str, str | float], FeatureBatch]:
    """What a request says of its context, and the same as one row of the model's input."""
    ids = {name: int(random.integers(size)) for name, size in VOCABULARIES["context"].items()}
    numbers = [round(float(random.normal()), 3) for _ in range(NUMBERS["context"])]
    said: dict[str, str | float] = {name: f"{name[0]}{i}" for name, i in ids.items()}
    said |= {f"context_{i}": number for i, number in enumerate(numbers)}
    return said, FeatureBatch(
        dense=np.array([numbers], np.float32), ids=np.array([[*ids.values()]], np.int32) + 1
    )


def _rows(bundle: Bundle, user: int, context: FeatureBatch, items: np.ndarray) -> FeatureBatch:
    """One row per item. Written apart from the service's own code, which is judged by it."""
    sides = [bundle.users.take(slice(user, user + 1)), context, bundle.items.take(items)]
    rows = len(items)
    return FeatureBatch(
        dense=np.concatenate(
            [np.broadcast_to(s.dense, (rows, s.dense.shape[1])) for s in sides], 1
        ),
        ids=np.concatenate([np.broadcast_to(s.ids, (rows, s.ids.shape[1])) for s in sides], 1),
    )


def _contents() -> BundleContents:
    import onnx
    import torch

    from ranking_models.export.exact_split import split_network
    from ranking_models.export.to_bundle import exported
    from ranking_models.export.variants import MAX_BATCH_ROWS
    from ranking_models.nn import build
    from ranking_models.torch_scorer import torch_scorer

    torch.manual_seed(SEED)
    network = build(ARCHITECTURE, schema()).eval()
    width = network.body.head.in_features - ARCHITECTURE.hidden[-1]
    assert width == INPUT_WIDTH, width
    torch.nn.init.normal_(network.body.embedding.table.weight, std=0.5)  # so that scores differ
    random = np.random.default_rng(SEED)
    users, items, context, golden_items = (
        _table(source, rows, random)
        for source, rows in (
            ("user", USERS),
            ("item", ITEMS),
            ("context", GOLDEN_ROWS),
            ("item", GOLDEN_ROWS),
        )
    )
    golden = _side_by_side(users.take(slice(GOLDEN_ROWS)), context, golden_items)
    reference = torch_scorer(network, schema())(golden)
    fp32 = exported(network, schema(), golden, reference)
    whole = onnx_runtime_scorer(fp32.onnx)(golden)
    return BundleContents(
        name=NAME,
        created=datetime(2026, 11, 22, tzinfo=UTC),
        architecture=ARCHITECTURE,
        schema=schema(),
        graphs={"fp32": fp32},
        arrays=BundleArrays(
            item_ids=id_array(names("item_id", ITEMS), "the items"),
            items=items,
            user_ids=id_array(names("user_id", USERS), "the users"),
            users=users,
            candidates=_neighbours(),
            popularity=random.permutation(ITEMS).astype(np.int32),
            golden=golden,
            golden_scores=reference,
        ),
        max_batch_rows=MAX_BATCH_ROWS,
        quality=Quality(
            split="none: random weights",
            rows=1,
            users=1,
            auc=0.5,
            log_loss=0.7,
            gauc=0.5,
            ndcg_at_10=0.0,
        ),
        data=DataSource(
            name="tests/bench/workload.py",
            licence="Apache-2.0",
            interactions=0,
            users=USERS,
            items=ITEMS,
            first_event="2026-01-01T00:00:00Z",
            last_event="2026-01-01T00:00:00Z",
        ),
        tools={"onnx": onnx.__version__, "torch": str(torch.__version__)},
        split=split_network(network, schema(), golden, whole),
    )


def _table(source: Source, rows: int, random: np.random.Generator) -> FeatureBatch:
    """Encoded rows of one source: its ids at random, but every user and item with its own."""
    ids = [
        np.arange(rows) if size == rows else random.integers(size, size=rows)
        for size in VOCABULARIES[source].values()
    ]
    return FeatureBatch(
        dense=random.normal(size=(rows, NUMBERS[source])).astype(np.float32),
        ids=np.ascontiguousarray(np.stack(ids, axis=1).astype(np.int32) + 1),
    )


def _side_by_side(*sides: FeatureBatch) -> FeatureBatch:
    return FeatureBatch(
        dense=np.concatenate([s.dense for s in sides], axis=1),
        ids=np.concatenate([s.ids for s in sides], axis=1),
    )


def _neighbours() -> np.ndarray:
    """Candidates for requests that name none, which the benchmark never sends."""
    return ((np.arange(ITEMS)[:, None] + np.arange(1, 21)) % ITEMS).astype(np.int32)
