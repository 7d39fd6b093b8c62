"""The deep part of every architecture that has one."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn


class MLP(nn.Module):
    """Implicit feature interactions: ``h_{l+1} = dropout(relu(W_l h_l + b_l))``.

    Shapes:
        input ``[n, width]``, output ``[n, hidden[-1]]`` (``[n, width]`` without layers).
    """

    def __init__(self, width: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.out_width = hidden[-1] if hidden else width
        widths = (width, *hidden)
        self.layers = nn.Sequential()
        for before, after in pairwise(widths):
            self.layers.extend([nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out
