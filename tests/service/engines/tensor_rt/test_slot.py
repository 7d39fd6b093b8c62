"""One batch on its way through a simulated device: rules kept, failures told, nothing left."""

import numpy as np
import pytest
from msgspec.structs import replace

from service.engines.cuda import DeviceLost
from service.errors import EngineFailed
from tests.support.fake_tensorrt import RTX, VERSIONS
from tests.support.plain_onnx import plain_scores


@pytest.fixture
def golden(bundle):
    return bundle.golden[0]


@pytest.fixture
def expected(bundle, golden):
    return plain_scores(bundle.graph("fp32").read_bytes(), golden.take(slice(0, 30)))


def test_a_bucket_is_filled_up_with_rows_of_zeros(load, gpu, golden):
    plan = load()
    plan.slots[0].score(golden.take(slice(0, 64)))

    plan.slots[0].score(golden.take(slice(0, 30)))

    given = gpu.executed[-1]
    np.testing.assert_array_equal(given["ids"][:30], golden.ids[:30])
    assert {len(values) for values in given.values()} == {64}
    assert not any(values[30:].any() for values in given.values())
    plan.close()


@pytest.mark.parametrize(("rows", "bucket"), [(1, 8), (8, 8), (9, 16), (17, 32)])
def test_a_batch_runs_in_the_smallest_bucket_that_holds_it(load, gpu, golden, rows, bucket):
    plan = load(buckets=(8, 16, 32))

    plan.slots[0].score(golden.take(slice(0, rows)))

    assert len(gpu.executed[-1]["ids"]) == bucket
    plan.close()


@pytest.mark.parametrize("file", [*VERSIONS, RTX])
def test_every_bucket_runs_twice_before_the_first_batch(load, gpu, file):
    plan = load(file=file, slots=2)

    rows = [len(given["ids"]) for given in gpu.executed]
    assert rows == [16, 16, 64, 64] * 2
    plan.close()


def test_nothing_is_allocated_after_the_warm_up(load, gpu, golden):
    """Neither by us nor by TensorRT; and one that tries is stopped."""
    plan = load(slots=2)
    before = gpu.allocations

    for count in (1, 64, 16, 17) * 5:
        for slot in plan.slots:
            slot.score(golden.take(slice(0, count)))

    assert gpu.allocations == before
    with pytest.raises(EngineFailed, match=r"cudaMalloc\(256\) after the warm-up"):
        plan.cuda.allocate(256)
    plan.close()


def test_a_bucket_that_cannot_be_captured_launches_its_kernels(load, gpu, golden, expected, caplog):
    gpu.fail("capture", "cudaErrorStreamCaptureInvalidated", after=1)

    plan = load()

    assert plan.captured_graphs == 1
    assert "no CUDA graph for 64 rows" in caplog.text
    np.testing.assert_array_equal(plan.slots[0].score(golden.take(slice(0, 30))), expected)
    plan.close()


def test_tensorrt_that_refuses_to_be_captured_runs_without_a_graph(load, gpu, golden, expected):
    gpu.fail("execute_async_v3", after=1)  # the first is the warm-up

    plan = load(buckets=(64,))

    assert plan.captured_graphs == 0
    np.testing.assert_array_equal(plan.slots[0].score(golden.take(slice(0, 30))), expected)
    plan.close()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("execute_async_v3", "TensorRT did not run 64 rows: CUDA error injected"),
        ("cudaMemcpyAsync", "cudaMemcpyAsync: cudaErrorInvalidValue: text of"),
        ("cudaEventRecord", "cudaEventRecord: cudaErrorInvalidValue"),
        ("cudaEventSynchronize", "cudaEventSynchronize: cudaErrorInvalidValue"),
    ],
)
def test_after_a_failed_call_the_next_batch_is_scored(load, gpu, golden, expected, call, says):
    plan = load(cuda_graphs=False)
    gpu.fail(call, "cudaErrorInvalidValue")

    with pytest.raises(EngineFailed, match=says):
        plan.slots[0].score(golden.take(slice(5, 35)))

    np.testing.assert_array_equal(plan.slots[0].score(golden.take(slice(0, 30))), expected)
    plan.close()


