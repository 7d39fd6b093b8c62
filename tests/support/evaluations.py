"""Logs and bundles that fit each other, made without training, and rows to measure on."""

from pathlib import Path

import numpy as np
from msgspec import structs

from ranking_models.bundle import Bundle, BundleArrays, Graph, id_array, write_bundle
from ranking_models.bundle.parts import SegmentArrays
from ranking_models.data import encode, fit_schema
from ranking_models.evaluation import EvaluationOptions, EvaluationRows, Subject
from ranking_models.logs import Logs
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.schema import FeatureBatch
from ranking_models.segments import segments_of
from tests.support.bundles import linear_graph, run_graph, tiny_contents

OPTIONS = EvaluationOptions(k=3, resamples=200, seed=1)


def grouped(opened: Bundle, *, count: int) -> SegmentArrays:
    """The users of a bundle in so many segments, by its own scores."""
    return segments_of(
        onnx_runtime_scorer(opened.graph("fp32")),
        opened.schema,
        opened.users,
        opened.items,
        popularity=opened.popularity,
        count=count,
    )


def write_bundle_for(root: Path, logs: Logs, *, name: str = "small", seed: int = 0) -> Path:
    """A bundle with random weights that takes what the log declares.

    Its ``fp16`` has other weights than its ``fp32``, and a tolerance that lets it pass.
    """
    schema = fit_schema(logs, np.arange(len(logs.label)))
    data = encode(logs, schema)
    graphs = [linear_graph(schema, seed=at) for at in (seed, seed + 100)]
    golden = data.inputs(np.arange(32))
    items = np.arange(len(logs.items.ids))
    contents = tiny_contents(name=name)
    return write_bundle(
        root,
        structs.replace(
            contents,
            schema=schema,
            graphs={
                "fp32": Graph(onnx=graphs[0], tolerance=1e-5, parity=0.0),
                "fp16": Graph(onnx=graphs[1], tolerance=1.0, parity=0.0),
            },
            arrays=BundleArrays(
                item_ids=id_array(logs.items.ids, "items"),
                items=data.tables["item"].take(items),
                user_ids=id_array(logs.users.ids, "users"),
                users=data.tables["user"].take(np.arange(len(logs.users.ids))),
                candidates=np.full((len(items), 1), -1, np.int32),
                popularity=items.astype(np.int32),
                golden=golden,
                golden_scores=run_graph(graphs[0], golden),
            ),
            data=structs.replace(contents.data, name=logs.declared.name),
            quality=structs.replace(
                contents.quality, split="last tenth of each user's rows by time"
            ),
        ),
    )


def rows_of(labels: np.ndarray, units: np.ndarray) -> EvaluationRows:
    """Rows with a list per unit."""
    return EvaluationRows(
        rows=np.arange(len(labels)),
        labels=labels,
        units=units,
        lists=units,
        list_kind="user",
        evidence="made-up rows",
    )


def subject(name: str, scores: np.ndarray) -> Subject:
    """A scorer that knows its answer."""
    empty = FeatureBatch(
        dense=np.zeros((len(scores), 0), np.float32), ids=np.zeros((len(scores), 0), np.int32)
    )
    return Subject(name, lambda batch: scores.astype(np.float32), empty)


def clicks(users: int = 60, rows_each: int = 12, *, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Labels, users, and the chances behind the labels."""
    random = np.random.default_rng(seed)
    units = np.repeat(np.arange(users), rows_each)
    chances = random.beta(2, 3, len(units))
    return (random.random(len(units)) < chances).astype(float), units, chances
