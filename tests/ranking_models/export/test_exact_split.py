"""Three graphs give the whole graph's scores, for every architecture and every mix of features."""

from datetime import UTC, datetime

import numpy as np
import onnx
import onnxruntime
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
from ranking_models.bundle import Bundle
from ranking_models.bundle.parts import SplitGraphs
from ranking_models.errors import InputError
from ranking_models.exact_split import (
    ITEM_SIDE,
    USER_SIDE,
    join_products,
    side_columns,
    side_schema,
    split_scorer,
)
from ranking_models.export.exact_split import split_body, split_network
from ranking_models.export.split_cross_product import split_dcn_product
from ranking_models.export.split_parts import Halves
from ranking_models.export.to_bundle import export_run
from ranking_models.fitting import tensors
from ranking_models.golden import golden_rows
from ranking_models.nn import RankingNetwork, build
from ranking_models.parity import ParityFailed
from ranking_models.schema import FeatureBatch, FeatureSchema
from ranking_models.torch_scorer import torch_scorer
from tests.support.bundles import tiny_contents, tiny_schema
from tests.support.runs import tiny_run

SCHEMA = tiny_schema(items=50, users=20)
HELD_OUT = tiny_contents().arrays.golden

ARCHITECTURES: dict[str, Architecture] = {
    "logistic": LogisticRegression(),
    "wide-and-deep": WideAndDeep(embedding_dim=4, hidden=(16, 8)),
    "deepfm": DeepFM(embedding_dim=4, hidden=(16, 8), dropout=0.2),
    "dcn": DCNv2(embedding_dim=4, cross_layers=2, hidden=(16, 8), dropout=0.2),
    "dcn-1": DCNv2(embedding_dim=4, cross_layers=1, hidden=(16, 8)),
    "dcn-3": DCNv2(embedding_dim=4, cross_layers=3, hidden=()),
    "dcn-low-rank": DCNv2(embedding_dim=4, cross_layers=2, hidden=(16, 8), cross_rank=3),
    "dcn-experts": DCNv2(
        embedding_dim=4, cross_layers=3, hidden=(16,), cross_rank=3, cross_experts=2
    ),
    "dlrm": DLRM(embedding_dim=4, bottom=(8,), hidden=(16, 8)),
    "two-tower": TwoTower(embedding_dim=4, hidden=(16, 8), output_dim=8),
}

FEATURES = {
    "all": tuple(spec.name for spec in SCHEMA.features),
    "categorical": ("user_id", "item_id", "category", "country", "device"),
    "numeric": ("price", "age", "hour"),
    "user numbers alone": ("user_id", "item_id", "tags", "age", "hour"),
    "item numbers alone": ("user_id", "item_id", "price"),
    "lists": ("age", "tags"),
    "one id each": ("user_id", "item_id"),
    "numbers against an id": ("age", "price", "item_id"),
    "context, no user": ("device", "hour", "item_id", "price", "tags"),
}


def network(architecture: Architecture, schema: FeatureSchema) -> RankingNetwork:
    """Weights that let every part weigh in, unlike fresh ones with their zeros."""
    torch.manual_seed(0)
    module = build(architecture, schema).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return module


def chosen(names: tuple[str, ...]) -> FeatureSchema:
    return FeatureSchema(features=tuple(f for f in SCHEMA.features if f.name in names))


def rows_of(schema: FeatureSchema) -> FeatureBatch:
    """The tiny bundle's golden rows with the columns of a smaller schema."""

    def of(whole, part):
        return [whole.index(spec) for spec in part]

    return FeatureBatch(
        dense=np.ascontiguousarray(HELD_OUT.dense[:, of(SCHEMA.dense, schema.dense)]),
        ids=np.ascontiguousarray(HELD_OUT.ids[:, of(SCHEMA.ids, schema.ids)]),
        multi={spec.name: HELD_OUT.multi[spec.name] for spec in schema.multi},
    )


def in_torch(architecture: Architecture, schema: FeatureSchema) -> tuple[Halves, np.ndarray, float]:
    """The halves, the whole network's scores, and how far the halves are from them.

    In double precision, where rounding hides no mistake in the algebra.
    """
    module = network(architecture, schema).double()
    golden = golden_rows(schema, rows_of(schema))
    halves = split_body(module.body, schema)
    with torch.inference_mode():
        user, item = (
            half.eval()(*doubles(side_schema(schema, side), side_columns(schema, golden, side)))
            for half, side in ((halves.user, USER_SIDE), (halves.item, ITEM_SIDE))
        )
        scores = halves.row.eval()(user, torch.arange(golden.rows, dtype=torch.int32), item)
        reference = module(*doubles(schema, golden)).numpy()
    return halves, reference, float(np.abs(scores.numpy() - reference).max())


