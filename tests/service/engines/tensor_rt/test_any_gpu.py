"""What slots do on every TensorRT: the same bodies on the fakes and, where there is one, a GPU."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ranking_models.bundle import Bundle
from ranking_models.schema import FeatureBatch
from service.engines.cuda import CudaRuntime
from service.engines.memory import MemoryBudget
from service.engines.tensor_rt.bundles import Gpu
from service.errors import EngineFailed
from tests.support.plain_onnx import plain_scores
from tests.support.tensor_rt import loaded

ROUNDING = 1e-3
"""A real GPU multiplies fp32 in another order and with fewer bits than the reference."""

PAGE_BYTES = 2 << 20
"""CUDA takes and gives back the device's memory in pages of this size."""


@pytest.fixture
def plans(tmp_path: Path) -> Path:
    return tmp_path / "plans"


def batch(bundle: Bundle, rows: int, seed: int = 0) -> FeatureBatch:
    golden, _ = bundle.golden
    return golden.take(np.random.default_rng(seed).integers(0, golden.rows, rows))


def reference(bundle: Bundle, rows: FeatureBatch) -> np.ndarray:
    return plain_scores(bundle.graph("fp32").read_bytes(), rows)


@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "kernels"])
def test_every_number_of_rows_scores_as_onnx_runtime_scores_it(any_gpu, bundle, plans, graphs):
    plan = loaded(bundle, any_gpu, plans, slots=2, cuda_graphs=graphs)

    for count in (1, 15, 16, 17, 63, 64):
        rows = batch(bundle, count, seed=count)
        for slot in plan.slots:
            np.testing.assert_allclose(slot.score(rows), reference(bundle, rows), atol=ROUNDING)

    plan.close()


def test_batches_of_two_slots_are_on_the_device_together(any_gpu, bundle, plans):
    plan = loaded(bundle, any_gpu, plans, slots=2)
    first, second = plan.slots
    one, other = batch(bundle, 40, seed=1), batch(bundle, 9, seed=2)

    first.submit(one)
    second.submit(other)

    np.testing.assert_allclose(second.collect(), reference(bundle, other), atol=ROUNDING)
    np.testing.assert_allclose(first.collect(), reference(bundle, one), atol=ROUNDING)
    plan.close()


def test_slots_score_from_threads_of_their_own(any_gpu, bundle, plans):
    plan = loaded(bundle, any_gpu, plans, slots=3)

    def score(slot: int) -> list[float]:
        differences = []
        for seed in range(10):
            rows = batch(bundle, 1 + (7 * seed + slot) % 64, seed)
            found = plan.slots[slot].score(rows)
            differences.append(float(np.abs(found - reference(bundle, rows)).max()))
        return differences

    with ThreadPoolExecutor(3) as pool:
        assert max(max(found) for found in pool.map(score, range(3))) < ROUNDING
    plan.close()


def test_every_bucket_of_every_slot_has_its_graph(any_gpu: Gpu, bundle, plans):
    plan = loaded(bundle, any_gpu, plans, slots=2)

    captures_itself = any_gpu.trt.__version__.startswith("1.")
    assert plan.captured_graphs == (0 if captures_itself else 2 * 2)
    plan.close()


def test_a_plan_counts_against_the_budget_until_it_is_closed(any_gpu: Gpu, bundle, plans):
    cuda = CudaRuntime(any_gpu.cuda, any_gpu.device)
    budget = MemoryBudget(0.8)
    loaded(bundle, any_gpu, plans, budget=budget).close()  # CUDA itself takes its share
    before = cuda.memory().free_bytes

    plan = loaded(bundle, any_gpu, plans, slots=2, budget=budget)

    assert budget.held_bytes == max(plan.predicted_bytes, plan.measured_bytes) > 0
    plan.close()
    assert cuda.memory().free_bytes >= before - PAGE_BYTES
    assert budget.held_bytes == 0


def test_a_second_process_would_find_the_plan_compiled(any_gpu: Gpu, bundle, plans):
    loaded(bundle, any_gpu, plans).close()
    kept = {file: file.stat().st_mtime_ns for file in plans.rglob("plan")}

    loaded(bundle, any_gpu, plans).close()

    assert {file: file.stat().st_mtime_ns for file in plans.rglob("plan")} == kept
    assert len(kept) == 1


def test_timed_slots_tell_when_the_device_began_and_ended(any_gpu: Gpu, bundle, plans):
    plan = loaded(bundle, any_gpu, plans, timed=True, cuda_graphs=False)
    cuda, (slot,) = plan.cuda, plan.slots

    slot.score(batch(bundle, 64))

    marks = slot.marks
    steps = [marks.started, marks.copied_in, marks.computed, marks.done]
    took = [cuda.elapsed_ms(a, b) for a, b in itertools.pairwise(steps)]
    assert all(step >= 0 for step in took)
    assert sum(took) == pytest.approx(cuda.elapsed_ms(marks.started, marks.done), abs=0.01)
    plan.close()


@pytest.mark.parametrize("count", [0, 65])
def test_a_batch_that_fits_no_bucket_is_refused(any_gpu, bundle, plans, count):
    plan = loaded(bundle, any_gpu, plans)

    with pytest.raises(EngineFailed, match=f"{count} rows are not 1 to 64"):
        plan.slots[0].score(batch(bundle, count))

    plan.close()
