"""A third party's ONNX ranker as a bundle: adapted exactly, proven, and measured.

The features come as a JSON file in the form of a manifest's ``schema``, with
the vocabularies that the model was trained with; `FeatureSpec` says what each
key means::

    {"features": [
      {"name": "age", "source": "user", "kind": "numeric", "mean": 40.1, "scale": 15.3},
      {"name": "item_id", "source": "item", "kind": "categorical", "vocabulary": ["i0", "i1"]},
      {"name": "tags", "source": "item", "kind": "multi", "vocabulary": ["new"], "max_length": 3}
    ]}

The graph takes ``dense``, ``ids`` and ``multi_<name>`` with the columns in the
order of that list (`ranking_models.bundle`), and gives one probability per row.
What differs without a doubt is adapted, and changes no score: names of inputs,
of the output and of the row axis; int64 ids and float64 numbers, which are
cast; and a score of shape ``[rows, 1]``.
"""

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from ranking_models import metrics
from ranking_models.architectures import Imported
from ranking_models.bundle import BundleArrays, BundleContents, Graph, id_array
from ranking_models.data import encode
from ranking_models.errors import InputError
from ranking_models.export.graph_rules import ROWS, check_graph, feature_inputs
from ranking_models.golden import GOLDEN_ROWS, golden_rows
from ranking_models.item_pages import item_pages
from ranking_models.joining import Tables
from ranking_models.log_figures import data_source
from ranking_models.logs import Logs
from ranking_models.manifest import Quality
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.parity import Scorer, check_batches
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32
from ranking_models.segments import segments_of

TOLERANCE = 1e-5
"""Largest difference between scores of one row in batches of different sizes."""

MAX_BATCH_ROWS = 4096

BLOCK_ROWS = 4096

SCORE = "score"
"""The output of every ranker."""

_CAST = {(TensorProto.INT64, TensorProto.INT32), (TensorProto.DOUBLE, TensorProto.FLOAT)}
"""What a graph may take, and what it is given instead: every value of the latter is one of it."""


def read_schema(file: Path) -> FeatureSchema:
    """The features of a model, as the module's text describes the file.

    Raises:
        InputError: there is no such file, or it is no schema.
    """
    try:
        return msgspec.json.decode(file.read_bytes(), type=FeatureSchema)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file}: is not a schema of features: {error}; "
            "write it like `schema` of a bundle's manifest.json"
        ) from None


def import_ranker(
    file: Path,
    schema: FeatureSchema,
    logs: Logs,
    *,
    inputs: Mapping[str, str],
    name: str,
    created: datetime,
) -> BundleContents:
    """What to write for a graph of somebody else's.

    Args:
        file: The ONNX model; weights in files beside it are read in.
        schema: The features it takes.
        logs: A labelled log that it was not trained on, with all items and
            users. All rows measure the quality, and make popularity and
            candidates.
        inputs: Their name of a graph input to ours, where they differ.
        name: The model's name.
        created: Now, with a time zone.

    Raises:
        InputError: the graph breaks a rule, cannot be adapted, or scores
            otherwise than it should; or the log lacks one of its features.
        ParityFailed: a row's score depends on its batch.
    """
    _check_declared(schema, logs)
    content, model = _load(file)
    adapted = _adapted(model, schema, inputs, file)
    try:
        check_graph(adapted, schema)
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    graph = bytes(adapted.SerializeToString(deterministic=True))
    scorer = _in_blocks(onnx_runtime_scorer(graph))
    data = encode(logs, schema)
    rows = np.arange(len(logs.label))
    scores = _probabilities(scorer(data.inputs(rows)), file)
    spread = np.linspace(0, len(rows) - 1, min(len(rows), GOLDEN_ROWS)).astype(np.intp)
    golden = golden_rows(schema, data.inputs(spread))
    reference = _probabilities(scorer(golden), file)
    parity = check_batches(
        onnx_runtime_scorer(graph),
        golden,
        reference,
        sizes=(1, 7, GOLDEN_ROWS, MAX_BATCH_ROWS),
        tolerance=TOLERANCE,
        what=str(file),
    )
    tables = Tables(
        schema=schema,
        users=data.tables["user"].take(slice(0, len(logs.users.ids))),
        items=data.tables["item"].take(slice(0, len(logs.items.ids))),
    )
    pages = item_pages(logs, scorer, tables, seen=rows, held_out=rows[:0])
    return BundleContents(
        name=name,
        created=created,
        architecture=Imported(
            producer=" ".join(f"{model.producer_name} {model.producer_version}".split()),
            sha256=hashlib.sha256(content).hexdigest(),
        ),
        schema=schema,
        graphs={"fp32": Graph(onnx=graph, tolerance=TOLERANCE, parity=parity)},
        arrays=BundleArrays(
            item_ids=id_array(logs.items.ids, "the items"),
            items=tables.items,
            user_ids=id_array(logs.users.ids, "the users"),
            users=tables.users,
            candidates=pages.anchors,
            popularity=pages.popularity,
            golden=golden,
            golden_scores=reference,
        ),
        max_batch_rows=MAX_BATCH_ROWS,
        quality=_quality(logs, scores),
        data=data_source(logs),
        tools={m.__name__: str(m.__version__) for m in (np, onnx, onnxruntime)},
        segments=segments_of(
            scorer, schema, tables.users, tables.items, popularity=pages.popularity
        ),
    )


