"""Wide & Deep: a linear model beside an MLP, trained as one."""

import torch
from torch import Tensor, nn

from ranking_models import architectures
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.nn.logistic import LogisticRegression
from ranking_models.nn.mlp import MLP
from ranking_models.schema import FeatureSchema


class WideAndDeep(nn.Module):
    """Weights that remember single values, and an MLP that generalises between them.

    ``logit = wide(dense, ids, multi) + w . mlp([dense, e_1, ..., e_k])`` with
    `LogisticRegression` as the wide part. A cross of two features that should
    be remembered is a column of the log like any other.

    Shapes:
        as `RankingNetwork`; output logits ``[n]``.

    Source:
        Cheng et al. (2016), "Wide & Deep Learning for Recommender Systems",
        DLRS; arXiv:1606.07792.
    """

    def __init__(self, architecture: architectures.WideAndDeep, schema: FeatureSchema) -> None:
        super().__init__()
        self.wide = LogisticRegression(schema)
        self.embedding = FieldEmbedding(schema, architecture.embedding_dim)
        width = len(schema.dense) + self.embedding.fields * architecture.embedding_dim
        self.mlp = MLP(width, architecture.hidden, architecture.dropout)
        self.head = nn.Linear(self.mlp.out_width, 1, bias=False)  # the wide part has one

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        fields = self.embedding(ids, *multi)  # [n, k, dim]
        x0 = torch.cat([dense, fields.flatten(start_dim=1)], dim=1)  # [n, width]
        logits: Tensor = self.wide(dense, ids, *multi) + self.head(self.mlp(x0)).squeeze(1)
        return logits
