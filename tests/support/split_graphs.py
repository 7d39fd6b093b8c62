"""The tiny bundle with a split that really splits: a logistic regression is a sum of two sides."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ranking_models.bundle import BundleContents, SplitGraphs, write_bundle
from ranking_models.exact_split import ITEM_SIDE, USER_SIDE
from ranking_models.manifest import ExactSplit
from ranking_models.schema import FeatureSchema, Source
from tests.support.bundles import tiny_contents


def write_split_bundle(
    root: Path, *, items: int = 50, users: int = 20, seed: int = 0, product: bool = False
) -> Path:
    """What `write_tiny_bundle` writes, and its fp32 graph in three."""
    contents = tiny_contents(items=items, users=users, seed=seed)
    return write_bundle(root, with_split(contents, product=product))


def with_split(contents: BundleContents, *, product: bool = False) -> BundleContents:
    """The same, with the split of its `linear_graph`: as sums of halves, or half as those and half
    as the product ``u . 1 + 1 . i``."""
    whole, schema = contents.graphs["fp32"].onnx, contents.schema
    width = 3 if product else 1
    split = SplitGraphs(
        user=_half(whole, schema, "user", USER_SIDE, product=product),
        item=_half(whole, schema, "item", ITEM_SIDE, product=product),
        row=_product_row() if product else _row(),
        figures=ExactSplit(
            user_width=width, item_width=width, parity=0.0, factored=("linear",), whole=()
        ),
    )
    return msgspec.structs.replace(contents, split=split)


def _half(
    whole: bytes, schema: FeatureSchema, name: str, side: tuple[Source, ...], *, product: bool
) -> bytes:
    """The linear graph's weights of one side's columns, summed to ``[rows, 1]``; as a product,
    half of the sum, and half of it beside a 1."""
    graph = onnx.load_from_string(whole).graph
    weights = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
    dense = [c for c, spec in enumerate(schema.dense) if spec.source in side]
    ids = [c for c, spec in enumerate(schema.ids) if spec.source in side]
    multi = [f"multi_{spec.name}" for spec in schema.multi if spec.source in side]
    widths = {"dense": len(dense), "ids": len(ids)}
    widths |= {f"multi_{s.name}": s.max_length for s in schema.multi if s.source in side}
    weights["dense_weights"] = weights["dense_weights"][dense]
    weights["ids_starts"] = weights["ids_starts"][ids]
    factors = ["part", "one"] if name == "user" else ["one", "part"]
    factors = factors if product else []
    kept = [n for n in graph.node if not n.name and _feeds(n, {"dense", "ids", *multi})]
    return _serialised(
        [
            *kept,
            helper.make_node("Sum", [n.output[0] for n in kept if n.op_type == "ReduceSum"], ["s"]),
            *(
                [
                    helper.make_node("Unsqueeze", ["s", "last_axis"], ["sum"]),
                    helper.make_node("Mul", ["sum", "half"], ["part"]),
                    helper.make_node("Sub", ["sum", "sum"], ["zero"]),
                    helper.make_node("Exp", ["zero"], ["one"]),
                    helper.make_node("Concat", ["part", *factors], [name], axis=1),
                ]
                if product
                else [helper.make_node("Unsqueeze", ["s", "last_axis"], [name])]
            ),
        ],
        inputs=[
            helper.make_tensor_value_info(
                i, TensorProto.FLOAT if i == "dense" else TensorProto.INT32, ["rows", width]
            )
            for i, width in widths.items()
        ],
        output=helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1 + len(factors)]),
        constants={c: v for c, v in weights.items() if any(c in n.input for n in kept)}
        | ({"half": np.array([0.5], np.float32)} if product else {}),
    )


def _feeds(node: onnx.NodeProto, inputs: set[str]) -> bool:
    """Whether the node is on the way from one of the inputs to its sum."""
    return any(node.output[0].startswith(f"{i}_") for i in inputs)


def _row() -> bytes:
    return _serialised(
        [
            helper.make_node("Gather", ["user", "user_of_row"], ["user_rows"]),
            helper.make_node("Add", ["user_rows", "item"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["scores"]),
            helper.make_node("Squeeze", ["scores", "last_axis"], ["score"]),
        ],
        inputs=[
            helper.make_tensor_value_info("user", TensorProto.FLOAT, ["users", 1]),
            helper.make_tensor_value_info("user_of_row", TensorProto.INT32, ["rows"]),
            helper.make_tensor_value_info("item", TensorProto.FLOAT, ["rows", 1]),
        ],
        output=helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"]),
        constants={"last_axis": np.array([1], np.int64)},
    )


def _product_row() -> bytes:
    return _serialised(
        [
            helper.make_node("Squeeze", ["sums", "last_axis"], ["sum"]),
            helper.make_node("Add", ["sum", "product"], ["logits"]),
            helper.make_node("Sigmoid", ["logits"], ["score"]),
        ],
        inputs=[
            helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["rows", 1]),
            helper.make_tensor_value_info("product", TensorProto.FLOAT, ["rows"]),
        ],
        output=helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"]),
        constants={"last_axis": np.array([1], np.int64)},
    )


def _serialised(
    nodes: list[onnx.NodeProto],
    *,
    inputs: list[onnx.ValueInfoProto],
    output: onnx.ValueInfoProto,
    constants: dict[str, np.ndarray],
) -> bytes:
    initial = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "half", inputs, [output], initial)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)
