"""DCN-V2 in its parallel form."""

import torch
from torch import Tensor, nn

from ranking_models import architectures
from ranking_models.nn.cross import CrossNetwork, LowRankCrossNetwork
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.nn.mlp import MLP
from ranking_models.schema import FeatureSchema


class DCNv2(nn.Module):
    """Cross network beside an MLP, both on the same input ``x_0``.

    ``x_0 = [dense, e_1, ..., e_k]``, ``logit = w . [cross(x_0), mlp(x_0)] + b``.

    Parallel rather than stacked: the first layer of either branch is then
    linear in ``x_0``, so it splits exactly into a user, an item and a context
    part that can be computed apart (``W x_0 = W_u x_u + W_i x_i + W_c x_c``).

    Shapes:
        as `RankingNetwork`; output logits ``[n]``.

    Source:
        Wang et al. (2021), "DCN V2", WWW; arXiv:2008.13535, section 3.4.
    """

    def __init__(self, architecture: architectures.DCNv2, schema: FeatureSchema) -> None:
        super().__init__()
        self.embedding = FieldEmbedding(schema, architecture.embedding_dim)
        width = len(schema.dense) + self.embedding.fields * architecture.embedding_dim
        self.cross: CrossNetwork | LowRankCrossNetwork
        if architecture.cross_rank:
            self.cross = LowRankCrossNetwork(
                width,
                architecture.cross_layers,
                rank=architecture.cross_rank,
                experts=architecture.cross_experts,
            )
        else:
            self.cross = CrossNetwork(width, architecture.cross_layers)
        self.mlp = MLP(width, architecture.hidden, architecture.dropout)
        self.head = nn.Linear(width + self.mlp.out_width, 1)

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        fields = self.embedding(ids, *multi)  # [n, k, dim]
        x0 = torch.cat([dense, fields.flatten(start_dim=1)], dim=1)  # [n, width]
        both = torch.cat([self.cross(x0), self.mlp(x0)], dim=1)
        logits: Tensor = self.head(both).squeeze(1)
        return logits
