"""The splits of rankers whose sides meet in a sum, an MLP or one inner product."""

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
    of_columns,
)
from ranking_models.nn.deepfm import DeepFM
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.nn.logistic import LogisticRegression
from ranking_models.nn.two_tower import Tower, TwoTower
from ranking_models.nn.wide_and_deep import WideAndDeep
from ranking_models.schema import FeatureSchema


def split_logistic(body: LogisticRegression, schema: FeatureSchema) -> Halves:
    """One number per side."""
    user, item = Side(schema, USER_SIDE), Side(schema, ITEM_SIDE)
    return Halves(
        user=_Weights(user, body.weights, body.dense_weights, body.bias),
        item=_Weights(item, body.weights, body.dense_weights),
        row=Rows(1, _Sum()),
        factored=("weights", "dense_weights"),
        whole=(),
    )


def split_wide_and_deep(body: WideAndDeep, schema: FeatureSchema) -> Halves:
    """The wide part is a number per side; of the MLP the first layer is."""
    first, rest, names = chain(body.mlp, body.head, "mlp")

    def half(side: Side, *, bias: Tensor | None) -> nn.Module:
        wide = _Weights(side, body.wide.weights, body.wide.dense_weights, bias)
        return _WideHalf(side, wide, body.embedding, first, bias=bias is not None)

    return Halves(
        user=half(Side(schema, USER_SIDE), bias=body.wide.bias),
        item=half(Side(schema, ITEM_SIDE), bias=None),
        row=Rows(1 + first.out_features, _SumAndDeep(rest)),
        factored=("wide", "embedding", names[0]),
        whole=tuple(names[1:]),
    )


def split_deepfm(body: DeepFM, schema: FeatureSchema) -> Halves:
    """As Wide & Deep; and the pairs of one side are a number, those across one inner product.

    With ``s`` the sum of a side's vectors, ``sum_{i<j} <v_i, v_j> = p_u + p_i + <s_u, s_i>``.
    """
    first, rest, names = chain(body.mlp, body.head, "mlp")

    return Halves(
        user=_FactorHalf(Side(schema, USER_SIDE), body, first, bias=True),
        item=_FactorHalf(Side(schema, ITEM_SIDE), body, first, bias=False),
        row=Rows(1 + first.out_features, _SumAndDeep(rest)),
        factored=("first_order", "embedding", "pairs", names[0]),
        whole=tuple(names[1:]),
    )


def split_two_tower(body: TwoTower) -> Halves:
    """Each tower is a half as it is."""
    return Halves(
        user=_TowerHalf(body.user),
        item=_TowerHalf(body.item),
        row=Rows(1, _SumAndProduct()),
        factored=("user", "item"),
        whole=(),
    )


class _Weights(nn.Module):
    """One side of a logistic regression, ``[n, 1]``."""

    def __init__(
        self,
        side: Side,
        weights: FieldEmbedding,
        dense_weights: Tensor,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.weights = side.embedding(weights)
        self.dense_weights = frozen(dense_weights[side.dense])
        self.bias = frozen(torch.zeros(1) if bias is None else bias)

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        numbers = dense @ self.dense_weights  # [n, 1]
        summed: Tensor = numbers + self.weights(ids, *multi).sum(dim=1) + self.bias
        return summed


class _WideHalf(nn.Module):
    """``[wide, W x]`` of one side."""

    def __init__(
        self,
        side: Side,
        wide: _Weights,
        embedding: FieldEmbedding,
        first: nn.Linear,
        *,
        bias: bool,
    ) -> None:
        super().__init__()
        self.wide, self.input = wide, Input(side, embedding)
        self.first = of_columns(first, side.columns(embedding.dim), bias=bias)

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        deep = self.first(self.input(dense, ids, *multi))
        return torch.cat([self.wide(dense, ids, *multi), deep], dim=1)


class _FactorHalf(nn.Module):
    """``[linear + pairs, W v, s]`` of one side."""

    def __init__(self, side: Side, body: DeepFM, first: nn.Linear, *, bias: bool) -> None:
        super().__init__()
        dim = body.embedding.dim
        self.linear = _Weights(side, body.first_order, body.dense_first_order)
        self.embedding = side.embedding(body.embedding)
        self.dense_vectors = frozen(body.dense_vectors[side.dense])
        # The numeric features' vectors come first, as fields of the same width.
        fields = [*side.dense, *(len(side.whole.dense) + field for field in side.fields)]
        columns = [field * dim + i for field in fields for i in range(dim)]
        self.first = of_columns(first, columns, bias=bias)

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        numbers = dense.unsqueeze(-1) * self.dense_vectors
        v = torch.cat([numbers, self.embedding(ids, *multi)], dim=1)  # [n, k, dim]
        s = v.sum(dim=1)
        pairs = 0.5 * (s.square() - v.square().sum(dim=1)).sum(dim=1, keepdim=True)
        linear = self.linear(dense, ids, *multi)
        return torch.cat([linear + pairs, self.first(v.flatten(start_dim=1)), s], dim=1)


class _TowerHalf(nn.Module):
    """``[bias, vector]`` of one tower, from its own columns alone."""

    def __init__(self, tower: Tower) -> None:
        super().__init__()
        self.embedding, self.mlp, self.head = tower.embedding, tower.mlp, tower.head

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        fields = self.embedding(ids, *multi)
        x0 = torch.cat([dense, fields.flatten(start_dim=1)], dim=1)
        out = self.head(self.mlp(x0))
        return torch.cat([out[:, -1:], out[:, :-1]], dim=1)


class _Sum(nn.Module):
    def forward(self, sums: Tensor, _user: Tensor, _item: Tensor) -> Tensor:
        return sums[:, 0]


class _SumAndProduct(nn.Module):
    """``sum + <u, v>``, ``[n]``."""

    def forward(self, sums: Tensor, user: Tensor, item: Tensor) -> Tensor:
        return sums[:, 0] + (user * item).sum(dim=1)


class _SumAndDeep(nn.Module):
    """``sum + <u, v> + rest(first layer)``, ``[n]``; the sides may have no vectors."""

    def __init__(self, rest: nn.Module) -> None:
        super().__init__()
        self.rest = rest

    def forward(self, sums: Tensor, user: Tensor, item: Tensor) -> Tensor:
        deep: Tensor = self.rest(sums[:, 1:]).squeeze(1)
        logits = sums[:, 0] + deep
        return logits + (user * item).sum(dim=1) if user.shape[1] else logits
