"""What every engine promises: the fake, ONNX Runtime whole and split, TensorRT on a simulated GPU,
OpenVINO, Triton's client against a server of its protocol, and an engine in a process of its own.

Where there is a GPU, TensorRT and ONNX Runtime run on that as well.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from ranking_models import openvino
from ranking_models.bundle import Bundle
from ranking_models.export.variants import MAX_BATCH_ROWS
from ranking_models.onnx_runtime import open_session
from ranking_models.schema import Encoder, FeatureBatch, Float32
from ranking_models.triton.border import model_name
from service.clock import SystemClock
from service.engines import Engine, EngineInfo, onnx_runtime_cuda
from service.engines.bound_graph import BoundGraph, Place
from service.engines.host.client import EngineClient
from service.engines.host.keeper import Begin, engine_process
from service.engines.loading import EngineLoader
from service.engines.memory import MemoryBudget
from service.engines.onnx_runtime import open_onnx_runtime
from service.engines.onnx_runtime_cuda import OnnxRuntimeCudaEngine
from service.engines.openvino import open_openvino
from service.engines.rows import (
    CandidateEngine,
    CandidateRows,
    CandidateTables,
    as_features,
    concatenated,
)
from service.engines.triton import open_triton
from service.errors import EngineFailed
from service.settings import BatchPolicy, EngineSettings
from service.testing import FakeEngine, FaultyEngine
from tests.support.simulated_gpu import SimulatedGpu
from tests.support.split_graphs import write_split_bundle
from tests.support.tensor_rt import loaded, real_gpu, simulated
from tests.support.v2_server import v2_server


class Subject(Struct, frozen=True):
    """An engine, rows that it takes, and a way to make one call of it fail."""

    engine: Engine
    bundle: Bundle
    fail_once: Callable[[], None]
    rounding: float = 1e-5
    """What the company in its batch may change of a score."""

    @property
    def golden(self) -> FeatureBatch:
        return self.bundle.golden[0]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_split_bundle(tmp_path_factory.mktemp("bundles")))


ENGINES = [
    "fake",
    "onnxruntime-cpu",
    "onnxruntime-cpu-split",
    "tensorrt-simulated",
    pytest.param("tensorrt", marks=pytest.mark.gpu),
    "onnxruntime-bound",
    pytest.param("onnxruntime-cuda", marks=pytest.mark.gpu),
    "openvino",
    "triton",
    "shared",
]


@pytest.fixture(scope="module", params=ENGINES)
def subject(
    request: pytest.FixtureRequest, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    name: str = request.param
    if name == "fake":
        faulty = FaultyEngine(FakeEngine())
        yield Subject(faulty, bundle, faulty.fail)
    elif name.startswith("tensorrt"):
        is_real = name == "tensorrt"
        gpu = real_gpu() if is_real else simulated(SimulatedGpu())
        plans = tmp_path_factory.mktemp("plans")
        (slot,) = loaded(bundle, gpu, plans, buckets=buckets(bundle)).slots
        # A bucket of another size may run other kernels, which add up in another order.
        yield Subject(slot, bundle, lambda: None, 1e-3 if is_real else 1e-5)
    elif name == "triton":
        pytest.importorskip("tritonclient.http", reason="podium[triton] is not installed")
        with v2_server(bundle, model_name(bundle.manifest, "fp32")) as server:
            engine = open_triton(bundle, "fp32", EngineSettings(triton_url=server.address), INFO)
            yield Subject(engine, bundle, lambda: None)
            engine.close()
    elif name == "shared":
        with shared_engine(bundle, tmp_path_factory.mktemp("plans")) as engine:
            yield Subject(engine, bundle, lambda: None)
    else:
        engine = opened(name, bundle)
        yield Subject(engine, bundle, lambda: None, 1e-3 if name == "onnxruntime-cuda" else 1e-5)
        engine.close()


@contextmanager
def shared_engine(bundle: Bundle, plans: Path) -> Iterator[Engine]:
    """ONNX Runtime on the CPU in a real engine process, and a worker's end of it."""
    settings = EngineSettings(calibrate=False)
    begin = Begin(
        engine=settings,
        batching=BatchPolicy(),
        plans=str(plans),
        log_level="info",
        longest_end_s=1.0,
    )
    with (
        engine_process(begin) as way,
        closing(EngineClient(way, max_execution_s=settings.max_execution_s)) as client,
    ):
        loader = EngineLoader(settings, plans, SystemClock(), shared=client)
        yield loader.load_shared("onnxruntime-cpu", bundle, "fp32", 1).engines[0]


