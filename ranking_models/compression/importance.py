"""How much each unit of a network matters to its loss."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ranking_models.compression.units import Units
from ranking_models.data import Dataset
from ranking_models.fitting import label_loss, tensors
from ranking_models.nn import RankingNetwork
from ranking_models.split import Rows

Float64 = npt.NDArray[np.float64]

BATCH_ROWS = 64
"""Small: at a minimum of the loss the gradients of many rows cancel."""


def importance(
    network: RankingNetwork, data: Dataset, rows: Rows, groups: Sequence[Units]
) -> list[Float64]:
    """The mean square, over batches, of what taking a unit out would do to the loss.

    To first order that is ``activation x gradient`` summed over the batch,
    which for what makes a unit (a ReLU's incoming weights, an embedding's
    column) equals the sum of ``weight x gradient`` over those weights.

    Args:
        network: In evaluation mode.
        data: The log.
        rows: Training rows; none that measure.
        groups: Of the network.

    Returns:
        One array per group, ``[units.count]``; more is more important, 0 is dead.

    Source:
        Molchanov et al. (2019), "Importance Estimation for Neural Network
        Pruning", CVPR; arXiv:1906.10771, equations 7 and 8. The activation
        form: Molchanov et al. (2017), ICLR; arXiv:1611.06440.
    """
    parameters = dict(network.named_parameters())
    made = sorted({p.parameter for units in groups for p in units.places if p.makes})
    found = [np.zeros(units.count) for units in groups]
    batches = np.array_split(rows, -(-len(rows) // BATCH_ROWS))
    for chosen in batches:
        inputs = tensors(data.schema, data.inputs(chosen))
        label = torch.from_numpy(data.label[chosen])
        loss = label_loss(network.logits(*inputs), label, inputs)
        gradients = torch.autograd.grad(loss, [parameters[name] for name in made])
        change = {
            name: (parameters[name].detach() * gradient).double()
            for name, gradient in zip(made, gradients, strict=True)
        }
        for index, units in enumerate(groups):
            found[index] += _saved(units, change) ** 2
    return [total / len(batches) for total in found]


def _saved(units: Units, change: dict[str, Tensor]) -> Float64:
    """The loss that each unit saves on one batch, to first order."""
    saved = np.zeros(units.count)
    for place in units.places:
        if place.makes:
            part = change[place.parameter]
            per_index = part.movedim(place.axis, 0).reshape(part.shape[place.axis], -1).sum(dim=1)
            saved += per_index.numpy()[place.positions].sum(axis=1)
    return saved
