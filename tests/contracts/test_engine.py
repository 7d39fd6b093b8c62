"""What every engine promises, on the fake and on ONNX Runtime."""

from collections.abc import Callable

import numpy as np
import pytest
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.schema import FeatureBatch
from service.engines import Engine, EngineInfo
from service.engines.onnx_runtime import OnnxRuntimeEngine
from service.errors import EngineFailed
from service.testing import FakeEngine, FaultyEngine
from tests.support.bundles import write_tiny_bundle

ROUNDING = 1e-5


class Subject(Struct, frozen=True):
    """An engine, rows that it takes, and a way to make one call of it fail."""

    engine: Engine
    golden: FeatureBatch
    fail_once: Callable[[], None]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture(params=["fake", "onnxruntime-cpu"])
def subject(request: pytest.FixtureRequest, bundle: Bundle) -> Subject:
    golden, _ = bundle.golden
    if request.param == "fake":
        faulty = FaultyEngine(FakeEngine())
        return Subject(faulty, golden, faulty.fail)
    info = EngineInfo(
        name="onnxruntime-cpu",
        precision="fp32",
        model="tiny",
        version=bundle.manifest.version,
        max_batch_rows=bundle.manifest.max_batch_rows,
    )
    engine = OnnxRuntimeEngine(bundle.graph("fp32"), info=info, threads=1)
    return Subject(engine, golden, lambda: None)


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

    np.testing.assert_allclose(together[::16], alone, rtol=0, atol=ROUNDING)


def test_scores_come_back_in_the_order_of_the_rows(subject):
    batch = rows(subject, 40)
    order = np.random.default_rng(1).permutation(40)

    shuffled = subject.engine.score(batch.take(order))

    np.testing.assert_allclose(shuffled, subject.engine.score(batch)[order], rtol=0, atol=ROUNDING)


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
