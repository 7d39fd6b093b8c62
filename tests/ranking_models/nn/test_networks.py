"""The networks compute the equations that their docstrings state."""

import itertools
from typing import Literal, get_args

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ranking_models import architectures
from ranking_models.architectures import Architecture
from ranking_models.errors import InputError
from ranking_models.nn import build, inherit, restore
from ranking_models.nn.cross import CrossNetwork, LowRankCrossNetwork
from ranking_models.nn.dcn import DCNv2
from ranking_models.nn.deepfm import DeepFM
from ranking_models.nn.dlrm import DLRM
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.nn.logistic import LogisticRegression
from ranking_models.nn.mlp import MLP
from ranking_models.nn.two_tower import TwoTower
from ranking_models.nn.wide_and_deep import WideAndDeep
from ranking_models.schema import FeatureSchema, FeatureSpec

Name = Literal[
    "logistic-regression", "wide-and-deep", "deepfm", "dcn-v2", "low-rank", "experts", "dlrm",
    "two-tower",
]  # fmt: skip
NAMES = get_args(Name)


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


SIZES = {"embedding_dim": 4, "hidden": (8, 5), "dropout": 0.5}
ARCHITECTURES: dict[str, Architecture] = {
    "logistic-regression": architectures.LogisticRegression(),
    "wide-and-deep": architectures.WideAndDeep(**SIZES),
    "deepfm": architectures.DeepFM(**SIZES),
    "dcn-v2": architectures.DCNv2(cross_layers=2, **SIZES),
    "low-rank": architectures.DCNv2(cross_layers=2, cross_rank=3, **SIZES),
    "experts": architectures.DCNv2(cross_layers=2, cross_rank=3, cross_experts=2, **SIZES),
    "dlrm": architectures.DLRM(bottom=(6,), **SIZES),
    "two-tower": architectures.TwoTower(output_dim=3, **SIZES),
}


def architecture(name: Name) -> Architecture:
    return ARCHITECTURES[name]


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


def test_a_low_rank_cross_layer_is_one_whose_matrix_is_a_product() -> None:
    cross = LowRankCrossNetwork(5, 1, rank=2, experts=1)
    nn.init.normal_(cross.biases[0])
    down, up = (linear(part).weight for part in cross.layers[0])
    x0 = torch.randn(7, 5)

    torch.testing.assert_close(cross(x0), x0 * (x0 @ (up @ down).T + cross.biases[0]) + x0)


def test_experts_are_mixed_by_a_gate_that_sees_the_row() -> None:
    cross = LowRankCrossNetwork(5, 2, rank=2, experts=3)
    for bias in cross.biases:
        nn.init.normal_(bias)
    x0 = torch.randn(7, 5)

    x = x0
    for layer, bias in zip(cross.layers, cross.biases, strict=True):
        shares = (x @ layer.gate.weight.T + layer.gate.bias).softmax(1)
        mixed = torch.zeros(7, 5)
        for share, expert in zip(shares.T, layer.experts, strict=True):
            v, c, u = (linear(expert[i]).weight for i in (0, 2, 4))
            # Each expert as the paper has it, with the bias inside.
            mixed += share[:, None] * (x0 * ((((x @ v.T).tanh() @ c.T).tanh() @ u.T) + bias))
        x = mixed + x

    torch.testing.assert_close(cross(x0), x)


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


def test_logistic_regression_adds_one_weight_per_value() -> None:
    schema = schema_of(dense=2, ids=2, multi=1)
    network = LogisticRegression(schema)
    nn.init.normal_(network.dense_weights)
    nn.init.normal_(network.bias)
    dense, ids, several = inputs(schema, 6)
    w = network.weights.table.weight[:, 0]

    for row in range(6):
        values = [w[8 + int(v)] for v in several[row] if v]
        pooled = sum(values) / len(values) if values else 0.0
        expected = network.bias + dense[row] @ network.dense_weights[:, 0]
        expected = expected + w[int(ids[row, 0])] + w[4 + int(ids[row, 1])] + pooled
        torch.testing.assert_close(network(dense, ids, several)[row], expected[0])


def test_wide_and_deep_adds_a_linear_model_and_an_mlp() -> None:
    schema = schema_of(dense=2, ids=2, multi=1)
    network = WideAndDeep(ARCHITECTURES["wide-and-deep"], schema).eval()
    dense, *rest = inputs(schema, 6)

    x0 = torch.cat([dense, network.embedding(*rest).reshape(6, -1)], dim=1)
    expected = network.wide(dense, *rest) + network.head(network.mlp(x0))[:, 0]

    torch.testing.assert_close(network(dense, *rest), expected)


