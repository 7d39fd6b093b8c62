"""A network as a plain function from rows to scores."""

import torch
from torch import nn

from ranking_models.fitting import tensors
from ranking_models.parity import Scorer
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32


def torch_scorer(module: nn.Module, schema: FeatureSchema) -> Scorer:
    """The reference: the network itself, which must be in evaluation mode."""

    def score(batch: FeatureBatch) -> Float32:
        with torch.inference_mode():
            scores: Float32 = module(*tensors(schema, batch)).numpy()
        return scores

    return score
