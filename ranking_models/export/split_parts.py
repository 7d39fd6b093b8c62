"""What the splits of all architectures are made of.

A layer that is linear in ``x_0`` is a sum of one product per side, ``W x_0 + b
= (W_u x_u + b) + W_i x_i``. Each half gives the products of all such layers
and, behind them, what the row half needs of that side itself.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ranking_models.exact_split import side_schema
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.nn.mlp import MLP
from ranking_models.schema import FeatureSchema, Source


class Halves(NamedTuple):
    """A ranker in three modules, and in words what was taken apart."""

    user: nn.Module
    """``(dense, ids, *multi)`` of the user side to ``[n, sums + own]``."""
    item: nn.Module
    """The same of the item side."""
    row: "Rows | SumsAndProduct"
    factored: tuple[str, ...]
    whole: tuple[str, ...]


class Side:
    """The features of one side, and where they are in the inputs of the whole network."""

    def __init__(self, schema: FeatureSchema, sources: tuple[Source, ...]) -> None:
        self.whole, self.schema = schema, side_schema(schema, sources)
        self.dense = [i for i, spec in enumerate(schema.dense) if spec.source in sources]
        fields = [*schema.ids, *schema.multi]
        self.fields = [i for i, spec in enumerate(fields) if spec.source in sources]

    def columns(self, dim: int) -> list[int]:
        """Where the side's values are in ``x_0 = [dense, e_1, ..., e_k]``."""
        start = len(self.whole.dense)
        return [
            *self.dense,
            *(start + field * dim + i for field in self.fields for i in range(dim)),
        ]

    def embedding(self, whole: FieldEmbedding) -> FieldEmbedding:
        """The vectors of the side's fields: only their rows of the table."""
        part = FieldEmbedding(self.schema, whole.dim)
        if self.fields:
            tables = torch.split(whole.table.weight, whole.sizes)
            part.table.weight = frozen(torch.cat([tables[field] for field in self.fields]))
        return part


class Input(nn.Module):
    """``x_0`` of one side, ``[n, width]``."""

    def __init__(self, side: Side, embedding: FieldEmbedding) -> None:
        super().__init__()
        self.embedding = side.embedding(embedding)

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        fields = self.embedding(ids, *multi)
        return torch.cat([dense, fields.flatten(start_dim=1)], dim=1)


class Rows(nn.Module):
    """The row half: adds the sides' products, and hands on what is each side's own.

    Shapes:
        ``user`` ``[u, U]``, ``user_of_row`` int32 ``[n]``, ``item`` ``[n, I]``,
        of both the first ``sums`` columns to be added; output scores ``[n]``.
    """

    def __init__(self, sums: int, join: nn.Module) -> None:
        super().__init__()
        self.sums, self.join = sums, join

    def forward(self, user: Tensor, user_of_row: Tensor, item: Tensor) -> Tensor:
        # Cut before the gather: a request's one user row is cheaper to cut than its 100 copies.
        sums = user[:, : self.sums].index_select(0, user_of_row) + item[:, : self.sums]
        own = user[:, self.sums :].index_select(0, user_of_row)
        logits: Tensor = self.join(sums, own, item[:, self.sums :])
        return logits.sigmoid()


class SumsAndProduct(nn.Module):
    """The row half of sides that meet in sums and in one inner product alone.

    Whoever calls it has added and multiplied them: in place, where the item's part lies, that
    takes a fraction of what a graph needs to cut, gather and copy them.

    Shapes:
        ``sums`` ``[n, S]``, ``product`` ``[n]``; output scores ``[n]``.
    """

    def __init__(self, sums: int, rest: nn.Module) -> None:
        super().__init__()
        self.sums, self.rest = sums, rest

    def forward(self, sums: Tensor, product: Tensor) -> Tensor:
        deep: Tensor = self.rest(sums).squeeze(1)
        return (product + deep).sigmoid()


def chain(mlp: MLP, head: nn.Linear, name: str) -> tuple[nn.Linear, nn.Sequential, list[str]]:
    """``head(mlp(x))`` as its first linear layer, what follows, and the layers' names.

    Dropout does nothing in evaluation mode and is left out. The head of an MLP
    without layers is its own first layer.
    """
    kept = [
        (f"{name}.layers.{key}", layer)
        for key, layer in mlp.layers.named_children()
        if not isinstance(layer, nn.Dropout)
    ]
    kept.append(("head", head))
    names = [key for key, layer in kept if isinstance(layer, nn.Linear)]
    (_, first), *rest = kept
    assert isinstance(first, nn.Linear)
    return first, nn.Sequential(*(layer for _, layer in rest)), names


def stacked(layers: Sequence[nn.Linear]) -> nn.Linear:
    """Layers on the same input as one, outputs side by side; a missing bias is zero."""
    weights = torch.cat([layer.weight.detach() for layer in layers])
    biases = [
        layer.weight.detach().new_zeros(layer.out_features) if layer.bias is None else layer.bias
        for layer in layers
    ]
    return linear(weights, torch.cat([bias.detach() for bias in biases]))


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """A layer with copies of these weights."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = frozen(weight)
    if bias is not None:
        layer.bias = frozen(bias)
    return layer


def of_columns(layer: nn.Linear, columns: list[int], *, bias: bool) -> nn.Linear:
    """The layer on some of its inputs; the bias goes with one side only."""
    return linear(layer.weight[:, columns], layer.bias if bias else None)


def frozen(weight: Tensor) -> nn.Parameter:
    """A copy that is not trained."""
    return nn.Parameter(weight.detach().clone(), requires_grad=False)
