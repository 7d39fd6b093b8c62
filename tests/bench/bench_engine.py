"""What a request costs from its ids to its scores, on ONNX Runtime, whole and split.

    python -m tests.bench engine [--bundles DIRECTORY]

The benchmark's model (see ``tests/bench/workload.py``) on one thread, in
microseconds of CPU: median and 10th percentile. What comes last are choices
that were made by measurement, each beside what it was chosen over; rivals take
turns, so that noise hits them alike.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime

from ranking_models.bundle import Bundle
from ranking_models.onnx_runtime import open_session
from service.engines import EngineInfo
from service.engines.onnx_runtime import open_onnx_runtime
from service.engines.rows import CandidateRows, as_features, concatenated
from service.features import BundleFeatures
from service.id_index import IdIndex
from service.messages import RankRequest
from service.settings import EngineSettings
from service.slate import best
from tests.bench.workload import benchmark_bundle, work

BUNDLES = Path(sys.prefix) / "bench" / "bundles"
SHAPES = ((10, 1), (10, 40), (100, 1), (100, 4), (100, 8))
"""Candidates of a request, requests of a batch."""
TURNS = 100


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--bundles", type=Path, default=BUNDLES, help="where the model is kept")
    bundle = benchmark_bundle(arguments.parse_args().bundles)
    features = BundleFeatures(bundle)
    rows = {}
    print("us of CPU, median (10th percentile)")
    for candidates in (10, 100):
        asked = [
            msgspec.json.decode(body, type=RankRequest)
            for body in work(bundle, candidates=candidates, count=TURNS).bodies
        ]
        rows[candidates] = per_request(features, asked)
    per_batch(bundle, rows)
    choices(bundle, rows[100])


def per_request(features: BundleFeatures, asked: list[RankRequest]) -> list[CandidateRows]:
    """Print what every request pays by itself, and give its rows."""
    candidates = len(asked[0].candidates)
    encoded = [features.encode(request) for request in asked]
    scores = np.random.default_rng(0).random(candidates, np.float32)
    ids = encoded[0].item_ids
    show(f"{candidates} candidates: encode", features.encode, asked)
    show(f"{candidates} candidates: rows", features.rows, encoded)
    show(f"{candidates} candidates: best 20", lambda _: best(ids, scores, 20), encoded)
    return [features.rows(one) for one in encoded]


def per_batch(bundle: Bundle, rows: dict[int, list[CandidateRows]]) -> None:
    whole, split = (engine_of(bundle, split=chosen) for chosen in ("off", "on"))
    for engine in (whole, split):
        what = "split" if engine.info.split else "whole"
        print(f"best batch of the {what} engine: {engine.info.best_batch_rows} rows")
    for candidates, requests in SHAPES:
        of = rows[candidates]
        parts = [[of[(i + j) % TURNS] for j in range(requests)] for i in range(TURNS)]
        batches = [concatenated(part) for part in parts]
        what = f"{requests} x {candidates} rows"
        show(f"{what}: concatenate", concatenated, parts)
        show(f"{what}: gather", as_features, batches)
        took = rivals(
            {
                "whole graph, gathered": lambda part: whole.score(as_features(concatenated(part))),
                "exact split": lambda part: split.score_candidates(concatenated(part)),
            },
            parts,
        )
        for name, (median, low) in took.items():
            rate = candidates * requests / median
            print(f"{what + ': ' + name:44}{median:9.1f} ({low:.1f})  {rate:6.3f} rows a us")


def choices(bundle: Bundle, rows: list[CandidateRows]) -> None:
    ids = [tuple(bundle.item_ids[part.items].tolist()) for part in rows]
    index = IdIndex(bundle.item_ids)
    dictionary = {text: at for at, text in enumerate(bundle.item_ids.tolist())}
    for texts in ids:
        set(texts)  # hashed, as those of a request are by the check that they differ
    compare(
        "100 ids to positions",
        {
            "flat arrays": index.positions,
            "a dictionary": lambda texts: np.fromiter(
                map(dictionary.get, texts, repeat(-1)), np.int32, len(texts)
            ),
        },
        ids,
    )
    table, places = bundle.items.dense, [part.items.astype(np.intp) for part in rows]
    compare(
        "100 rows of the catalogue",
        {
            "take, clipped": lambda at: table.take(at, axis=0, mode="clip"),
            "indexing": lambda at: table[at],
        },
        places,
    )
    session = open_session(bundle.graph("fp32"))
    for size in (10, 100, 400):
        batch = as_features(concatenated(rows[:4]).take(slice(0, size))).inputs()
        compare(
            f"{size} rows into the whole graph",
            {
                "arrays": lambda feed: session.run(["score"], feed),
                "bound buffers, nothing copied": bound(session, batch),
            },
            [batch] * TURNS,
        )


def engine_of(bundle: Bundle, *, split: str) -> Any:
    manifest = bundle.manifest
    info = EngineInfo(
        name="onnxruntime-cpu",
        precision="fp32",
        model=manifest.name,
        version=manifest.version,
        max_batch_rows=manifest.max_batch_rows,
    )
    settings = msgspec.convert({"split": split, "split_max_mb": 4096}, EngineSettings)
    return open_onnx_runtime(bundle, "fp32", settings, info)


def bound(session: onnxruntime.InferenceSession, feed: Any) -> Callable[[Any], object]:
    """A call whose inputs and output lie in buffers that the session knows."""
    binding = session.io_binding()
    for name, values in feed.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(values))
    scores = np.empty(len(feed["dense"]), np.float32)
    binding.bind_ortvalue_output("score", onnxruntime.OrtValue.ortvalue_from_numpy(scores))
    return lambda _: session.run_with_iobinding(binding)


def compare(what: str, ways: dict[str, Callable[[Any], object]], given: Sequence[Any]) -> None:
    for name, (median, low) in rivals(ways, given).items():
        print(f"{what + ': ' + name:60}{median:9.1f} ({low:.1f})")


def show(what: str, call: Callable[[Any], object], given: Sequence[Any]) -> None:
    ((median, low),) = rivals({what: call}, given).values()
    print(f"{what:44}{median:9.1f} ({low:.1f})")


def rivals(
    ways: dict[str, Callable[[Any], object]], given: Sequence[Any]
) -> dict[str, tuple[float, float]]:
    """Median and 10th percentile of each, in us; they take turns with every input."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for one in given:
        for name, call in ways.items():
            started = time.thread_time()
            call(one)
            took[name].append(1e6 * (time.thread_time() - started))
    return {
        name: (float(np.median(times)), float(np.percentile(times, 10)))
        for name, times in took.items()
    }