def _check_declared(schema: FeatureSchema, logs: Logs) -> None:
    declared = {f.name: (f.source, f.kind) for f in logs.declared.features}
    for spec in schema.features:
        if declared.get(spec.name) != (spec.source, spec.kind):
            raise InputError(
                f"{logs.file}: the model's {spec.source} feature {spec.name!r} ({spec.kind}) is "
                "not declared so in the log's schema.toml; declare it there"
            )


def _load(file: Path) -> tuple[bytes, onnx.ModelProto]:
    try:
        return file.read_bytes(), onnx.load(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except Exception as error:  # protobuf's own, which has no types, and the checker's
        raise InputError(f"{file}: is not an ONNX model: {' '.join(str(error).split())}") from None


def _adapted(
    model: onnx.ModelProto, schema: FeatureSchema, names: Mapping[str, str], file: Path
) -> onnx.ModelProto:
    """The same graph between the inputs and the output that every engine expects."""
    graph = model.graph
    wanted = feature_inputs(schema)
    weights = {weight.name for weight in graph.initializer}
    theirs = [value for value in graph.input if value.name not in weights]
    unknown = sorted(names.keys() - {value.name for value in theirs})
    if unknown:
        raise InputError(f"{file}: has no input {unknown[0]!r}; it has {_names(theirs)}")
    front, inputs = [], []
    renamed = _in_our_way(graph, {*wanted, SCORE})
    for value in theirs:
        ours = names.get(value.name, value.name)
        if ours not in wanted:
            raise InputError(
                f"{file}: input {value.name!r} is none of the schema's {', '.join(wanted)}; "
                "say which with --input theirs=ours"
            )
        kind, (_, width) = wanted[ours]
        _check_axes(value, int(width), file)
        inputs.append(helper.make_tensor_value_info(ours, kind, [ROWS, width]))
        got = value.type.tensor_type.elem_type
        if got != kind and (got, kind) not in _CAST:
            due = TensorProto.DataType.Name(kind)
            raise InputError(
                f"{file}: input {value.name!r} is {TensorProto.DataType.Name(got)}, not {due}"
            )
        if ours != value.name or got != kind:
            renamed[value.name] = _aside(value.name)
            front.append(helper.make_node("Cast", [ours], [renamed[value.name]], to=got))
    back = _score_nodes(graph, file, renamed)
    _rename(graph, renamed)
    nodes = [*front, *graph.node, *back]
    score = helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, [ROWS])
    adapted = helper.make_graph(nodes, graph.name or "imported", inputs, [score])
    adapted.initializer.extend(graph.initializer)
    adapted.sparse_initializer.extend(graph.sparse_initializer)
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.CopyFrom(adapted)
    return result


