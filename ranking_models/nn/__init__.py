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
from ranking_models.nn.dlrm import DLRM
from ranking_models.nn.embedding import FieldEmbedding
from ranking_models.nn.logistic import LogisticRegression
from ranking_models.nn.two_tower import TwoTower
from ranking_models.nn.wide_and_deep import WideAndDeep
from ranking_models.schema import FeatureSchema

Body = LogisticRegression | WideAndDeep | DeepFM | DCNv2 | DLRM | TwoTower


class RankingNetwork(nn.Module):
    """A network over model input rows: click probabilities out of ``FeatureBatch`` arrays.

    ``logits`` is what the loss takes; ``forward`` is what gets exported.

    Shapes:
        ``dense`` float32 ``[n, D]``, ``ids`` int32 ``[n, F]``, each of ``multi``
        int32 ``[n, L]`` in the order of ``schema.multi``; output float32 ``[n]``.
    """

    def __init__(self, body: Body) -> None:
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
    """A fresh network of the architecture for the schema, with random weights.

    Raises:
        InputError: an imported model, of which there is a graph and no network.
    """
    match architecture:
        case architectures.LogisticRegression():
            return RankingNetwork(LogisticRegression(schema))
        case architectures.WideAndDeep():
            return RankingNetwork(WideAndDeep(architecture, schema))
        case architectures.DeepFM():
            return RankingNetwork(DeepFM(architecture, schema))
        case architectures.DCNv2():
            return RankingNetwork(DCNv2(architecture, schema))
        case architectures.DLRM():
            return RankingNetwork(DLRM(architecture, schema))
        case architectures.TwoTower():
            return RankingNetwork(TwoTower(architecture, schema))
        case architectures.Imported():
            raise InputError(
                "an imported model is an ONNX graph without a network; it cannot be trained"
            )


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


def inherit(
    network: RankingNetwork,
    architecture: Architecture,
    schema: FeatureSchema,
    weights: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Give a fresh network the weights of an earlier one of the same architecture.

    The network's vocabularies begin with those of ``schema``, the earlier
    one's. Values that they have in common keep their rows; new ones stay fresh.
    """
    with torch.random.fork_rng(devices=[]):
        earlier = restore(architecture, schema, weights)
    grown = {f"{name}.table.weight": part for name, part in _embeddings(network).items()}
    fixed = {name: w for name, w in earlier.state_dict().items() if name not in grown}
    network.load_state_dict(fixed, strict=False)
    for name, part in _embeddings(earlier).items():
        grown[f"{name}.table.weight"].take_over(part)


def _embeddings(network: RankingNetwork) -> dict[str, FieldEmbedding]:
    return {n: part for n, part in network.named_modules() if isinstance(part, FieldEmbedding)}