def test_dlrm_multiplies_each_pair_of_vectors_once() -> None:
    schema = schema_of(dense=2, ids=2, multi=1)
    network = DLRM(ARCHITECTURES["dlrm"], schema).eval()
    dense, *rest = inputs(schema, 6)

    v = torch.cat([network.bottom(dense)[:, None], network.embedding(*rest)], dim=1)
    pairs = [(v[:, i] * v[:, j]).sum(1) for i, j in itertools.combinations(range(4), 2)]
    top = network.top(torch.cat([v[:, 0], torch.stack(pairs, dim=1)], dim=1))

    torch.testing.assert_close(network(dense, *rest), network.head(top)[:, 0])


def test_the_towers_meet_in_an_inner_product_alone() -> None:
    """The scores of all users and items are one matrix product of their vectors."""
    schema = schema_of(dense=2, ids=2, multi=1)  # numbers and lists of items, ids of users
    network = TwoTower(ARCHITECTURES["two-tower"], schema).eval()
    dense, ids, several = inputs(schema, 6)
    users, items = network.user(dense, ids, several), network.item(dense, ids, several)

    crossed = network(
        dense.repeat(6, 1), ids.repeat_interleave(6, dim=0), several.repeat(6, 1)
    ).reshape(6, 6)

    product = users[:, :3] @ items[:, :3].T + users[:, 3:] + items[:, 3:].T
    torch.testing.assert_close(crossed, product)


def test_the_user_tower_sees_the_context_and_no_item() -> None:
    features = [
        FeatureSpec(name=f"{kind}-{source}", source=source, kind=kind, max_length=2)
        for source in ("item", "context", "user")
        for kind in ("numeric", "categorical", "multi")
    ]
    features = [
        spec if spec.kind == "numeric" else msgspec.structs.replace(spec, hash_buckets=3)
        for spec in features
    ]
    schema = FeatureSchema(features=tuple(features))
    network = TwoTower(ARCHITECTURES["two-tower"], schema).eval()
    dense, ids, item, context, user = inputs(schema, 4)
    changed = [dense.clone(), ids.clone(), item.clone()]
    for column in (changed[0][:, 0], changed[1][:, 0], changed[2][:, 0]):
        column.copy_((column + 1) % 3)

    before = [tower(dense, ids, item, context, user) for tower in (network.user, network.item)]
    after = [tower(*changed, context, user) for tower in (network.user, network.item)]

    assert torch.equal(before[0], after[0])
    assert (before[1] != after[1]).any(dim=1).all()


def test_an_imported_model_has_no_network() -> None:
    imported = architectures.Imported(producer="other", sha256="0" * 64)

    with pytest.raises(InputError, match="it cannot be trained"):
        build(imported, schema_of(dense=1, ids=1, multi=0))


@pytest.mark.parametrize("name", NAMES)
def test_a_network_inherits_what_it_has_in_common_with_an_earlier_one(name: Name) -> None:
    before = schema_of(dense=2, ids=2, multi=1)
    after = FeatureSchema(
        features=tuple(
            msgspec.structs.replace(s, vocabulary=(*s.vocabulary, "new", "newer"))
            if s.vocabulary
            else s
            for s in before.features
        )
    )
    earlier = build(architecture(name), before).eval()
    rows = inputs(before, 9)
    network = build(architecture(name), after).eval()

    inherit(
        network,
        architecture(name),
        before,
        {key: value.numpy() for key, value in earlier.state_dict().items()},
    )

    torch.testing.assert_close(network(*rows), earlier(*rows))
    new = rows[1].clone()
    new[:, 0] = 4  # "new"
    assert not torch.equal(network(rows[0], new, *rows[2:]), network(*rows))


@pytest.mark.parametrize("name", NAMES)
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


@pytest.mark.parametrize("name", NAMES)
def test_a_restored_network_scores_the_same_and_other_weights_are_refused(name: Name) -> None:
    schema = schema_of(dense=1, ids=2, multi=1)
    network = build(architecture(name), schema).eval()
    weights = {key: value.numpy() for key, value in network.state_dict().items()}
    rows = inputs(schema, 5)

    again = restore(architecture(name), schema, weights)

    assert torch.equal(again(*rows), network(*rows))
    with pytest.raises(RuntimeError, match="size mismatch"):
        restore(architecture(name), schema_of(dense=2, ids=2, multi=1), weights)
