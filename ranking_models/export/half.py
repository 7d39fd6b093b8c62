"""FP16 from the PyTorch network: the body in half precision, the head in single.

Half precision has 11 bits: near a logit of 2 its numbers lie 0.002 apart, so a
logit rounded to it moves a score by up to 2.4e-4, as much as the whole body
does. So what comes last is computed in single precision: the sum over the
last layer's inputs, the bias, and the sigmoid. That sum is written as
multiply-and-add, not as a matrix product, because TensorRT refuses fp32
matrix products on a T4. In and out stay float32 and int32, so an engine needs
not know which graph it runs.
"""

import copy
from collections.abc import Collection, Iterator

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto
from torch import Tensor, nn

from ranking_models.errors import InputError
from ranking_models.export.to_onnx import export_graph
from ranking_models.nn import RankingNetwork
from ranking_models.schema import FeatureSchema

LARGEST = float(np.finfo(np.float16).max)
"""65504: what lies beyond is infinite in half precision."""

HEAD = "body.head"
"""Where a network keeps its last linear layer, if it ends in one."""


def export_half(network: RankingNetwork, schema: FeatureSchema) -> bytes:
    """The FP16 graph of a network that was trained in single precision.

    Raises:
        InputError: a weight does not fit half precision, or the graph breaks a
            rule of `check_graph` or `check_half`.
    """
    serialised = export_graph(half_network(network), schema)
    model = onnx.load_from_string(serialised)
    head = {weights.name for weights in model.graph.initializer if f".{HEAD}." in weights.name}
    check_half(model, single_names=head)
    return serialised


def half_network(network: RankingNetwork) -> nn.Module:
    """A copy that computes as the FP16 graph does; the network itself is left alone.

    Raises:
        InputError: a weight does not fit half precision; names the tensor.
    """
    for name, weights in network.state_dict().items():
        check_range(name, weights.numpy())
    return _HalfBody(copy.deepcopy(network)).eval()


def check_range(name: str, weights: npt.NDArray[np.generic]) -> None:
    """Refuse weights that half precision would make infinite.

    Raises:
        InputError: names the tensor and its largest value.
    """
    largest = float(np.abs(weights.astype(np.float64)).max(initial=0.0))
    if weights.dtype.kind == "f" and not largest <= LARGEST:
        raise InputError(
            f"the weights {name!r} reach {largest:g}, and fp16 ends at {LARGEST:g}: "
            "export this run in fp32, or train again with more --weight-decay"
        )


class _HalfBody(nn.Module):
    """Numbers in as float32, the body in half precision, the score in float32."""

    def __init__(self, network: RankingNetwork) -> None:
        super().__init__()
        head = getattr(network.body, "head", None)
        if not isinstance(head, nn.Linear) or head.out_features > 1:
            self.network = network.half()
            return
        # Set aside first: halved and widened again it would have lost its last bits.
        network.body.head = nn.Identity()
        self.network = network.half()
        network.body.head = _SingleHead(head)

    def forward(self, dense: Tensor, ids: Tensor, *multi: Tensor) -> Tensor:
        return self.network.logits(dense.half(), ids, *multi).float().sigmoid()


class _SingleHead(nn.Module):
    """``w . x + b`` in single precision, without a matrix product."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = head.weight, head.bias

    def forward(self, x: Tensor) -> Tensor:
        total = (x.float() * self.weight).sum(dim=1, keepdim=True)
        return total if self.bias is None else total + self.bias


def check_half(model: onnx.ModelProto, *, single_names: Collection[str]) -> None:
    """Refuse a graph that claims to be FP16 and is not.

    Args:
        model: The graph.
        single_names: Weights that may be float32, besides scalars.

    Raises:
        InputError: names other float32 weights, or a float32 matrix product.
    """
    wide = [name for name in single_weights(model) if name not in single_names]
    if wide:
        raise InputError(f"the fp16 graph keeps float32 weights: {', '.join(wide)}")
    products = tuple(_single_products(model))
    if products:
        raise InputError(
            f"the fp16 graph has float32 matrix products ({', '.join(products)}), "
            "which TensorRT refuses on a T4"
        )


def single_weights(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the float32 initialisers of more than one number."""
    return tuple(
        weights.name
        for weights in model.graph.initializer
        if weights.data_type == TensorProto.FLOAT and np.prod(weights.dims, dtype=np.int64) > 1
    )


def _single_products(model: onnx.ModelProto) -> Iterator[str]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    single = {
        value.name
        for value in (*inferred.value_info, *inferred.input)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    } | {w.name for w in inferred.initializer if w.data_type == TensorProto.FLOAT}
    for node in inferred.node:
        if node.op_type in {"MatMul", "Gemm", "Conv"} and single & set(node.input):
            yield node.output[0]
