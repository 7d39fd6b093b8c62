"""The exact split of a ranker: a user half, an item half, and what needs both.

A request scores one user against many items, so what follows from the user
alone need be computed once, and what follows from an item alone once per
catalogue. Which layers come apart is a property of the architecture; every
first layer does, being linear in its input. Nothing is approximated: the same
products are added in another order.
"""

import contextlib

import torch
from onnx import TensorProto
from torch import nn

from ranking_models.bundle.parts import SplitGraphs
from ranking_models.errors import InputError
from ranking_models.exact_split import (
    ITEM_SIDE,
    SPLIT_TOLERANCE,
    USER_SIDE,
    side_schema,
    split_scorer,
)
from ranking_models.export.graph_rules import ROWS, Border, feature_inputs
from ranking_models.export.split_cross import split_dcn
from ranking_models.export.split_cross_product import split_dcn_product
from ranking_models.export.split_dlrm import split_dlrm
from ranking_models.export.split_parts import Halves, Rows, SumsAndProduct
from ranking_models.export.split_sums import (
    split_deepfm,
    split_logistic,
    split_two_tower,
    split_wide_and_deep,
)
from ranking_models.export.to_onnx import WithoutEmptyInputs, export_module
from ranking_models.fitting import tensors
from ranking_models.manifest import ExactSplit
from ranking_models.nn import Body, RankingNetwork
from ranking_models.nn.dcn import DCNv2
from ranking_models.nn.deepfm import DeepFM
from ranking_models.nn.dlrm import DLRM
from ranking_models.nn.logistic import LogisticRegression
from ranking_models.nn.two_tower import TwoTower
from ranking_models.nn.wide_and_deep import WideAndDeep
from ranking_models.parity import ParityFailed, check_parity
from ranking_models.schema import Encoder, FeatureBatch, FeatureSchema, Float32

USERS = "users"
"""Name of the row half's other dynamic axis: one user and context per request."""


def split_network(
    network: RankingNetwork, schema: FeatureSchema, golden: FeatureBatch, reference: Float32
) -> SplitGraphs:
    """The network as three graphs that give the same scores.

    Args:
        network: In evaluation mode.
        schema: Its features.
        golden: Rows to prove the split on.
        reference: Scores of the whole fp32 graph on them.

    Raises:
        InputError: one side has no features, or a graph breaks a rule.
        ParityFailed: a score differs by more than `SPLIT_TOLERANCE`.
    """
    for side, what in ((USER_SIDE, "user or context"), (ITEM_SIDE, "item")):
        if not side_schema(schema, side).features:
            raise InputError(
                f"there is nothing to split: the model has no {what} feature; serve the whole graph"
            )
    product = split_dcn_product(network.body, schema) if isinstance(network.body, DCNv2) else None
    if product is not None:
        # Large weights may round too far in a product, and not where layer follows layer.
        with contextlib.suppress(ParityFailed):
            return _exported(product, schema, golden, reference)
    return _exported(split_body(network.body, schema), schema, golden, reference)


def _exported(
    halves: Halves, schema: FeatureSchema, golden: FeatureBatch, reference: Float32
) -> SplitGraphs:
    user_width, user = _export_half(halves.user, "user", side_schema(schema, USER_SIDE))
    item_width, item = _export_half(halves.item, "item", side_schema(schema, ITEM_SIDE))
    row = export_module(halves.row, _row_border(halves.row, user_width, item_width))
    parity = check_parity(
        split_scorer(schema, user=user, item=item, row=row),
        golden,
        reference,
        tolerance=SPLIT_TOLERANCE,
        what="the exact split against the whole graph (fp32)",
    )
    figures = ExactSplit(
        user_width=user_width,
        item_width=item_width,
        parity=parity,
        factored=halves.factored,
        whole=halves.whole,
    )
    return SplitGraphs(user=user, item=item, row=row, figures=figures)


def split_body(body: Body, schema: FeatureSchema) -> Halves:
    """The network in three modules, each with a copy of its own weights."""
    match body:
        case LogisticRegression():
            return split_logistic(body, schema)
        case WideAndDeep():
            return split_wide_and_deep(body, schema)
        case DeepFM():
            return split_deepfm(body, schema)
        case DCNv2():
            return split_dcn(body, schema)
        case DLRM():
            return split_dlrm(body, schema)
        case TwoTower():
            return split_two_tower(body)


def _export_half(half: nn.Module, name: str, schema: FeatureSchema) -> tuple[int, bytes]:
    with torch.inference_mode():
        width = half.eval()(*tensors(schema, Encoder(schema).encode_rows([{}]))).shape[1]
    border = Border(
        inputs=feature_inputs(schema), outputs={name: (int(TensorProto.FLOAT), (ROWS, width))}
    )
    return width, export_module(WithoutEmptyInputs(half, schema), border)


def _row_border(row: Rows | SumsAndProduct, user_width: int, item_width: int) -> Border:
    number = int(TensorProto.FLOAT)
    halves = {
        "user": (number, (USERS, user_width)),
        "user_of_row": (int(TensorProto.INT32), (ROWS,)),
        "item": (number, (ROWS, item_width)),
    }
    joined = {"sums": (number, (ROWS, row.sums)), "product": (number, (ROWS,))}
    return Border(
        inputs=joined if isinstance(row, SumsAndProduct) else halves,
        outputs={"score": (number, (ROWS,))},
    )
