"""The split of DCN-V2: the first and the last cross layer and the first MLP layer are taken apart.

The first layers are linear in ``x_0``. The last cross layer is not, but all
that the head wants of it is one number, ``w . (x_0 * (W x + b) + x)``, which is
``x . (W^T (w * x_0) + w) + (w * b) . x_0``: a product of ``x`` with something
that is linear in ``x_0`` again. So the matrix of the last layer costs a row
nothing but that product. (Not where the layer is a mixture of experts: that
is not linear in ``x``.)

The cross layers between multiply what the first one made of both sides, so they
stay whole. Their columns are put in the order user, item, as the row half
holds ``x_0``.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ranking_models.exact_split import ITEM_SIDE, USER_SIDE
from ranking_models.export.split_parts import (
    Halves,
    Input,
    Rows,
    Side,
    chain,
    frozen,
    linear,
    of_columns,
    stacked,
)
from ranking_models.nn.cross import CrossNetwork, LowRankCrossNetwork, MixtureOfExperts
from ranking_models.nn.dcn import DCNv2
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.schema import FeatureSchema


def split_dcn(body: DCNv2, schema: FeatureSchema) -> Halves:
    """Either half gives ``[last cross products, first cross products, first MLP products, x]``."""
    sides = Side(schema, USER_SIDE), Side(schema, ITEM_SIDE)
    own = [side.columns(body.embedding.dim) for side in sides]
    order = [*own[0], *own[1]]
    first, rest, names = chain(
        body.mlp, linear(body.head.weight[:, len(order) :], body.head.bias), "mlp"
    )
    head = body.head.weight[0, order]
    layers = [_CrossLayer(products, after) for products, after in _ordered(body.cross, order)]
    last = last_products(body.cross, order, head)
    if last is not None:
        layers.pop()
    ahead = [*([last] if last else []), *(layer.products for layer in layers[:1])]
    products = stacked([*ahead, of_columns(first, order, bias=True)])
    user, item = (
        _CrossHalf(side, body.embedding, of_columns(products, columns, bias=bias))
        for side, columns, bias in (
            (sides[0], list(range(len(own[0]))), True),
            (sides[1], list(range(len(own[0]), len(order))), False),
        )
    )
    join = _Cross(
        layers,
        linear(head[None]) if last is None else None,
        rest,
        last=0 if last is None else last.out_features,
        deep=first.out_features,
    )
    apart = {0, len(body.cross.layers) - 1} if last else {0}
    return Halves(
        user=user,
        item=item,
        row=Rows(products.out_features, join),
        factored=("embedding", *(f"cross.layers.{i}" for i in sorted(apart)), names[0]),
        # A head without MLP layers is whole where it takes the crosses as they are.
        whole=tuple(
            dict.fromkeys(
                [
                    *(f"cross.layers.{i}" for i in range(len(body.cross.layers)) if i not in apart),
                    *names[1:],
                    *([] if last else ["head"]),
                ]
            )
        ),
    )


def last_products(
    cross: CrossNetwork | LowRankCrossNetwork, order: list[int], head: Tensor
) -> nn.Linear | None:
    """``x_0`` to ``[W^T (w * x_0) + w, (w * b) . x_0]`` of the last layer; None for a mixture."""
    layer = as_linear(cross, -1, order)
    if layer is None:
        return None
    weighed = head[:, None] * layer.weight  # [width, width]
    return linear(
        torch.cat([weighed.T, (head * layer.bias)[None]]), torch.cat([head, head.new_zeros(1)])
    )


def as_linear(
    cross: CrossNetwork | LowRankCrossNetwork, at: int, order: list[int]
) -> nn.Linear | None:
    """What a layer multiplies ``x_0`` by, ``W x + b``, columns in and out in the order; None for a
    mixture."""
    layer = cross.layers[at]
    if isinstance(cross, CrossNetwork):
        assert isinstance(layer, nn.Linear)
        return linear(layer.weight[order][:, order], layer.bias[order])
    if isinstance(layer, MixtureOfExperts):
        return None
    assert isinstance(layer, nn.Sequential)
    narrow, wide = layer
    assert isinstance(narrow, nn.Linear)
    assert isinstance(wide, nn.Linear)
    return linear((wide.weight @ narrow.weight)[order][:, order], cross.biases[at][order])


def _ordered(
    cross: CrossNetwork | LowRankCrossNetwork, order: list[int]
) -> list[tuple[nn.Linear, nn.Module]]:
    """Each layer as its linear first step and what follows, columns in and out in the order."""
    if isinstance(cross, CrossNetwork):
        full = [layer for layer in cross.layers if isinstance(layer, nn.Linear)]
        return [
            (linear(layer.weight[order][:, order], layer.bias[order]), nn.Identity())
            for layer in full
        ]
    ordered: list[tuple[nn.Linear, nn.Module]] = []
    for layer, bias in zip(cross.layers, cross.biases, strict=True):
        if isinstance(layer, MixtureOfExperts):
            ins = [of_columns(into, order, bias=False) for into, _, _ in _experts(layer)]
            gate = of_columns(layer.gate, order, bias=True)
            ordered.append((stacked([gate, *ins]), _Mixture(layer, bias, order)))
        else:
            assert isinstance(layer, nn.Sequential)
            narrow, wide = layer
            assert isinstance(narrow, nn.Linear)
            assert isinstance(wide, nn.Linear)
            after = linear(wide.weight[order], bias[order])
            ordered.append((of_columns(narrow, order, bias=False), after))
    return ordered


def _experts(layer: MixtureOfExperts) -> Iterator[tuple[nn.Linear, list[nn.Module], nn.Linear]]:
    """Each expert as ``V``, what lies between, and ``U``."""
    for expert in layer.experts:
        assert isinstance(expert, nn.Sequential)
        into, *between, out = expert
        assert isinstance(into, nn.Linear)
        assert isinstance(out, nn.Linear)
        yield into, between, out


class _CrossHalf(nn.Module):
    """``[W x, x]`` of one side."""

    def __init__(self, side: Side, embedding: FieldEmbedding, products: nn.Linear) -> None:
        super().__init__()
        self.input, self.products = Input(side, embedding), products

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        x = self.input(dense, ids, *multi)
        return torch.cat([self.products(x), x], dim=1)


class _CrossLayer(nn.Module):
    """``after(products(x))``: what ``x_0`` is multiplied by in one layer."""

    def __init__(self, products: nn.Linear, after: nn.Module) -> None:
        super().__init__()
        self.products, self.after = products, after

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(self.products(x))
        return out


class _Mixture(nn.Module):
    """`MixtureOfExperts` and bias behind its first products ``[gate, V_1 x, V_2 x, ...]``."""

    def __init__(self, layer: MixtureOfExperts, bias: Tensor, order: list[int]) -> None:
        super().__init__()
        self.rests = nn.ModuleList(
            nn.Sequential(*between, linear(out.weight[order]))
            for _, between, out in _experts(layer)
        )
        self.bias = frozen(bias[order])
        self.ranks = [into.out_features for into, _, _ in _experts(layer)]

    def forward(self, products: Tensor) -> Tensor:
        experts = len(self.rests)
        shares = products[:, :experts].softmax(dim=1)  # [n, experts]
        total = self.bias.expand(len(products), -1)
        for i, (rest, inner) in enumerate(
            zip(self.rests, torch.split(products[:, experts:], self.ranks, dim=1), strict=True)
        ):
            total = torch.addcmul(total, shares[:, i : i + 1], rest(inner))
        return total


class _Cross(nn.Module):
    """The logits ``[n]`` from the first and last layers' products and both sides' ``x``.

    Args:
        layers: The cross layers that take ``x``, without the last if that is folded.
        head: Of the crosses; None where it is in the last layer's products.
        rest: From the first MLP products to their part of the logit.
        last: How many of the sums are the last cross layer's products.
        deep: How many are the first MLP layer's.
    """

    def __init__(
        self,
        layers: list[_CrossLayer],
        head: nn.Linear | None,
        rest: nn.Module,
        *,
        last: int,
        deep: int,
    ) -> None:
        super().__init__()
        self.first = layers[0].after if layers else None
        self.later = nn.ModuleList(layers[1:])
        self.head, self.rest, self.last, self.deep = head, rest, last, deep

    def forward(self, sums: Tensor, user: Tensor, item: Tensor) -> Tensor:
        x0 = torch.cat([user, item], dim=1)
        x = x0
        if self.first is not None:
            x = torch.addcmul(x0, x0, self.first(sums[:, self.last : -self.deep]))
        for layer in self.later:
            x = torch.addcmul(x, x0, layer(x))
        deep: Tensor = self.rest(sums[:, -self.deep :]).squeeze(1)
        if self.head is not None:
            crosses: Tensor = self.head(x).squeeze(1)
        else:
            folded = sums[:, : self.last - 1], sums[:, self.last - 1]
            crosses = (x * folded[0]).sum(dim=1) + folded[1]
        return crosses + deep
