"""DeepFM: a factorisation machine beside an MLP, on shared embeddings."""

import torch
from torch import Tensor, nn

from ranking_models import architectures
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.nn.mlp import MLP
from ranking_models.schema import FeatureSchema


class DeepFM(nn.Module):
    """All pairs of features by inner product, plus whatever the MLP finds.

    With one vector ``v_j`` per field (a numeric feature's is its value times a
    learned vector), ``logit = b + sum_j w_j + sum_{i<j} <v_i, v_j> + mlp(v)``,
    where the pairs cost one pass: ``((sum_j v_j)^2 - sum_j v_j^2) / 2``.

    Shapes:
        as `RankingNetwork`; output logits ``[n]``.

    Source:
        Guo et al. (2017), "DeepFM", IJCAI; arXiv:1703.04247. The pairwise
        identity: Rendle (2010), "Factorization Machines", ICDM.
    """

    def __init__(self, architecture: architectures.DeepFM, schema: FeatureSchema) -> None:
        super().__init__()
        dim = architecture.embedding_dim
        self.first_order = FieldEmbedding(schema, 1)
        self.embedding = FieldEmbedding(schema, dim)
        self.dense_first_order = nn.Parameter(torch.zeros(len(schema.dense), 1))
        self.dense_vectors = nn.Parameter(torch.randn(len(schema.dense), dim) * 0.01)
        fields = len(schema.dense) + self.embedding.fields
        self.mlp = MLP(fields * dim, architecture.hidden, architecture.dropout)
        self.head = nn.Linear(self.mlp.out_width, 1)

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        values = dense.unsqueeze(-1)  # [n, D, 1]
        linear = (values * self.dense_first_order).sum(dim=(1, 2))
        linear = linear + self.first_order(ids, *multi).sum(dim=(1, 2))
        v = torch.cat([values * self.dense_vectors, self.embedding(ids, *multi)], dim=1)
        pairs = 0.5 * (v.sum(dim=1).square() - v.square().sum(dim=1)).sum(dim=1)  # [n]
        deep: Tensor = self.head(self.mlp(v.flatten(start_dim=1))).squeeze(1)
        logits: Tensor = linear + pairs + deep
        return logits
