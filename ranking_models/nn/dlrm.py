"""DLRM: pairwise inner products of field vectors, between two MLPs."""

import torch
from torch import Tensor, nn

from ranking_models import architectures
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.nn.mlp import MLP
from ranking_models.schema import FeatureSchema


class DLRM(nn.Module):
    """All pairs of feature vectors by inner product, and an MLP on the products.

    The bottom MLP makes one vector ``v_0`` of all numbers, the embedding one
    vector ``v_j`` per field; ``logit = w . top([v_0, <v_i, v_j> for i < j]) + b``.
    Without numeric features ``v_0`` is learned as it is.

    Shapes:
        as `RankingNetwork`; output logits ``[n]``. With k fields there are
        ``k (k + 1) / 2`` products.

    Source:
        Naumov et al. (2019), "Deep Learning Recommendation Model for
        Personalization and Recommendation Systems"; arXiv:1906.00091.
    """

    def __init__(self, architecture: architectures.DLRM, schema: FeatureSchema) -> None:
        super().__init__()
        dim = architecture.embedding_dim
        self.embedding = FieldEmbedding(schema, dim)
        self.bottom: MLP | None = None
        if schema.dense:
            self.bottom = MLP(len(schema.dense), (*architecture.bottom, dim), dropout=0.0)
        else:
            self.v0 = nn.Parameter(torch.randn(1, dim) * 0.01)
        vectors = 1 + self.embedding.fields
        first, second = torch.triu_indices(vectors, vectors, offset=1)
        self.pairs: Tensor
        self.register_buffer("pairs", first * vectors + second, persistent=False)
        self.top = MLP(dim + len(first), architecture.hidden, architecture.dropout)
        self.head = nn.Linear(self.top.out_width, 1)

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        fields = self.embedding(ids, *multi)  # [n, k, dim]
        v0 = self.bottom(dense) if self.bottom else self.v0.expand(ids.shape[0], -1)  # [n, dim]
        v = torch.cat([v0.unsqueeze(1), fields], dim=1)  # [n, 1 + k, dim]
        every = torch.bmm(v, v.transpose(1, 2)).flatten(start_dim=1)  # each pair twice
        products = every.index_select(1, self.pairs)
        logits: Tensor = self.head(self.top(torch.cat([v0, products], dim=1))).squeeze(1)
        return logits
