"""Logistic regression: the floor that every other model must clear."""

import torch
from torch import Tensor, nn

from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.schema import FeatureSchema


class LogisticRegression(nn.Module):
    """One weight per number and per value, and nothing between them.

    ``logit = b + w . dense + sum_f w_f[id_f] + sum_m mean of w_m[id]``, the
    mean over the values of each multi-valued feature.

    Shapes:
        as `RankingNetwork`; output logits ``[n]``.

    Source:
        McMahan et al. (2013), "Ad Click Prediction: a View from the Trenches", KDD.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        super().__init__()
        self.weights = FieldEmbedding(schema, 1)
        self.dense_weights = nn.Parameter(torch.zeros(len(schema.dense), 1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        numbers = (dense.unsqueeze(-1) * self.dense_weights).sum(dim=(1, 2))  # [n]
        logits: Tensor = numbers + self.weights(ids, *multi).sum(dim=(1, 2)) + self.bias
        return logits
