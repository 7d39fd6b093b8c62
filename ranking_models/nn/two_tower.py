"""Two towers: a user vector and an item vector, joined by an inner product alone."""

import torch
from torch import Tensor, nn

from ranking_models import architectures
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.nn.mlp import MLP
from ranking_models.schema import FeatureSchema, FeatureSpec, Source


class TwoTower(nn.Module):
    """The model whose item half can be computed ahead for a whole catalogue.

    ``logit = <u, v> + b_u + b_v`` with ``[u, b_u] = tower(user, context)`` and
    ``[v, b_v] = tower(item)``. No layer sees user and item together.

    Shapes:
        as `RankingNetwork`; output logits ``[n]``; ``u`` and ``v`` are
        ``[n, output_dim]``.

    Source:
        Yi et al. (2019), "Sampling-Bias-Corrected Neural Modeling for Large
        Corpus Item Recommendations", RecSys.
    """

    def __init__(self, architecture: architectures.TwoTower, schema: FeatureSchema) -> None:
        super().__init__()
        self.user = Tower(architecture, schema, ("user", "context"))
        self.item = Tower(architecture, schema, ("item",))

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        user, item = self.user(dense, ids, *multi), self.item(dense, ids, *multi)
        logits: Tensor = (user[:, :-1] * item[:, :-1]).sum(dim=1) + user[:, -1] + item[:, -1]
        return logits


class Tower(nn.Module):
    """The features of some sources as a vector and a bias: ``W mlp([dense, e_1, ..., e_k]) + c``.

    A tower without any feature learns one vector and bias for all rows.

    Shapes:
        input columns of the whole schema, of which it takes its own; output
        ``[n, output_dim + 1]``, the bias last.
    """

    def __init__(
        self,
        architecture: architectures.TwoTower,
        schema: FeatureSchema,
        sources: tuple[Source, ...],
    ) -> None:
        super().__init__()
        own = FeatureSchema(features=tuple(s for s in schema.features if s.source in sources))
        self.dense: Tensor
        self.register_buffer("dense", _columns(schema.dense, sources), persistent=False)
        self.ids: Tensor
        self.register_buffer("ids", _columns(schema.ids, sources), persistent=False)
        self.multi = _columns(schema.multi, sources).tolist()
        self.constant: nn.Parameter | None = None
        if not own.features:
            self.constant = nn.Parameter(torch.zeros(1, architecture.output_dim + 1))
            return
        self.embedding = FieldEmbedding(own, architecture.embedding_dim)
        width = len(own.dense) + self.embedding.fields * architecture.embedding_dim
        self.mlp = MLP(width, architecture.hidden, architecture.dropout)
        self.head = nn.Linear(self.mlp.out_width, architecture.output_dim + 1)

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        if self.constant is not None:
            return self.constant.expand(dense.shape[0], -1)
        own_ids, own_multi = ids.index_select(1, self.ids), (multi[i] for i in self.multi)
        fields = self.embedding(own_ids, *own_multi)  # [n, k, dim]
        own_dense = dense.index_select(1, self.dense)
        x0 = torch.cat([own_dense, fields.flatten(start_dim=1)], dim=1)
        out: Tensor = self.head(self.mlp(x0))
        return out


def _columns(features: tuple[FeatureSpec, ...], sources: tuple[Source, ...]) -> Tensor:
    """Which of the features are of these sources."""
    own = [i for i, spec in enumerate(features) if spec.source in sources]
    return torch.tensor(own, dtype=torch.int64)
