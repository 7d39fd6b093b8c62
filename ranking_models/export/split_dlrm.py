"""The split of DLRM: products within one side, and the first layer on them, are taken apart."""

from itertools import combinations, product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ranking_models.exact_split import ITEM_SIDE, USER_SIDE
from ranking_models.export.split_parts import Halves, Rows, Side, chain, frozen, linear, of_columns
from ranking_models.nn.dlrm import DLRM
from ranking_models.nn.mlp import MLP
from ranking_models.schema import FeatureSchema


def split_dlrm(body: DLRM, schema: FeatureSchema) -> Halves:
    """Pairs of two user or two item vectors belong to the halves, mixed ones to the rows.

    The numbers' vector ``v_0`` belongs to the side that has all of them (the
    user's, without numbers). Where both sides have some, only the bottom MLP's
    first layer is taken apart, and ``v_0`` and its products are made per row.
    """
    first, rest, names = chain(body.top, body.head, "top")
    sides = Side(schema, USER_SIDE), Side(schema, ITEM_SIDE)
    mixed = all(side.dense for side in sides)
    if body.bottom is not None and mixed:
        bottom, after, (name, *later) = _bottom(body.bottom)
        parts = [
            _Part(bottom=of_columns(bottom, side.dense, bias=side is sides[0])) for side in sides
        ]
        numbers, sums = [name], first.out_features + bottom.out_features
    else:
        owner = sides[1] if sides[1].dense else sides[0]
        parts = [_Part(v0=_vector_0(body) if side is owner else None) for side in sides]
        after, numbers, later = None, ["bottom"] if body.bottom else [], []
        sums = first.out_features
    user = _Half(body, first, sides[0], parts[0], first.bias)
    item = _Half(body, first, sides[1], parts[1])
    join = _Pairs(body, first, rest, user.vectors, item.vectors, after)
    return Halves(
        user=user,
        item=item,
        row=Rows(sums, join),
        factored=("embedding", *numbers, "pairs within a side", names[0]),
        whole=(*later, "pairs across the sides", *names[1:]),
    )


class _Part(NamedTuple):
    """What one side has of ``v_0``: all of it, the first layer that makes it, or nothing."""

    v0: nn.Module | None = None
    bottom: nn.Linear | None = None


def _vector_0(body: DLRM) -> nn.Module:
    return body.bottom if body.bottom is not None else _Learned(body.v0)


def _bottom(bottom: MLP) -> tuple[nn.Linear, nn.Module, list[str]]:
    """The bottom MLP as its first layer and what follows, and the names of its layers."""
    first, *rest = bottom.layers
    assert isinstance(first, nn.Linear)
    names = [
        f"bottom.layers.{key}"
        for key, layer in bottom.layers.named_children()
        if isinstance(layer, nn.Linear)
    ]
    return first, nn.Sequential(*rest), names


def _columns(body: DLRM, pairs: list[tuple[int, int]]) -> list[int]:
    """Where the products of these vectors are in the top MLP's input ``[v_0, products]``."""
    vectors = range(1 + body.embedding.fields)
    place = {pair: i for i, pair in enumerate(combinations(vectors, 2))}
    return [body.embedding.dim + place[min(pair), max(pair)] for pair in pairs]


class _Learned(nn.Module):
    """The same vector for every row."""

    def __init__(self, vector: Tensor) -> None:
        super().__init__()
        self.vector = frozen(vector)

    def forward(self, dense: Tensor) -> Tensor:
        return self.vector.expand(len(dense), -1)


class _Half(nn.Module):
    """``[first top layer, first bottom layer, vectors]`` of one side."""

    def __init__(
        self,
        body: DLRM,
        first: nn.Linear,
        side: Side,
        part: _Part,
        bias: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.v0, self.bottom = part
        self.embedding = side.embedding(body.embedding)
        self.vectors = [*([0] if part.v0 else []), *(1 + field for field in side.fields)]
        """The side's vectors by their position among all of the network's."""
        count = len(self.vectors)
        self.pairs = [a * count + b for a, b in combinations(range(count), 2)]
        columns = _columns(body, list(combinations(self.vectors, 2)))
        if part.v0:
            columns = [*range(body.embedding.dim), *columns]
        # A side of a single field has nothing to multiply it with.
        self.top = linear(first.weight[:, columns]) if columns else None
        self.bias = frozen(torch.zeros(first.out_features) if bias is None else bias)

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        vectors = self.embedding(ids, *multi)  # [n, k, dim]
        inputs = []
        if self.v0 is not None:
            v0 = self.v0(dense)
            vectors = torch.cat([v0.unsqueeze(1), vectors], dim=1)
            inputs.append(v0)
        if self.pairs:
            products = torch.bmm(vectors, vectors.transpose(1, 2)).flatten(start_dim=1)
            inputs.append(products[:, self.pairs])
        top = self.bias.expand(len(vectors), -1)
        if self.top is not None:
            top = top + self.top(torch.cat(inputs, dim=1))
        numbers = [self.bottom(dense)] if self.bottom is not None else []
        return torch.cat([top, *numbers, vectors.flatten(start_dim=1)], dim=1)


class _Pairs(nn.Module):
    """The logits ``[n]`` from the first layers' products and both sides' vectors."""

    def __init__(
        self,
        body: DLRM,
        first: nn.Linear,
        rest: nn.Module,
        user: list[int],
        item: list[int],
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.width = body.embedding.dim, first.out_features
        self.mixed = bool(user) and bool(item)
        self.fields = bool(user) or bool(item)
        self.after, self.rest = after, rest
        columns = _columns(body, list(product(user, item)))
        if after is not None:
            with_numbers = _columns(body, [(0, vector) for vector in [*user, *item]])
            columns = [*range(self.dim), *with_numbers, *columns]
        self.top = linear(first.weight[:, columns])

    def forward(self, sums: Tensor, user: Tensor, item: Tensor) -> Tensor:
        inputs = []
        if self.after is not None:
            v0 = self.after(sums[:, self.width :])
            inputs.append(v0)
            if self.fields:
                vectors = self._vectors(torch.cat([user, item], dim=1))
                inputs.append(torch.bmm(vectors, v0.unsqueeze(2)).squeeze(2))
        if self.mixed:
            across = torch.bmm(self._vectors(user), self._vectors(item).transpose(1, 2))
            inputs.append(across.flatten(start_dim=1))
        top = sums[:, : self.width] + self.top(torch.cat(inputs, dim=1))
        logits: Tensor = self.rest(top).squeeze(1)
        return logits

    def _vectors(self, flat: Tensor) -> Tensor:
        return flat.reshape(len(flat), -1, self.dim)
