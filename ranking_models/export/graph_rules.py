"""The rules of a graph, so that no engine of the service needs to guess. Without torch.

A format that ONNX Runtime and TensorRT both read; only ONNX's own operators,
and of these only ones whose shapes follow from the number of rows; weights
inside the file; inputs and outputs of the kinds and widths asked for, with
named dynamic first axes and no other dynamic axis.
"""

import re
from collections.abc import Iterator, Mapping

import msgspec
import onnx
from onnx import TensorProto

from ranking_models.errors import InputError
from ranking_models.schema import FeatureSchema

ROWS = "rows"
"""Name of the dynamic axis."""

MAX_OPSET = 26
"""Newest operator set that ONNX Runtime 1.31 reads."""
MAX_IR = 13
"""Newest file format that ONNX Runtime 1.31 reads."""
MAX_BYTES = 2**31 - 1
"""Largest protobuf message; beyond it weights would need files of their own."""

Dims = tuple[str | int, ...]
Signature = tuple[int, Dims]
"""Element type as ``onnx.TensorProto`` numbers it, and the axes: a name is dynamic."""

_OWN_DOMAINS = ("", "ai.onnx")
WRAPPERS = r"^(module(\.|$))*"
"""Modules that the export puts around a network; they are not part of its paths."""
_SCOPES = "pkg.torch.onnx.name_scopes"
"""Where torch's exporter notes which module a node came from."""

_SHAPE_BY_VALUES = "its result's size depends on values, so no engine can plan its memory"
_FLOW = "which operators run depends on values, so one recorded plan cannot serve every batch"
_CHANCE = "it draws random numbers, so two engines never agree"
_REFUSED = {
    "NonZero": (_SHAPE_BY_VALUES, "multiply by a 0/1 mask or use torch.where(mask, a, b)"),
    "Compress": (_SHAPE_BY_VALUES, "multiply by a 0/1 mask or use torch.where(mask, a, b)"),
    "Unique": (_SHAPE_BY_VALUES, "look every row up, repeated or not"),
    "If": (_FLOW, "compute both branches and choose with torch.where"),
    "Loop": (_FLOW, "write it as operations on whole tensors"),
    "Scan": (_FLOW, "write it as operations on whole tensors"),
    "Bernoulli": (_CHANCE, "leave it out in evaluation mode"),
    "Multinomial": (_CHANCE, "leave it out in evaluation mode"),
    "RandomNormal": (_CHANCE, "leave it out in evaluation mode"),
    "RandomNormalLike": (_CHANCE, "leave it out in evaluation mode"),
    "RandomUniform": (_CHANCE, "leave it out in evaluation mode"),
    "RandomUniformLike": (_CHANCE, "leave it out in evaluation mode"),
}
"""Operator to why it is refused, and what to write instead."""


class Border(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into a graph and what comes out, by name."""

    inputs: dict[str, Signature]
    outputs: dict[str, Signature]


def ranker_border(schema: FeatureSchema) -> Border:
    """The border of a ranker: the arrays that have columns in, ``score`` out."""
    return Border(
        inputs=feature_inputs(schema), outputs={"score": (int(TensorProto.FLOAT), (ROWS,))}
    )


def feature_inputs(schema: FeatureSchema) -> dict[str, Signature]:
    """The graph inputs of a schema's features, in the order of ``FeatureBatch.inputs``."""
    every = {
        "dense": (int(TensorProto.FLOAT), len(schema.dense)),
        "ids": (int(TensorProto.INT32), len(schema.ids)),
        **{f"multi_{s.name}": (int(TensorProto.INT32), s.max_length) for s in schema.multi},
    }
    return {name: (kind, (ROWS, width)) for name, (kind, width) in every.items() if width > 0}


def check_graph(model: onnx.ModelProto, schema: FeatureSchema) -> None:
    """Refuse a ranker that an engine could not load or would have to guess at.

    Raises:
        InputError: names the rule that is broken, where, and what to do.
    """
    check_model(model, ranker_border(schema))


def check_model(model: onnx.ModelProto, border: Border) -> None:
    """`check_graph` for a graph of any border.

    Raises:
        InputError: as `check_graph`.
    """
    _check_weights_inside(model)
    _check_format(model)
    _check_operators(model)
    try:
        onnx.checker.check_model(model, full_check=True)  # also that nodes are in order
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"the graph is not valid ONNX: {' '.join(str(error).split())}") from error
    _check_values("input", {v.name: _signature(v) for v in model.graph.input}, border.inputs)
    _check_values("output", {v.name: _signature(v) for v in model.graph.output}, border.outputs)


