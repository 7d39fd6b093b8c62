"""The split of DCN-V2 with one or two cross layers: all that the sides share is an inner product.

The head wants of the crosses ``x_1 . g + s``, where ``g`` and ``s`` are linear
in ``x_0`` (see `ranking_models.export.split_cross`) and ``x_1 = x_0 * e`` with
``e = W_0 x_0 + b_0 + 1``, linear too; with one layer ``e`` is 1. So it is a sum
over the columns of ``x_0 * (e_u + e_i) * (g_u + g_i)``, and a column of ``x_0``
is the user's or the item's. Written out, every term is something of the user
times something of the item. On a user's column ``x_0 = u``::

    u e_u . g_i  +  u g_u . e_i  +  u . e_i g_i      and  u e_u g_u  of the user alone

and the same with the sides changed on an item's. So neither cross layer costs a
row more than its part of one inner product, of three times the width of ``x_0``.
"""

import torch
from torch import Tensor, nn

from ranking_models.exact_split import ITEM_SIDE, USER_SIDE
from ranking_models.export.split_cross import as_linear, last_products
from ranking_models.export.split_parts import (
    Halves,
    Input,
    Side,
    SumsAndProduct,
    chain,
    linear,
    of_columns,
    stacked,
)
from ranking_models.nn.dcn import DCNv2
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.schema import FeatureSchema

MOST_LAYERS = 2


def split_dcn_product(body: DCNv2, schema: FeatureSchema) -> Halves | None:
    """Either half gives ``[first MLP products, factors]``; None where layers stay between."""
    sides = Side(schema, USER_SIDE), Side(schema, ITEM_SIDE)
    own = [side.columns(body.embedding.dim) for side in sides]
    order, layers = [*own[0], *own[1]], len(body.cross.layers)
    head = body.head.weight[0, order]
    last, ahead = last_products(body.cross, order, head), as_linear(body.cross, 0, order)
    if layers > MOST_LAYERS or last is None or ahead is None:
        return None
    first, rest, names = chain(
        body.mlp, linear(body.head.weight[:, len(order) :], body.head.bias), "mlp"
    )
    ones = _plus_one(ahead) if layers == MOST_LAYERS else _nothing_but_one(len(order))
    products = stacked([of_columns(first, order, bias=True), ones, last])
    halves = []
    for side, columns, bias in (
        (sides[0], range(len(own[0])), True),
        (sides[1], range(len(own[0]), len(order)), False),
    ):
        halves.append(
            _Half(
                side,
                body.embedding,
                of_columns(products, [*columns], bias=bias),
                deep=first.out_features,
                width=len(order),
                own=slice(columns.start, columns.stop),
                is_user=bias,
            )
        )
    return Halves(
        user=halves[0],
        item=halves[1],
        row=SumsAndProduct(first.out_features, rest),
        factored=("embedding", *(f"cross.layers.{i}" for i in range(layers)), names[0]),
        whole=tuple(names[1:]),
    )


def _plus_one(layer: nn.Linear) -> nn.Linear:
    return linear(layer.weight, layer.bias + 1)


def _nothing_but_one(width: int) -> nn.Linear:
    return linear(torch.zeros(width, width), torch.ones(width))


class _Half(nn.Module):
    """``[first MLP products, factors, scalars]`` of one side; the factors in the user's order.

    Args:
        side: Whose.
        embedding: Of the whole network.
        products: From the side's ``x`` to ``[first MLP products, e, g, s]``.
        deep: How many are the first MLP layer's.
        width: Of ``x_0``.
        own: The side's columns of it.
        is_user: The terms of the two sides stand in the same places.
    """

    def __init__(
        self,
        side: Side,
        embedding: FieldEmbedding,
        products: nn.Linear,
        *,
        deep: int,
        width: int,
        own: slice,
        is_user: bool,
    ) -> None:
        super().__init__()
        self.input, self.products = Input(side, embedding), products
        self.deep, self.width, self.own, self.is_user = deep, width, own, is_user
        self.other = slice(own.stop, width) if is_user else slice(0, own.start)

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        x = self.input(dense, ids, *multi)
        products = self.products(x)
        deep, e, g, s = torch.split(products, [self.deep, self.width, self.width, 1], dim=1)
        on_own = x * e[:, self.own], x * g[:, self.own], x
        alone = (on_own[0] * g[:, self.own]).sum(dim=1, keepdim=True) + s
        e_other, g_other = e[:, self.other], g[:, self.other]
        on_other = g_other, e_other, e_other * g_other
        one = torch.ones_like(alone)
        if self.is_user:
            return torch.cat([deep, *on_own, *on_other, alone, one], dim=1)
        return torch.cat([deep, *on_other, *on_own, one, alone], dim=1)
