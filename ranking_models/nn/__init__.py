"""Ranking networks in PyTorch: one architecture per file, and `build` to choose one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ranking_models import architectures
from ranking_models.architectures import Architecture
from ranking_models.errors import InputError
from ranking_models.nn.dcn import DCNv2
from ranking_models.nn.deepfm import DeepFM
from ranking_models.schema import FeatureSchema


class RankingNetwork(nn.Module):
    """A network over model input rows: click probabilities out of ``FeatureBatch`` arrays.

    ``logits`` is what the loss takes; ``forward`` is what gets exported.

    Shapes:
        ``dense`` float32 ``[n, D]``, ``ids`` int32 ``[n, F]``, each of ``multi``
        int32 ``[n, L]`` in the order of ``schema.multi``; output float32 ``[n]``.
    """

    def __init__(self, body: DCNv2 | DeepFM) -> None:
        super().__init__()
        self.body = body

    def logits(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        """Log odds of a click, ``[n]``."""
        logits: Tensor = self.body(dense, ids, *multi)
        return logits

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        """Scores in [0, 1], ``[n]``."""
        return self.logits(dense, ids, *multi).sigmoid()


def build(architecture: Architecture, schema: FeatureSchema) -> RankingNetwork:
    """A fresh network of the architecture for the schema, with random weights."""
    match architecture:
        case architectures.DCNv2():
            return RankingNetwork(DCNv2(architecture, schema))
        case architectures.DeepFM():
            return RankingNetwork(DeepFM(architecture, schema))
        case _:
            raise InputError(f"{architecture.name} has no network here")


def restore(
    architecture: Architecture, schema: FeatureSchema, weights: Mapping[str, npt.NDArray[Any]]
) -> RankingNetwork:
    """The network with these weights, in evaluation mode.

    Raises:
        RuntimeError: names or shapes are not those of the architecture and schema.
    """
    network = build(architecture, schema)
    # Copied, because torch warns of arrays that it cannot write to.
    network.load_state_dict({name: torch.from_numpy(np.array(w)) for name, w in weights.items()})
    return network.eval()
