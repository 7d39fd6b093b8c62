"""Plans that do not fit, are of something else, or fail half way: refused, and all given back."""

import gc

import pytest
from msgspec import structs

from ranking_models.errors import InputError
from ranking_models.tensorrt.border import border_of
from ranking_models.tensorrt.device import NoDevice
from service.engines.cuda import CudaRuntime, DeviceLost
from service.engines.memory import MemoryBudget, MemoryRefused
from service.engines.tensor_rt.bundles import find_gpu
from service.engines.tensor_rt.plan import load_tensorrt
from service.errors import EngineFailed
from tests.support.fake_tensorrt import VERSIONS
from tests.support.simulated_gpu import SimulatedGpu
from tests.support.tensor_rt import simulated


def test_an_engine_says_what_it_runs_and_how_many_rows_suit_it(load, bundle):
    plan = load()

    info = plan.slots[0].info
    assert (info.name, info.precision, info.model) == ("tensorrt", "fp32", "tiny")
    assert info.version == bundle.manifest.version
    assert info.max_batch_rows == info.best_batch_rows == 64
    plan.close()


def test_buckets_above_what_the_bundle_was_checked_with_are_left_out(load, bundle):
    checked = bundle.manifest.max_batch_rows

    plan = load(buckets=(16, checked, checked + 1))

    assert plan.slots[0].info.max_batch_rows == checked
    plan.close()
    with pytest.raises(InputError, match=f"is within the {checked} rows"):
        load(buckets=(checked + 1,))


def test_the_last_slot_that_is_closed_takes_the_plan_along(load, gpu):
    budget = MemoryBudget(0.8)
    plan = load(slots=2, budget=budget)

    plan.slots[1].close()
    plan.slots[1].close()
    assert budget.held_bytes == plan.measured_bytes
    plan.slots[0].close()

    assert budget.held_bytes == 0
    assert not gpu.leaks()


def test_the_prediction_is_all_but_what_tensorrt_keeps_for_its_contexts(load, gpu):
    plan = load(slots=2)

    assert plan.predicted_bytes == gpu.used_bytes - gpu.foreign_bytes["contexts"]
    assert plan.measured_bytes == gpu.used_bytes
    plan.close()


def test_a_plan_that_does_not_fit_is_refused_with_figures(load, gpu):
    gpu.memory_bytes = 600_000
    budget = MemoryBudget(0.8)
    old = load(slots=2, budget=budget)

    # 1,163 bytes of weights; two slots of 65,536 per bucket's context, scratch and buffers
    with pytest.raises(MemoryRefused, match=r"tiny@\w+ fp32 needs .* of GPU memory") as refused:
        load(slots=2, budget=budget)

    assert refused.value.needed_bytes > refused.value.left_bytes
    assert "tiny@" in str(refused.value).split("holds")[0]
    assert budget.held_bytes == old.measured_bytes
    del refused
    gc.collect()
    old.close()
    load(slots=2, budget=budget).close()


@pytest.mark.parametrize(
    ("call", "after", "says"),
    [
        ("cudaMalloc", 0, "cudaMalloc: cudaErrorMemoryAllocation"),
        ("cudaMalloc", 5, "cudaMalloc: cudaErrorMemoryAllocation"),
        ("cudaHostAlloc", 2, "cudaHostAlloc: cudaErrorMemoryAllocation"),
        ("cudaStreamCreateWithFlags", 1, "cudaStreamCreateWithFlags"),
        ("cudaEventCreateWithFlags", 0, "cudaEventCreateWithFlags"),
        ("create_execution_context", 3, "made no execution context: out of memory"),
        ("set_input_shape", 1, "did not take 16 rows of 'ids' for the bucket of 16 rows"),
        ("set_optimization_profile_async", 1, "did not take the profile for the bucket of 64 rows"),
        ("set_tensor_address", 0, "did not take an address for the bucket of 16 rows"),
        ("infer_shapes", 0, "still wants a shape for dense, ids"),
        ("execute_async_v3", 0, "did not run 16 rows: CUDA error injected"),
        ("cudaMemGetInfo", 3, "cudaMemGetInfo"),
    ],
)
def test_what_fails_half_way_gives_everything_back(load, gpu, call, after, says):
    budget = MemoryBudget(0.8)
    gpu.fail(call, "cudaErrorMemoryAllocation", after=after)

    with pytest.raises(EngineFailed, match=says) as failed:
        load(slots=2, budget=budget)

    assert budget.held_bytes == 0
    del failed
    gc.collect()
    assert not gpu.leaks()