INFO = EngineInfo(
    name="any", precision="fp32", model="tiny", version="1", max_batch_rows=MAX_BATCH_ROWS
)


def buckets(bundle: Bundle) -> tuple[int, int]:
    return 64, bundle.manifest.max_batch_rows


def opened(name: str, bundle: Bundle) -> Engine:
    """An engine on this machine; skips the test where it cannot be, with the reason."""
    if name == "onnxruntime-bound":
        graph = BoundGraph(open_session(bundle.graph("fp32")), Place("cpu"), buckets(bundle))
        return OnnxRuntimeCudaEngine(graph, INFO, lambda: None)
    if name == "onnxruntime-cuda":
        if reason := onnx_runtime_cuda.why_absent(0):
            pytest.skip(reason)
        return onnx_runtime_cuda.open_onnx_runtime_cuda(
            bundle,
            "fp32",
            EngineSettings(),
            INFO,
            instances=1,
            buckets=buckets(bundle),
            budget=MemoryBudget(0.8),
        ).engines[0]
    if name == "openvino":
        if reason := openvino.why_absent("f32"):
            pytest.skip(reason)
        settings = EngineSettings(calibrate=False)
        return open_openvino(bundle, "fp32", settings, INFO, buckets(bundle))
    settings = EngineSettings(split="on" if name.endswith("split") else "off", calibrate=False)
    return open_onnx_runtime(bundle, "fp32", settings, INFO)


def rows(subject: Subject, count: int) -> FeatureBatch:
    """As many rows as one likes, drawn from the golden ones."""
    chosen = np.random.default_rng(count).integers(0, subject.golden.rows, count)
    return subject.golden.take(chosen)


def one(batch: FeatureBatch, row: int) -> FeatureBatch:
    return batch.take(slice(row, row + 1))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 1.0])
def test_any_number_of_rows_up_to_the_limit_gets_as_many_probabilities(subject, share):
    count = max(1, int(share * subject.engine.info.max_batch_rows))

    scores = subject.engine.score(rows(subject, count))

    assert scores.dtype == np.float32
    assert scores.shape == (count,)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_row_scores_the_same_whoever_it_is_batched_with(subject):
    batch = rows(subject, 257)
    together = subject.engine.score(batch)

    alone = [subject.engine.score(one(batch, row))[0] for row in range(0, 257, 16)]

    np.testing.assert_allclose(together[::16], alone, rtol=0, atol=subject.rounding)


def test_scores_come_back_in_the_order_of_the_rows(subject):
    batch = rows(subject, 40)
    order = np.random.default_rng(1).permutation(40)

    shuffled = subject.engine.score(batch.take(order))

    np.testing.assert_allclose(
        shuffled, subject.engine.score(batch)[order], rtol=0, atol=subject.rounding
    )


def test_different_rows_get_different_scores(subject):
    assert len(set(subject.engine.score(subject.golden).tolist())) > 10


def test_the_rows_are_only_read(subject):
    batch = rows(subject, 9)
    before = {name: values.copy() for name, values in batch.inputs().items()}
    for values in batch.inputs().values():
        values.flags.writeable = False  # as the tables of a bundle are

    subject.engine.score(batch)

    for name, values in batch.inputs().items():
        np.testing.assert_array_equal(values, before[name])


def test_rows_that_lie_scattered_in_memory_score_the_same(subject):
    batch = rows(subject, 30)
    scattered = FeatureBatch(
        dense=np.asfortranarray(batch.dense)[::3],
        ids=np.repeat(batch.ids, 2, axis=0)[::6],
        multi={name: values[::3] for name, values in batch.multi.items()},
    )

    np.testing.assert_array_equal(
        subject.engine.score(scattered), subject.engine.score(batch.take(slice(0, 30, 3)))
    )


def test_scores_once_given_are_never_written_again(subject):
    first = subject.engine.score(rows(subject, 20))
    kept = first.copy()

    for count in (20, 7, 20):
        subject.engine.score(rows(subject, count))

    np.testing.assert_array_equal(first, kept)


def test_after_a_failure_the_engine_is_as_good_as_before(subject):
    batch = rows(subject, 12)
    expected = subject.engine.score(batch)
    subject.fail_once()
    broken = FeatureBatch(dense=batch.dense[:, :-1], ids=batch.ids, multi=batch.multi)

    with pytest.raises(EngineFailed, match=r"."):
        subject.engine.score(broken)

    np.testing.assert_array_equal(subject.engine.score(batch), expected)


