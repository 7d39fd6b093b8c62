"""The networks compute the equations that their docstrings state."""

import itertools
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranking_models import architectures
from ranking_models.architectures import Architecture
from ranking_models.nn import build, restore
from ranking_models.nn.cross import CrossNetwork
from ranking_models.nn.dcn import DCNv2
from ranking_models.nn.deepfm import DeepFM
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.nn.mlp import MLP
from ranking_models.schema import FeatureSchema, FeatureSpec

Name = Literal["dcn-v2", "deepfm"]


def schema_of(*, dense: int, ids: int, multi: int) -> FeatureSchema:
    numbers = [FeatureSpec(name=f"n{i}", source="item", kind="numeric") for i in range(dense)]
    single = [
        FeatureSpec(name=f"c{i}", source="user", kind="categorical", vocabulary=("x", "y", "z"))
        for i in range(ids)
    ]
    several = [
        FeatureSpec(name=f"m{i}", source="item", kind="multi", vocabulary=("p", "q"), max_length=3)
        for i in range(multi)
    ]
    return FeatureSchema(features=(*numbers, *single, *several))


def architecture(name: Name) -> Architecture:
    if name == "dcn-v2":
        return architectures.DCNv2(embedding_dim=4, cross_layers=2, hidden=(8, 5), dropout=0.5)
    return architectures.DeepFM(embedding_dim=4, hidden=(8, 5), dropout=0.5)


def inputs(schema: FeatureSchema, rows: int, *, seed: int = 0) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(rows, len(schema.dense))).astype(np.float32)
    ids = rng.integers(0, 4, (rows, len(schema.ids))).astype(np.int32)
    multi = [rng.integers(0, 3, (rows, spec.max_length)).astype(np.int32) for spec in schema.multi]
    return [torch.from_numpy(array) for array in (dense, ids, *multi)]


def linear(layer: nn.Module) -> nn.Linear:
    assert isinstance(layer, nn.Linear)
    return layer


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_a_cross_layer_multiplies_by_the_input_and_adds_the_residual() -> None:
    cross = CrossNetwork(width=5, depth=2)
    x0 = torch.randn(7, 5)

    first, second = (linear(layer) for layer in cross.layers)
    x1 = x0 * (x0 @ first.weight.T + first.bias) + x0
    x2 = x0 * (x1 @ second.weight.T + second.bias) + x1

    torch.testing.assert_close(cross(x0), x2)


def test_an_mlp_is_its_layers_and_passes_its_input_without_any() -> None:
    mlp = MLP(3, (4, 2), dropout=0.5).eval()
    first, second = linear(mlp.layers[0]), linear(mlp.layers[3])
    x = torch.randn(6, 3)

    torch.testing.assert_close(mlp(x), second(first(x).relu()).relu())
    assert mlp.out_width == 2
    assert MLP(3, (), dropout=0.5)(x) is x


def test_every_value_of_every_feature_has_a_vector_of_its_own() -> None:
    schema = schema_of(dense=0, ids=2, multi=1)
    embedding = FieldEmbedding(schema, 4)
    embedding.table.weight.data = torch.arange(embedding.table.num_embeddings).repeat(4, 1).T * 1.0

    ids = torch.tensor([[i, i] for i in range(4)], dtype=torch.int32)
    alone = torch.tensor([[i, 0, 0] for i in (0, 1, 2, 0)], dtype=torch.int32)
    vectors = embedding(ids, alone)[:, :, 0].int().tolist()

    assert embedding.table.num_embeddings == 4 + 4 + 3
    assert [row[0] for row in vectors] == [0, 1, 2, 3]
    assert [row[1] for row in vectors] == [4, 5, 6, 7]
    assert [row[2] for row in vectors] == [0, 9, 10, 0]  # no value, no vector


