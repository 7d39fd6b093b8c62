"""Every architecture is a graph that ONNX Runtime scores like PyTorch, whatever its features."""

import itertools

import numpy as np
import pytest
import torch

from ranking_models.architectures import (
    DLRM,
    Architecture,
    DCNv2,
    DeepFM,
    LogisticRegression,
    TwoTower,
    WideAndDeep,
)
from ranking_models.export.to_onnx import export_graph
from ranking_models.fitting import tensors
from ranking_models.nn import build
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.schema import FeatureBatch, FeatureSchema, FeatureSpec

FULL = (
    FeatureSpec(name="n0", source="item", kind="numeric"),
    FeatureSpec(name="n1", source="user", kind="numeric"),
    FeatureSpec(name="c0", source="context", kind="categorical", vocabulary=("x", "y", "z")),
    FeatureSpec(name="c1", source="item", kind="categorical", hash_buckets=3),
    FeatureSpec(name="m0", source="item", kind="multi", hash_buckets=3, max_length=2),
)


def schema_of(*kinds: str, of_items_alone: bool = False) -> FeatureSchema:
    chosen = (spec for spec in FULL if spec.kind in kinds)
    return FeatureSchema(
        features=tuple(s for s in chosen if s.source == "item" or not of_items_alone)
    )


EVERY = schema_of("numeric", "categorical", "multi")
ARCHITECTURES: list[Architecture] = [
    LogisticRegression(),
    WideAndDeep(embedding_dim=4, hidden=(8, 5), dropout=0.5),
    DeepFM(embedding_dim=4, hidden=()),
    DCNv2(embedding_dim=4, cross_layers=2, hidden=(), cross_rank=2),
    DCNv2(embedding_dim=4, cross_layers=2, hidden=(8,), cross_rank=2, cross_experts=3),
    DLRM(embedding_dim=4, bottom=(5,), hidden=(8,)),
    TwoTower(embedding_dim=4, hidden=(8,), output_dim=3, dropout=0.5),
]
BARE_DLRM = DLRM(embedding_dim=4, bottom=(), hidden=())
BARE_TOWERS = TwoTower(embedding_dim=4, hidden=(), output_dim=3)
ALONE: list[tuple[Architecture, FeatureSchema]] = [
    (LogisticRegression(), schema_of("numeric", of_items_alone=True)),
    (BARE_DLRM, schema_of("numeric", of_items_alone=True)),
    (BARE_DLRM, schema_of("categorical", of_items_alone=True)),
    (BARE_TOWERS, schema_of("numeric", of_items_alone=True)),
    (BARE_TOWERS, schema_of("multi", of_items_alone=True)),
]


@pytest.mark.parametrize(
    ("architecture", "schema"),
    [*itertools.product(ARCHITECTURES, [EVERY]), *ALONE],
    ids=lambda value: getattr(value, "name", None),
)
def test_the_graph_scores_like_the_network(
    architecture: Architecture, schema: FeatureSchema
) -> None:
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    module = build(architecture, schema).eval()
    with torch.no_grad():
        for weights in module.parameters():
            weights.normal_(0, 0.4)
    rows = FeatureBatch(
        dense=rng.normal(size=(9, len(schema.dense))).astype(np.float32),
        ids=rng.integers(0, 4, (9, len(schema.ids))).astype(np.int32),
        multi={
            s.name: rng.integers(0, 4, (9, s.max_length)).astype(np.int32) for s in schema.multi
        },
    )
    with torch.no_grad():
        reference = module(*tensors(schema, rows)).numpy()

    score = onnx_runtime_scorer(export_graph(module, schema))

    assert reference.std() > 1e-3
    np.testing.assert_allclose(score(rows), reference, rtol=0, atol=1e-5)
    one = rows.take(slice(3, 4))
    np.testing.assert_allclose(score(one), reference[3:4], rtol=0, atol=1e-5)
