"""The cross networks of DCN-V2: full matrices, low-rank ones, and mixtures of low-rank experts."""

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


class LowRankCrossNetwork(nn.Module):
    """`CrossNetwork` with matrices of low rank: ``2 * rank / width`` of the weights.

    Layer ``l`` computes ``x_{l+1} = x_0 * (M_l(x_l) + b_l) + x_l``. With one
    expert ``M_l(x) = U_l (V_l x)``; with several `MixtureOfExperts`.

    Shapes:
        input ``[n, width]``, output ``[n, width]``.

    Source:
        Wang et al. (2021), "DCN V2", WWW; arXiv:2008.13535, section 3.3.
    """

    def __init__(self, width: int, depth: int, *, rank: int, experts: int) -> None:
        super().__init__()

        def layer() -> nn.Module:
            if experts > 1:
                return MixtureOfExperts(width, rank, experts)
            return nn.Sequential(
                nn.Linear(width, rank, bias=False), nn.Linear(rank, width, bias=False)
            )

        self.layers = nn.ModuleList(layer() for _ in range(depth))
        self.biases = nn.ParameterList(torch.zeros(width) for _ in range(depth))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for layer, bias in zip(self.layers, self.biases, strict=True):
            x = torch.addcmul(x, x0, layer(x) + bias)  # [n, width]
        return x


class MixtureOfExperts(nn.Module):
    """Low-rank maps, each with crosses of its own, weighed by what they are given.

    ``M(x) = sum_i G_i(x) U_i tanh(C_i tanh(V_i x))`` with the gate ``G =
    softmax(W x + c)``. The gates add up to 1, so that the bias that the
    experts of a layer share can be added behind the sum.

    Shapes:
        input ``[n, width]``, output ``[n, width]``; ``V_i`` is ``[rank, width]``,
        ``C_i`` ``[rank, rank]``, ``U_i`` ``[width, rank]``.
    """

    def __init__(self, width: int, rank: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, experts)
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, rank, bias=False),
                nn.Tanh(),
                nn.Linear(rank, rank, bias=False),
                nn.Tanh(),
                nn.Linear(rank, width, bias=False),
            )
            for _ in range(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        shares = self.gate(x).softmax(dim=1)  # [n, experts]
        found = torch.stack([expert(x) for expert in self.experts], dim=1)  # [n, experts, width]
        mixed: Tensor = (shares.unsqueeze(-1) * found).sum(dim=1)
        return mixed
