"""A network that cannot be exported is told which module, which operator, and what helps."""

import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from ranking_models.errors import InputError
from ranking_models.export.graph_rules import Border
from ranking_models.export.to_onnx import export_module

BORDER = Border(
    inputs={"dense": (TensorProto.FLOAT, ("rows", 3))},
    outputs={"score": (TensorProto.FLOAT, ("rows",))},
)


class Body(nn.Module):
    """A network whose third layer is the one that fails."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Repeated(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=1) + torch.unique(x).sum()


class Picked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=1) + x.nonzero().sum()


class Masked(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=1) + x[x[:, 0] > 0].sum()


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bag(x.int().clamp(0, 9)).sum(dim=1)


class Sparse(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sparse.mm(torch.eye(3).to_sparse(), x.T).sum(dim=0)


class Decides(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(dim=1) if x.sum() > 0 else -x.sum(dim=1)


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: y.sum(dim=1), lambda y: -y.sum(dim=1), (x,))


class Solves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.eye(3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.solve(self.matrix, x.T).sum(dim=0)


class Bessel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i0e(x).sum(dim=1)


class Noisy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x + torch.rand_like(x)).sum(dim=1)


class Loops(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([row.sum() for row in x])


class ThroughNumpy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy()).sum(dim=1)


class Median(nn.Module):
    """An operator that nothing here knows of by name."""

    def forward(self, x: Tensor) -> Tensor:
        return x.kthvalue(2, dim=1).values


@torch.library.custom_op("podium_tests::kernel", mutates_args=())
def kernel(x: Tensor) -> Tensor:
    return 2 * x


@kernel.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class OwnKernel(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return kernel(x).sum(dim=1)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return 2 * gradient


class OwnGradient(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Doubled.apply(x).sum(dim=1)


@pytest.mark.parametrize(
    ("layer", "operator", "advice"),
    [
        (Repeated(), "aten._unique2", "look every row up"),
        (Picked(), "aten.nonzero", "torch.where"),
        (Masked(), "aten.index", "torch.where"),
        (Sparse(), "sparse", "nn.Embedding"),
        (Branches(), "cond", "torch.where"),
        (Solves(), "aten.linalg_solve", "keep it as a buffer"),
        (Bessel(), "aten.special_i0e", "approximate it"),
        (Noisy(), "aten.rand_like", "leave it out"),
        (Median(), "aten.kthvalue", "write it with"),
    ],
)
def test_the_module_the_operator_and_the_rewrite_are_named(layer, operator, advice):
    with pytest.raises(InputError) as caught:
        export_module(Body(layer), BORDER)

    said = str(caught.value)
    assert said.startswith("the model cannot be exported to ONNX: layers.2 uses ")
    assert operator in said
    assert advice in said
    assert "\n" not in said


def test_the_innermost_module_is_named():
    with pytest.raises(InputError, match=r"layers\.2\.bag uses aten\.embedding_bag.*nn\.Embedding"):
        export_module(Body(Pooled()), BORDER)


def test_a_custom_kernel_is_refused_with_the_reason():
    with pytest.raises(InputError, match=r"layers\.2 uses podium_tests\.kernel.*no such kernel"):
        export_module(Body(OwnKernel()), BORDER)


@pytest.mark.parametrize(
    ("layer", "where", "reason"),
    [
        (Decides(), r"layers\.2", "Python decides by a tensor's values.*torch.where"),
        (ThroughNumpy(), r"layers\.2", "numpy.*PyTorch operators"),
        (Loops(), "the network itself", r"only for some numbers of rows.*x\.shape\[0\]"),
    ],
)
def test_code_that_cannot_be_captured_is_explained_in_one_line(layer, where, reason, capfd):
    with pytest.raises(InputError, match=f"ONNX: {where}: .*{reason}") as caught:
        export_module(Body(layer), BORDER)

    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_gradient_of_ones_own_does_not_matter():
    assert export_module(Body(OwnGradient()), BORDER)
