"""The cross network of DCN-V2."""

import torch
from torch import Tensor, nn


class CrossNetwork(nn.Module):
    """Explicit feature crosses of bounded degree.

    Layer ``l`` computes ``x_{l+1} = x_0 * (W_l x_l + b_l) + x_l`` (``*`` is
    element-wise), so ``depth`` layers reach crosses of degree ``depth + 1``.

    Shapes:
        input ``[n, width]``, output ``[n, width]``.

    Source:
        Wang et al. (2021), "DCN V2", WWW; arXiv:2008.13535.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for layer in self.layers:
            x = torch.addcmul(x, x0, layer(x))  # [n, width]
        return x