def place_of(node: onnx.NodeProto) -> str:
    """Which module a node came from, such as ``body.mlp.layers.3``, or else the node's name."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            # A list as text: ['', 'module', 'module.body', 'module.body.mlp', 'relu'].
            scopes = [scope.strip(" '\"") for scope in entry.value.strip("[]").split(",")]
            path = scopes[-2] if len(scopes) > 1 else ""
            return re.sub(WRAPPERS, "", path) or "the network itself"
    return f"node {node.name!r}" if node.name else f"the node that makes {node.output[0]!r}"


def _check_weights_inside(model: onnx.ModelProto) -> None:
    for weights in _initializers(model.graph):
        if weights.data_location == TensorProto.EXTERNAL or weights.external_data:
            where = {entry.key: entry.value for entry in weights.external_data}.get("location", "?")
            raise InputError(
                f"weights {weights.name!r} are kept outside of the graph's file, in {where!r}; "
                "load the graph with onnx.load from its own folder, which reads them in, "
                "and save it as one file"
            )
    if model.ByteSize() > MAX_BYTES:
        raise InputError(
            f"the graph has {model.ByteSize()} bytes, at most {MAX_BYTES} fit into one file; "
            "use smaller vocabularies, hash_buckets or a smaller embedding_dim"
        )


def _check_format(model: onnx.ModelProto) -> None:
    if model.ir_version > MAX_IR:
        raise InputError(
            f"the graph has IR version {model.ir_version}, at most {MAX_IR} is read; "
            f"save it with ir_version={MAX_IR}"
        )
    for used in model.opset_import:
        if used.domain not in _OWN_DOMAINS:
            raise InputError(
                f"the graph uses operators of {used.domain!r}{_first_use(model, used.domain)}, "
                "not ONNX's own alone: engines have no such kernel; write it with standard "
                "operators, and inline functions with onnx.inliner.inline_local_functions"
            )
        if used.version > MAX_OPSET:
            raise InputError(
                f"the graph has opset {used.version}, at most {MAX_OPSET} is read; "
                f"export it with opset_version={MAX_OPSET} or lower"
            )


def _first_use(model: onnx.ModelProto, domain: str) -> str:
    for node in _nodes(model.graph):
        if node.domain == domain:
            return f" ({node.op_type} in {place_of(node)})"
    return ""


def _check_operators(model: onnx.ModelProto) -> None:
    for node in _nodes(model.graph):
        if node.op_type in _REFUSED:
            reason, rewrite = _REFUSED[node.op_type]
            where = place_of(node)
            raise InputError(f"{where}: {node.op_type} is refused: {reason}; {rewrite}")


def _check_values(what: str, got: Mapping[str, Signature], wanted: Mapping[str, Signature]) -> None:
    for name, signature in wanted.items():
        asked = f"{what} {name!r} as {_text(signature)}"
        if name not in got:
            others = ", ".join(map(repr, got)) or "none"
            raise InputError(f"the schema asks for {asked}; the graph's {what}s are {others}")
        _check_value(f"{what} {name!r}", got[name], signature)
    extra = ", ".join(repr(name) for name in got if name not in wanted)
    if extra:
        raise InputError(
            f"the graph has {what} {extra} that the schema does not ask for; "
            f"it asks for {', '.join(map(repr, wanted))} alone"
        )


def _check_value(what: str, got: Signature, wanted: Signature) -> None:
    (kind, axes), (kind_due, axes_due) = got, wanted
    asked = f"the schema asks for {_text(wanted)}"
    if kind != kind_due:
        raise InputError(f"{what} is {_text(got)}, {asked}; cast it inside the graph")
    if len(axes) != len(axes_due):
        raise InputError(f"{what} is {_text(got)}, {asked}; reshape it inside the graph")
    for axis, (size, due) in enumerate(zip(axes, axes_due, strict=True)):
        if size == due:
            continue
        place = f"{what}, axis {axis}"
        if isinstance(due, int) and isinstance(size, int):
            raise InputError(f"{place}: the graph has {size} columns, the schema asks for {due}")
        if isinstance(due, int):
            raise InputError(
                f"{place}: it is dynamic ({size or 'without a name'}), {asked}; "
                f"only axis 0 may vary, fix this one at {due}"
            )
        if isinstance(size, int):
            raise InputError(
                f"{place}: it is fixed at {size}, {asked}; export with a dynamic axis {axis} named "
                f"{due!r}, and compute nothing that holds for {size} rows alone"
            )
        raise InputError(
            f"{place}: the dynamic axis is named {size or 'nothing'!r}, {asked}; "
            f"name it {due!r} on every input and output"
        )


def _signature(value: onnx.ValueInfoProto) -> Signature:
    tensor = value.type.tensor_type
    axes = tensor.shape.dim
    return tensor.elem_type, tuple(
        a.dim_value if a.HasField("dim_value") else a.dim_param for a in axes
    )


def _text(signature: Signature) -> str:
    kind, axes = signature
    name = TensorProto.DataType.Name(kind).lower().replace("float", "float32", kind == 1)
    return f"{name} [{', '.join(str(axis) or '?' for axis in axes)}]"


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _initializers(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in _nodes(graph):
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from attribute.g.initializer