def doubles(schema: FeatureSchema, rows: FeatureBatch) -> list[torch.Tensor]:
    dense, *ids = tensors(schema, rows)
    return [dense.double(), *ids]


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_halves_give_the_networks_scores(architecture, features):
    _, reference, difference = in_torch(ARCHITECTURES[architecture], chosen(FEATURES[features]))

    assert reference.std() > 1e-3
    assert difference <= 1e-12


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("architecture", ["dcn", "dcn-1", "dcn-low-rank"])
def test_one_or_two_cross_layers_are_an_inner_product(architecture, features):
    schema = chosen(FEATURES[features])
    module = network(ARCHITECTURES[architecture], schema).double()
    golden = golden_rows(schema, rows_of(schema))
    halves = split_dcn_product(module.body, schema)
    with torch.inference_mode():
        user, item = (
            half.eval()(*doubles(side_schema(schema, side), side_columns(schema, golden, side)))
            for half, side in ((halves.user, USER_SIDE), (halves.item, ITEM_SIDE))
        )
        sums = halves.row.sums
        product = (user[:, sums:] * item[:, sums:]).sum(dim=1)
        scores = halves.row.eval()(user[:, :sums] + item[:, :sums], product)
        reference = module(*doubles(schema, golden))

    assert float((scores - reference).abs().max()) <= 1e-12


@pytest.mark.parametrize("architecture", ["dcn-3", "dcn-experts"])
def test_layers_in_between_are_no_inner_product(architecture):
    module = network(ARCHITECTURES[architecture], SCHEMA)

    assert split_dcn_product(module.body, SCHEMA) is None


def test_where_a_product_rounds_too_far_layer_follows_layer(monkeypatch):
    module = network(ARCHITECTURES["dcn"], SCHEMA)
    golden = golden_rows(SCHEMA, HELD_OUT)
    reference = torch_scorer(module, SCHEMA)(golden)

    def off(body, schema):
        halves = split_dcn_product(body, schema)
        halves.row.rest[-1].bias += 1e-4
        return halves

    monkeypatch.setattr("ranking_models.export.exact_split.split_dcn_product", off)
    graphs = split_network(module, SCHEMA, golden, reference)

    assert inputs(graphs.row).keys() == {"user", "user_of_row", "item"}
    assert graphs.figures.parity <= 1e-6


@pytest.mark.parametrize(
    ("architecture", "factored", "whole"),
    [
        ("logistic", ("weights", "dense_weights"), ()),
        (
            "dcn",
            ("embedding", "cross.layers.0", "cross.layers.1", "mlp.layers.0"),
            ("mlp.layers.3", "head"),
        ),
        (
            "dlrm",
            ("embedding", "bottom.layers.0", "pairs within a side", "top.layers.0"),
            ("bottom.layers.3", "pairs across the sides", "top.layers.3", "head"),
        ),
        ("two-tower", ("user", "item"), ()),
    ],
)
def test_it_says_which_layers_came_apart(architecture, factored, whole):
    halves, _, _ = in_torch(ARCHITECTURES[architecture], SCHEMA)

    assert halves.factored == factored
    assert halves.whole == whole


@pytest.mark.parametrize(
    "architecture",
    [
        DCNv2(embedding_dim=4, cross_layers=1, hidden=()),
        DeepFM(embedding_dim=4, hidden=()),
        WideAndDeep(embedding_dim=4, hidden=()),
        DLRM(embedding_dim=4, bottom=(), hidden=()),
    ],
)
def test_an_mlp_without_layers_is_taken_apart_at_the_head(architecture):
    _, _, difference = in_torch(architecture, SCHEMA)

    assert difference <= 1e-12


@pytest.fixture(scope="module")
def exported() -> tuple[SplitGraphs, FeatureBatch, np.ndarray]:
    module = network(ARCHITECTURES["dcn"], SCHEMA)
    golden = golden_rows(SCHEMA, HELD_OUT)
    reference = torch_scorer(module, SCHEMA)(golden)
    return split_network(module, SCHEMA, golden, reference), golden, reference


def test_the_graphs_agree_and_say_how_well(exported):
    graphs, _, _ = exported
    # First MLP layer 16, three factors for each of the 27 columns of x_0, and what is of one side.
    assert graphs.figures.user_width == graphs.figures.item_width == 16 + 3 * 27 + 2
    assert graphs.figures.parity <= 1e-6


def test_the_halves_take_the_columns_of_their_side(exported):
    graphs, _, _ = exported

    assert inputs(graphs.user) == {"dense": ["rows", 2], "ids": ["rows", 3]}
    assert inputs(graphs.item) == {
        "dense": ["rows", 1],
        "ids": ["rows", 2],
        "multi_tags": ["rows", 3],
    }
    assert inputs(graphs.row) == {"sums": ["rows", 16], "product": ["rows"]}