def test_a_device_that_is_lost_while_a_plan_is_loaded_is_told(load, gpu):
    gpu.fail("execution", "cudaErrorECCUncorrectable", after=1)

    with pytest.raises(DeviceLost, match="cudaErrorECCUncorrectable"):
        load(slots=2)


def of_nothing(plan, border):
    return b"nonsense", border


def without_an_input(plan, border):
    return plan, structs.replace(border, inputs=border.inputs[:-1])


def of_another_type(plan, border):
    first, *others = border.inputs
    return plan, structs.replace(border, inputs=(structs.replace(first, dtype="INT32"), *others))


def of_another_width(plan, border):
    first, *others = border.inputs
    return plan, structs.replace(border, inputs=(structs.replace(first, width=99), *others))


@pytest.mark.parametrize(
    ("changed", "buckets", "says"),
    [
        (of_nothing, (16, 64), "does not load the plan: the plan's magic tag"),
        (without_an_input, (16, 64), "the plan has the tensors .*; the schema asks for"),
        (of_another_type, (16, 64), r"tensor 'dense' is \('INPUT', 'FLOAT', .* says .*INT32"),
        (of_another_width, (16, 64), r"tensor 'dense' is .*, the schema says .*99"),
        (lambda *given: given, (16, 65), "no profile of the plan takes 65 rows"),
    ],
)
def test_the_plan_of_something_else_is_refused(load, bundle, gpu, tmp_path, changed, buckets, says):
    load().close()
    machine = simulated(gpu)
    (kept,) = tmp_path.rglob("plan")
    plan, border = changed(kept.read_bytes(), border_of(bundle.schema))

    with pytest.raises(EngineFailed, match=says):
        load_tensorrt(
            machine.trt,
            CudaRuntime(machine.cuda, machine.device),
            plan,
            info=load_info(bundle),
            border=border,
            buckets=buckets,
            slots=1,
            use_graphs=True,
            budget=MemoryBudget(0.8),
        )


def load_info(bundle):
    from service.engines import EngineInfo

    return EngineInfo(
        name="tensorrt",
        precision="fp32",
        model="tiny",
        version=bundle.manifest.version,
        max_batch_rows=64,
    )


def test_a_plan_of_another_tensorrt_is_compiled_again(load, tmp_path):
    eleven, ten = VERSIONS

    load(file=eleven).close()
    load(file=ten).close()

    assert len([*tmp_path.rglob("plan")]) == 2


def test_three_models_share_the_device_and_each_scores_its_own(load, bundle):
    budget = MemoryBudget(0.8)
    plans = [load(slots=2, budget=budget) for _ in range(3)]
    golden, expected = bundle.golden

    for plan in plans:
        scores = plan.slots[1].score(golden)
        assert abs(scores - expected).max() < 1e-5

    assert budget.held_bytes == sum(plan.measured_bytes for plan in plans)
    for plan in plans:
        plan.close()


def test_without_a_gpu_nothing_of_tensorrt_is_imported(monkeypatch):
    """The real runtime ends the process there."""
    import sys

    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)

    with pytest.raises(NoDevice, match="cuda-bindings cannot be imported"):
        find_gpu(0)


def test_a_device_of_the_background_is_no_different(bundle, tmp_path):
    """The device works on its own thread, as a real one does on its own silicon."""
    from tests.support.tensor_rt import loaded

    gpu = SimulatedGpu(background=True)
    plan = loaded(bundle, simulated(gpu), tmp_path, slots=2)
    golden, expected = bundle.golden

    with gpu.paused():
        plan.slots[0].submit(golden)
        plan.slots[1].submit(golden)
    scores = [slot.collect() for slot in plan.slots]

    assert all(abs(found - expected).max() < 1e-5 for found in scores)
    plan.close()
    gpu.stop()
    gc.collect()
    gpu.check()