def test_a_graph_that_is_not_launched_fails_its_batch_alone(load, gpu, golden, expected):
    plan = load()
    gpu.fail("cudaGraphLaunch", "cudaErrorLaunchOutOfResources")

    with pytest.raises(EngineFailed, match="cudaErrorLaunchOutOfResources"):
        plan.slots[0].score(golden)

    np.testing.assert_array_equal(plan.slots[0].score(golden.take(slice(0, 30))), expected)
    plan.close()


def test_kernels_that_fail_lose_the_device_for_every_slot(load, gpu, golden):
    """A sticky error: nothing in this process can use the GPU again, and it says so."""
    plan = load(slots=2)
    first, second = plan.slots
    gpu.fail("execution", "cudaErrorIllegalAddress")

    for slot in (first, first, second):
        with pytest.raises(DeviceLost, match=r"cudaErrorIllegalAddress\); restart the service"):
            slot.score(golden.take(slice(0, 5)))

    plan.close()


def test_only_one_batch_at_a_time_is_in_a_slot(load, golden):
    plan = load()
    (slot,) = plan.slots
    with pytest.raises(EngineFailed, match="no batch is under way"):
        slot.collect()
    slot.submit(golden.take(slice(0, 5)))

    with pytest.raises(EngineFailed, match="a batch is under way"):
        slot.submit(golden.take(slice(0, 5)))

    assert len(slot.collect()) == 5
    plan.close()


def test_rows_of_another_model_are_refused_by_the_name_of_the_input(load, golden):
    plan = load()
    (slot,) = plan.slots
    few = golden.take(slice(0, 5))
    wrong = {
        r"'dense' of the batch is float32 \(5, 1\)": replace(few, dense=few.dense[:, :1]),
        r"'ids' of the batch is int64": replace(few, ids=few.ids.astype(np.int64)),
        r"wants input 'multi_\w+', the batch has none": replace(few, multi={}),
    }

    for says, rows in wrong.items():
        with pytest.raises(EngineFailed, match=says):
            slot.score(rows)

    plan.close()


def test_a_slot_that_is_closed_with_a_batch_under_way_waits_for_it(load, gpu, golden):
    plan = load(slots=2)
    plan.slots[0].submit(golden.take(slice(0, 20)))

    plan.slots[0].close()

    assert len(plan.slots[1].score(golden.take(slice(0, 20)))) == 20
    plan.close()


def test_the_device_of_the_settings_is_used_from_every_thread(bundle, tmp_path, golden):
    """CUDA remembers the device per thread: a new thread is on device 0 until it is told."""
    from concurrent.futures import ThreadPoolExecutor

    from tests.support.simulated_gpu import SimulatedGpu
    from tests.support.tensor_rt import loaded, simulated

    second = SimulatedGpu(index=1)
    with ThreadPoolExecutor(1) as loader:
        plan = loader.submit(loaded, bundle, simulated(second), tmp_path).result()

    with ThreadPoolExecutor(1) as other:
        scores = other.submit(plan.slots[0].score, golden.take(slice(0, 5))).result()
        other.submit(plan.close).result()

    assert len(scores) == 5
    second.check()


def test_copies_and_kernels_of_different_slots_overlap(load, golden):
    """By the device's own clock: the second batch starts before the first one is done."""
    plan = load(slots=2, timed=True, cuda_graphs=False)
    first, second = plan.slots

    first.submit(golden.take(slice(0, 64)))
    second.submit(golden.take(slice(0, 64)))
    first.collect()
    second.collect()

    cuda = plan.cuda
    assert cuda.elapsed_ms(first.marks.started, second.marks.copied_in) > 0
    assert cuda.elapsed_ms(second.marks.copied_in, first.marks.done) > 0
    plan.close()