def test_other_halves_go_into_the_row_half_as_they_are():
    module = network(ARCHITECTURES["dcn-3"], SCHEMA)
    golden = golden_rows(SCHEMA, HELD_OUT)
    graphs = split_network(module, SCHEMA, golden, torch_scorer(module, SCHEMA)(golden))

    # Last cross layer 27 + 1, first one 27, the head's first layer 1, and the own part of x_0.
    assert inputs(graphs.row) == {
        "user": ["users", 28 + 27 + 1 + 14],
        "user_of_row": ["rows"],
        "item": ["rows", 28 + 27 + 1 + 13],
    }


def inputs(graph: bytes) -> dict[str, list[str | int]]:
    return {
        value.name: [a.dim_param or a.dim_value for a in value.type.tensor_type.shape.dim]
        for value in onnx.load_from_string(graph).graph.input
    }


def test_items_are_precomputed_and_one_user_serves_many_rows(exported):
    graphs, golden, _ = exported
    user, item, row = (
        onnxruntime.InferenceSession(graph) for graph in (graphs.user, graphs.item, graphs.row)
    )
    one = side_columns(SCHEMA, golden, USER_SIDE).take(slice(5, 6))
    catalogue = side_columns(SCHEMA, golden, ITEM_SIDE)
    (user_part,) = user.run(["user"], {n: a for n, a in one.inputs().items() if a.size})
    (table,) = item.run(["item"], catalogue.inputs())
    sums, one_user = table[:, :16].copy(), np.zeros(golden.rows, np.int32)
    product = join_products(sums, table[:, 16:], user_part[:, :16], user_part[:, 16:], one_user)
    (scores,) = row.run(["score"], {"sums": sums, "product": product})

    module = network(ARCHITECTURES["dcn"], SCHEMA)
    mixed = combined(one, catalogue)
    np.testing.assert_allclose(scores, torch_scorer(module, SCHEMA)(mixed), rtol=0, atol=1e-6)


def combined(one: FeatureBatch, items: FeatureBatch) -> FeatureBatch:
    """Every item's row with the one user and context."""

    def put(specs, user, item):
        columns = {"item": iter(item.T), "user": iter(np.repeat(user, len(item), 0).T)}
        return np.stack(
            [next(columns["item" if s.source == "item" else "user"]) for s in specs], axis=1
        )

    return FeatureBatch(
        dense=put(SCHEMA.dense, one.dense, items.dense),
        ids=put(SCHEMA.ids, one.ids, items.ids),
        multi=items.multi,
    )


def test_a_user_that_repeats_among_rows_is_looked_up_by_number(exported):
    graphs, golden, reference = exported
    score = split_scorer(SCHEMA, user=graphs.user, item=graphs.item, row=graphs.row)
    order = np.array([9, 3, 9, 9, 200, 3])

    np.testing.assert_allclose(score(golden.take(order)), reference[order], rtol=0, atol=1e-6)


def test_a_split_that_differs_is_refused():
    module = network(ARCHITECTURES["logistic"], SCHEMA)
    golden = golden_rows(SCHEMA, HELD_OUT)
    other = torch_scorer(module, SCHEMA)(golden) + np.float32(1e-4)

    with pytest.raises(ParityFailed, match="exact split against the whole graph"):
        split_network(module, SCHEMA, golden, other)


@pytest.mark.parametrize(
    ("names", "missing"),
    [(("item_id", "price"), "user or context feature"), (("user_id", "hour"), "item feature")],
)
def test_a_model_of_one_side_has_nothing_to_split(names, missing):
    schema = chosen(names)
    module = network(ARCHITECTURES["dcn"], schema)
    golden = golden_rows(schema, rows_of(schema))

    with pytest.raises(InputError, match=f"nothing to split: the model has no {missing}"):
        split_network(module, schema, golden, np.zeros(golden.rows, np.float32))


def test_a_half_of_another_model_is_one_clear_line(exported):
    graphs, golden, _ = exported
    swapped = split_scorer(SCHEMA, user=graphs.item, item=graphs.user, row=graphs.row)

    with pytest.raises(InputError, match=r"split/user\.onnx: ONNX Runtime does not run it"):
        swapped(golden)
    with pytest.raises(InputError, match=r"split/row\.onnx: ONNX Runtime does not load it"):
        split_scorer(SCHEMA, user=graphs.user, item=graphs.item, row=b"nothing")


def test_a_bundle_carries_its_split_and_proves_it(tmp_path):
    run = tiny_run(tmp_path / "run", architecture=ARCHITECTURES["two-tower"])

    path = export_run(run, tmp_path, name="tiny", created=datetime.now(UTC), split=True)

    bundle = Bundle.open(path)
    score = split_scorer(
        bundle.schema,
        user=bundle.split_graph("user"),
        item=bundle.split_graph("item"),
        row=bundle.split_graph("row"),
    )
    golden, reference = bundle.golden
    np.testing.assert_allclose(score(golden), reference, rtol=0, atol=2e-6)
    assert bundle.manifest.split.factored == ("user", "item")