def _check_axes(value: onnx.ValueInfoProto, width: int, file: Path) -> None:
    axes = value.type.tensor_type.shape.dim
    if len(axes) == 2 and not axes[1].HasField("dim_value"):
        raise InputError(
            f"{file}: input {value.name!r} has a dynamic second axis, and only the rows may differ "
            f"between calls; export the model with {width} columns there, as the schema asks for"
        )
    if len(axes) != 2 or axes[1].dim_value != width:
        shape = [axis.dim_param or axis.dim_value for axis in axes]
        raise InputError(
            f"{file}: input {value.name!r} has shape {shape}, the schema asks for [{ROWS}, {width}]"
        )
    if axes[0].HasField("dim_value"):
        raise InputError(
            f"{file}: input {value.name!r} takes {axes[0].dim_value} rows and no other number; "
            "export the model with a dynamic first axis"
        )


def _aside(name: str) -> str:
    return f"imported/{name}"


def _in_our_way(graph: onnx.GraphProto, ours: set[str]) -> dict[str, str]:
    """New names for weights and results inside the graph that have the name of one of ours."""
    inside = [weight.name for weight in graph.initializer]
    inside += [weight.values.name for weight in graph.sparse_initializer]
    inside += [made for node in graph.node for made in node.output]
    return {name: _aside(name) for name in inside if name in ours}


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for weight in graph.initializer:
        weight.name = names.get(weight.name, weight.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)


def _score_nodes(
    graph: onnx.GraphProto, file: Path, renamed: dict[str, str]
) -> list[onnx.NodeProto]:
    """What makes the graph's only output ``score [rows]``; adds the output's name to `renamed`."""
    if len(graph.output) != 1:
        raise InputError(f"{file}: gives {_names(graph.output)}; leave one output, the score")
    output = graph.output[0]
    kind = output.type.tensor_type
    axes = kind.shape.dim
    flat = len(axes) == 1 or (len(axes) == 2 and axes[1].dim_value == 1)
    if kind.elem_type != TensorProto.FLOAT or not flat:
        raise InputError(
            f"{file}: output {output.name!r} is not one float32 score per row, "
            f"[{ROWS}] or [{ROWS}, 1]"
        )
    if len(axes) == 1 and output.name == SCORE:
        renamed.pop(SCORE, None)
        return []
    renamed[output.name] = _aside(output.name)  # also `score`, which has another shape there
    shape = helper.make_tensor("imported/flat", TensorProto.INT64, [1], [-1])
    return [
        helper.make_node("Constant", [], ["imported/flat"], value=shape),
        helper.make_node("Reshape", [renamed[output.name], "imported/flat"], [SCORE]),
    ]


def _names(values: Iterable[onnx.ValueInfoProto]) -> str:
    return ", ".join(value.name for value in values) or "none"


def _in_blocks(scorer: Scorer) -> Scorer:
    def score(batch: FeatureBatch) -> Float32:
        parts = range(0, batch.rows, BLOCK_ROWS)
        found = [scorer(batch.take(slice(first, first + BLOCK_ROWS))) for first in parts]
        return np.concatenate(found)

    return score


def _probabilities(scores: Float32, file: Path) -> Float32:
    inside = (scores >= 0) & (scores <= 1)
    if not inside.all():
        raise InputError(
            f"{file}: gives {scores[~inside][0]:g} where a probability is due; "
            "end the graph with a Sigmoid"
        )
    return scores


def _quality(logs: Logs, scores: Float32) -> Quality:
    return Quality(
        split="all rows of the log given at the import",
        rows=len(scores),
        users=len(np.unique(logs.unit)),
        auc=metrics.auc(scores, logs.label),
        log_loss=metrics.log_loss(scores, logs.label),
        gauc=metrics.gauc(scores, logs.label, logs.unit),
        ndcg_at_10=metrics.ndcg_at_k(scores, logs.label, logs.unit),
    )