def test_several_values_are_averaged_wherever_they_stand() -> None:
    embedding = FieldEmbedding(schema_of(dense=0, ids=0, multi=1), 4)
    none = torch.zeros(3, 0, dtype=torch.int32)
    lists = torch.tensor([[1, 2, 0], [0, 2, 1], [1, 0, 0]], dtype=torch.int32)

    both, swapped, one = embedding(none, lists)[:, 0]

    table = embedding.table.weight
    torch.testing.assert_close(both, (table[1] + table[2]) / 2)
    torch.testing.assert_close(swapped, both)
    torch.testing.assert_close(one, table[1])


def test_dcn_is_a_cross_network_beside_an_mlp() -> None:
    schema = schema_of(dense=2, ids=2, multi=1)
    network = DCNv2(architecture("dcn-v2"), schema).eval()
    dense, *rest = inputs(schema, 6)

    x0 = torch.cat([dense, network.embedding(*rest).reshape(6, -1)], dim=1)
    expected = network.head(torch.cat([network.cross(x0), network.mlp(x0)], dim=1))[:, 0]

    torch.testing.assert_close(network(dense, *rest), expected)


def test_the_first_layers_of_dcn_split_into_a_user_and_an_item_part() -> None:
    """What lets user and item halves be computed apart: W x is W_u x_u + W_i x_i."""
    schema = schema_of(dense=2, ids=2, multi=1)
    network = DCNv2(architecture("dcn-v2"), schema).eval()
    dense, *rest = inputs(schema, 6)
    x0 = torch.cat([dense, network.embedding(*rest).reshape(6, -1)], dim=1)
    sources = [s.source for s in schema.dense] + [
        s.source for s in (*schema.ids, *schema.multi) for _ in range(4)
    ]
    of_user = torch.tensor([source == "user" for source in sources])

    for layer in (linear(network.cross.layers[0]), linear(network.mlp.layers[0])):
        parts = [x0[:, of] @ layer.weight[:, of].T for of in (of_user, ~of_user)]
        torch.testing.assert_close(layer(x0), parts[0] + parts[1] + layer.bias)


def test_deepfm_adds_all_pairs_of_fields() -> None:
    schema = schema_of(dense=2, ids=2, multi=1)
    network = DeepFM(architecture("deepfm"), schema).eval()
    nn.init.normal_(network.dense_first_order)
    dense, *rest = inputs(schema, 6)

    v = torch.cat([dense[:, :, None] * network.dense_vectors, network.embedding(*rest)], dim=1)
    pairs = sum((v[:, i] * v[:, j]).sum(1) for i, j in itertools.combinations(range(5), 2))
    first = (dense @ network.dense_first_order)[:, 0] + network.first_order(*rest).sum((1, 2))
    deep = network.head(network.mlp(v.reshape(6, -1)))[:, 0]

    torch.testing.assert_close(network(dense, *rest), first + pairs + deep)


@pytest.mark.parametrize("name", ["dcn-v2", "deepfm"])
@pytest.mark.parametrize(
    "columns", [columns for columns in itertools.product((0, 2), repeat=3) if any(columns)]
)
def test_any_mix_of_features_gives_scores(name: Name, columns: tuple[int, int, int]) -> None:
    dense, ids, multi = columns
    schema = schema_of(dense=dense, ids=ids, multi=multi)
    network = build(architecture(name), schema).eval()
    rows = inputs(schema, 9)

    scores, logits = network(*rows), network.logits(*rows)

    assert scores.shape == (9,)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, logits.sigmoid())
    torch.testing.assert_close(network(*(column[3:4] for column in rows)), scores[3:4])


@pytest.mark.parametrize("name", ["dcn-v2", "deepfm"])
def test_a_restored_network_scores_the_same_and_other_weights_are_refused(name: Name) -> None:
    schema = schema_of(dense=1, ids=2, multi=1)
    network = build(architecture(name), schema).eval()
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    rows = inputs(schema, 5)

    again = restore(architecture(name), schema, weights)

    assert torch.equal(again(*rows), network(*rows))
    with pytest.raises(RuntimeError, match="size mismatch"):
        restore(architecture(name), schema_of(dense=2, ids=2, multi=1), weights)