def test_an_engine_says_what_it_is(subject):
    info = subject.engine.info

    assert info.name
    assert info.precision == "fp32"
    assert info.max_batch_rows >= 1


# --- candidates: rows that are gathered late, or never ---


def candidates(
    bundle: Bundle, requests: list[int], *, unknown: float = 0.1, seed: int = 0
) -> CandidateRows:
    """Requests of so many candidates each, some of them of items that the catalogue lacks."""
    random = np.random.default_rng(seed)
    tables = CandidateTables.of(bundle)
    context = Encoder(bundle.schema.of("context"))
    parts = []
    for count in requests:
        items = random.integers(0, bundle.items.rows, count).astype(np.int32)
        items[random.random(count) < unknown] = -1
        at = int(random.integers(bundle.users.rows))
        hour, device = int(random.integers(24)), str(random.choice(["ios", "web", "?"]))
        parts.append(
            CandidateRows(
                tables=tables,
                users=bundle.users.take(slice(at, at + 1)),
                contexts=context.encode_rows([{"hour": hour, "device": device}]),
                request_of_row=np.zeros(count, np.int32),
                items=items,
            )
        )
    return concatenated(parts)


def scored(engine: Engine, rows: CandidateRows) -> Float32:
    """As a batch is scored: by an engine that takes candidates as they are, or gathered."""
    if isinstance(engine, CandidateEngine):
        return engine.score_candidates(rows)
    return engine.score(as_features(rows))


@pytest.mark.parametrize("requests", [[1], [7], [100], [1] * 40, [3, 100, 1, 50], [4096]])
def test_candidates_score_as_their_gathered_rows(subject, bundle, requests):
    rows = candidates(bundle, requests)

    scores = scored(subject.engine, rows)

    assert scores.dtype == np.float32
    assert scores.shape == (sum(requests),)
    gathered = subject.engine.score(as_features(rows))
    np.testing.assert_allclose(scores, gathered, rtol=0, atol=subject.rounding)


def test_values_of_the_request_replace_those_of_the_catalogue(subject, bundle):
    item = Encoder(bundle.schema.of("item"))
    cheap, dear = (item.encode_rows([{"price": p, "tags": ["new"]}]) for p in (1.0, 900.0))
    rows = candidates(bundle, [5, 5])
    given = CandidateRows(
        tables=rows.tables,
        users=rows.users,
        contexts=rows.contexts,
        request_of_row=rows.request_of_row,
        items=rows.items,
        overrides={2: cheap, 7: dear, 8: cheap},
    )

    scores = scored(subject.engine, given)

    gathered = subject.engine.score(as_features(given))
    np.testing.assert_allclose(scores, gathered, rtol=0, atol=subject.rounding)
    changed = np.flatnonzero(np.abs(scores - scored(subject.engine, rows)) > subject.rounding)
    assert changed.tolist() == [2, 7, 8]


def test_unknown_items_score_as_rows_of_missing_values(subject, bundle):
    rows = candidates(bundle, [3, 4], unknown=1.0)
    missing = Encoder(bundle.schema.of("item")).encode_rows([{}])

    scores = scored(subject.engine, rows)

    gathered = as_features(rows)
    columns = [c for c, spec in enumerate(bundle.schema.ids) if spec.source == "item"]
    np.testing.assert_array_equal(gathered.ids[:, columns], np.repeat(missing.ids, 7, axis=0))
    np.testing.assert_allclose(
        scores, subject.engine.score(gathered), rtol=0, atol=subject.rounding
    )


@given(calls=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=4), min_size=2, max_size=6))
def test_no_call_writes_to_what_an_earlier_one_gave_or_was_given(subject, bundle, calls):
    """Engines keep their buffers from call to call; nobody may see that."""
    kept = []
    for number, requests in enumerate(calls):
        rows = candidates(bundle, requests, seed=number)
        scores = scored(subject.engine, rows)
        kept.append((rows, rows.items.copy(), scores, scores.copy()))

    for rows, items, scores, copy in kept:
        np.testing.assert_array_equal(rows.items, items)
        np.testing.assert_array_equal(scores, copy)
        np.testing.assert_allclose(
            scores, subject.engine.score(as_features(rows)), rtol=0, atol=subject.rounding
        )
