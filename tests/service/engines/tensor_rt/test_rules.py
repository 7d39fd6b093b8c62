"""The simulated GPU catches what a real one would answer with wrong scores, stalls or a crash.

Every rule that it keeps is broken here once, by plain calls of CUDA and
TensorRT. The tests of slots lean on these: what passes there breaks no rule.
"""

import contextlib
import ctypes
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from ranking_models.tensorrt.border import Border, GraphTensor
from ranking_models.tensorrt.build import BuildOptions, build_plan
from ranking_models.tensorrt.log import BuildLog
from ranking_models.tensorrt.profiles import row_profiles
from ranking_models.tensorrt.targets import is_rtx
from tests.support.fake_cuda import T4, fake_cuda
from tests.support.fake_tensorrt import RTX, VERSIONS, fake_tensorrt
from tests.support.simulated_gpu import RuleBroken, SimulatedGpu

ROWS, BYTES = 8, 32
BORDER = Border(
    inputs=(GraphTensor(name="x", dtype="FLOAT", width=1),),
    outputs=(GraphTensor(name="score", dtype="FLOAT", width=None),),
)


def half_of_x() -> bytes:
    """``score = x / 2``."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "half"], ["column"]),
            helper.make_node("Squeeze", ["column", "axis"], ["score"]),
        ],
        "half",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 1])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        [
            helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5]),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        ],
    )
    opset = helper.make_opsetid("", 20)
    return helper.make_model(graph, ir_version=10, opset_imports=[opset]).SerializeToString()


class Bench:
    """A stream, memory of every kind, and a context that is ready to run 8 rows."""

    def __init__(self, file: str = VERSIONS[0]) -> None:
        self.gpu = SimulatedGpu()
        self.cuda = fake_cuda(T4, simulated=self.gpu)
        self.cuda.cudaGetDeviceCount()
        self.trt, _ = fake_tensorrt(file, gpu=self.gpu)
        options = BuildOptions(target=(7, 5) if file == RTX else None)
        built = build_plan(
            self.trt, half_of_x(), BORDER, row_profiles((ROWS, 64)), options, timing_cache=None
        )
        self.log = BuildLog(self.trt)
        runtime = self.trt.Runtime(self.log.logger)
        self.engine = runtime.deserialize_cuda_engine(built.plan)
        self.stream = self.new_stream()
        self.host_in, self.host_out = (self.ok("cudaHostAlloc", 256, 0) for _ in range(2))
        self.device_in, self.device_out, self.scratch = (
            self.ok("cudaMalloc", size) for size in (256, 256, 4096)
        )
        self.context = self.new_context()
        self.x = np.frombuffer((ctypes.c_float * ROWS).from_address(self.host_in), np.float32)
        self.score = np.frombuffer((ctypes.c_float * ROWS).from_address(self.host_out), np.float32)
        self.x[:] = np.arange(ROWS)

    def ok(self, name: str, *arguments: Any) -> Any:
        error, *values = getattr(self.cuda, name)(*arguments)
        assert error.name == "cudaSuccess", error.name
        return values[0] if len(values) == 1 else values

    def new_stream(self) -> Any:
        return self.ok("cudaStreamCreateWithFlags", self.cuda.cudaStreamNonBlocking)

    def new_event(self, flags: int | None = None) -> Any:
        sleeping = self.cuda.cudaEventBlockingSync | self.cuda.cudaEventDisableTiming
        return self.ok("cudaEventCreateWithFlags", sleeping if flags is None else flags)

    def new_context(self, stream: Any = None, *, captures_itself: bool = False) -> Any:
        """Another context on the same memory."""
        context = self.bare_context(captures_itself=captures_itself)
        assert context.set_optimization_profile_async(0, int(stream or self.stream))
        context.set_device_memory(self.scratch, 4096)
        assert context.set_input_shape("x", (ROWS, 1))
        assert context.set_tensor_address("x", self.device_in)
        assert context.set_tensor_address("score", self.device_out)
        return context

    def bare_context(self, *, captures_itself: bool = False) -> Any:
        """One that lacks everything."""
        strategy = self.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        if not is_rtx(self.trt):
            return self.engine.create_execution_context(strategy=strategy)
        config = self.engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        graphs = self.trt.CudaGraphStrategy
        config.cuda_graph_strategy = (
            graphs.WHOLE_GRAPH_CAPTURE if captures_itself else graphs.DISABLED
        )
        specialised = self.trt.DynamicShapesKernelSpecializationStrategy.EAGER
        config.dynamic_shapes_kernel_specialization_strategy = specialised
        return self.engine.create_execution_context(runtime_config=config)

    def copy_in(self, source: int | None = None, stream: Any = None) -> None:
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        given = self.host_in if source is None else source
        self.ok("cudaMemcpyAsync", self.device_in, given, BYTES, kind, stream or self.stream)

    def copy_out(self, target: int | None = None) -> None:
        kind = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        given = self.host_out if target is None else target
        self.ok("cudaMemcpyAsync", given, self.device_out, BYTES, kind, self.stream)

    def enqueue(self) -> None:
        self.copy_in()
        assert self.context.execute_async_v3(int(self.stream))
        self.copy_out()

    def wait(self) -> None:
        self.ok("cudaStreamSynchronize", self.stream)

    def begin(self, mode: str = "ThreadLocal") -> None:
        modes = self.cuda.cudaStreamCaptureMode
        self.ok(
            "cudaStreamBeginCapture",
            self.stream,
            getattr(modes, f"cudaStreamCaptureMode{mode}"),
        )

    def captured(self) -> Any:
        self.begin()
        self.enqueue()
        graph = self.ok("cudaStreamEndCapture", self.stream)
        return self.ok("cudaGraphInstantiate", graph, 0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def broken(rule: str) -> contextlib.AbstractContextManager[Any]:
    return pytest.raises(RuleBroken, match=rule)


def test_work_that_keeps_the_rules_is_computed(bench):
    bench.enqueue()
    bench.wait()
    np.testing.assert_array_equal(bench.score, np.arange(ROWS) / 2)

    graph = bench.captured()
    bench.x[:] = 1
    bench.ok("cudaGraphLaunch", graph, bench.stream)
    bench.wait()

    assert set(bench.score) == {0.5}
    assert not bench.gpu.violations


def test_what_is_read_before_the_device_is_done_is_not_a_number(bench):
    bench.enqueue()
    bench.wait()

    bench.enqueue()

    assert np.isnan(bench.score).all()
    bench.wait()
    assert not np.isnan(bench.score).any()


def test_pinned_input_must_not_be_written_before_the_device_is_done_with_it(bench):
    bench.enqueue()
    bench.x[3] = 99

    with broken("wrote to pinned memory"):
        bench.wait()


def test_pinned_output_must_not_be_written_before_the_device_is_done_with_it(bench):
    bench.enqueue()
    bench.score[3] = 99

    with broken("wrote to pinned memory"):
        bench.wait()


def test_only_pinned_memory_is_copied_asynchronously(bench):
    pageable = np.zeros(ROWS, np.float32)

    with broken("host's side of an asynchronous copy is not in pinned memory"):
        bench.copy_in(source=pageable.ctypes.data)
    with broken("host's side of an asynchronous copy is not in pinned memory"):
        bench.copy_out(target=pageable.ctypes.data)


def test_memory_is_not_used_after_it_is_freed(bench):
    bench.ok("cudaFreeHost", bench.host_in)

    with broken("not in pinned memory that is there"):
        bench.copy_in()


@pytest.mark.parametrize("name", ["cudaFree", "cudaFreeHost"])
def test_memory_is_not_freed_twice_nor_by_the_other_function(bench, name):
    mine, others = bench.device_out, bench.host_out
    if name == "cudaFreeHost":
        mine, others = others, mine
    bench.ok(name, mine)

    for address in (mine, others):
        with broken("memory that is not there"):
            bench.ok(name, address)


def test_memory_is_not_freed_while_the_device_uses_it(bench):
    bench.enqueue()

    for name, memory in [("cudaFree", bench.scratch), ("cudaFreeHost", bench.host_out)]:
        with broken("the device still uses"):
            bench.ok(name, memory)


def test_nothing_runs_in_the_default_stream(bench):
    with broken("default stream"):
        bench.copy_in(stream=type(bench.stream._bare)(0))
    with broken("default stream"):
        bench.context.execute_async_v3(0)


def test_streams_do_not_wait_for_the_default_one(bench):
    with broken("waits for the default one"):
        bench.ok("cudaStreamCreateWithFlags", 0)


def test_a_stream_is_not_destroyed_with_work_in_it(bench):
    bench.enqueue()

    with broken("destroys a stream that has work"):
        bench.ok("cudaStreamDestroy", bench.stream)


def test_no_call_reaches_a_busy_context(bench):
    bench.enqueue()
    calls: list[Callable[[], Any]] = [
        lambda: bench.context.set_input_shape("x", (ROWS, 1)),
        lambda: bench.context.set_tensor_address("x", bench.device_in),
        lambda: bench.context.set_device_memory(bench.scratch, 4096),
        lambda: bench.context.set_optimization_profile_async(0, int(bench.stream)),
        lambda: bench.context.execute_async_v3(int(bench.stream)),
    ]

    for call in calls:
        with broken("context that is busy"):
            call()


def test_a_context_is_not_destroyed_before_its_work_is_done(bench):
    bench.enqueue()
    bench.context = None

    with broken("destroyed before its work was done"):
        bench.wait()


def test_contexts_of_different_streams_do_not_share_scratch_memory(bench):
    stream = bench.new_stream()
    other = bench.new_context(stream)
    for name in ("x", "score"):
        other.set_tensor_address(name, bench.ok("cudaMalloc", 256))
    bench.enqueue()

    with broken("two streams use the same memory"):
        other.execute_async_v3(int(stream))


def test_the_profile_is_chosen_in_the_stream_that_runs_it(bench):
    with broken("profile was chosen in another stream"):
        bench.context.execute_async_v3(int(bench.new_stream()))


def test_shapes_are_set_before_a_batch_is_run(bench):
    bench.copy_in()
    bench.context.set_optimization_profile_async(1, int(bench.stream))  # forgets them

    with broken("without a shape"):
        bench.context.execute_async_v3(int(bench.stream))


def test_addresses_are_set_before_a_batch_is_run(bench):
    context = bench.bare_context()
    context.set_optimization_profile_async(0, int(bench.stream))
    context.set_input_shape("x", (ROWS, 1))

    with broken("without an address"):
        context.execute_async_v3(int(bench.stream))


def test_memory_is_as_large_as_the_shapes_that_are_run(bench):
    small = bench.ok("cudaMalloc", BYTES - 4)
    bench.context.set_tensor_address("score", small)
    bench.copy_in()

    with broken("a tensor at its full size"):
        bench.context.execute_async_v3(int(bench.stream))


def test_scratch_memory_is_given_and_large_enough(bench):
    bench.context.set_device_memory(bench.scratch, 256)
    bench.copy_in()

    with broken("without enough scratch"):
        bench.context.execute_async_v3(int(bench.stream))


def test_addresses_are_aligned(bench):
    with broken("scratch memory is not aligned"):
        bench.context.set_device_memory(bench.scratch + 64, 1024)
    with broken("address of x is not aligned"):
        bench.context.set_tensor_address("x", bench.device_in + 4)


def test_tensorrt_takes_no_scratch_memory_of_its_own(bench):
    with broken("scratch memory of its own"):
        bench.engine.create_execution_context()


def test_shapes_outside_the_profile_are_answered_with_false(bench):
    assert not bench.context.set_input_shape("x", (ROWS + 1, 1))
    assert "is not within the profile" in bench.log.errors[-1]


def test_memory_that_was_never_written_is_not_computed_with(bench):
    assert bench.context.execute_async_v3(int(bench.stream))

    with broken("never written"):
        bench.wait()


def test_an_error_that_was_not_taken_back_fails_what_comes_next(bench):
    """CUDA remembers the last error, and TensorRT takes it for its own."""
    bench.gpu.fail("cudaMalloc", "cudaErrorMemoryAllocation")
    assert bench.cuda.cudaMalloc(1)[0].name == "cudaErrorMemoryAllocation"
    bench.copy_in()

    assert not bench.context.execute_async_v3(int(bench.stream))
    bench.cuda.cudaGetLastError()
    assert bench.context.execute_async_v3(int(bench.stream))


def test_waiting_for_an_event_leaves_the_core_alone(bench):
    event = bench.new_event(flags=bench.cuda.cudaEventDisableTiming)

    with broken("waits busily"):
        bench.ok("cudaEventSynchronize", event)


def test_an_event_is_recorded_before_somebody_waits_for_it(bench):
    with broken("never recorded"):
        bench.ok("cudaEventSynchronize", bench.new_event())


def test_an_event_is_destroyed_once_and_after_it_was_passed(bench):
    event = bench.new_event()
    bench.ok("cudaEventRecord", event, bench.stream)
    with broken("has not passed"):
        bench.ok("cudaEventDestroy", event)
    bench.gpu.violations.clear()
    bench.wait()
    bench.ok("cudaEventDestroy", event)

    with broken("destroys an event twice"):
        bench.ok("cudaEventDestroy", event)


def test_times_come_from_timed_events_alone(bench):
    events = [bench.new_event() for _ in range(2)]

    assert bench.cuda.cudaEventElapsedTime(*events)[0].name == "cudaErrorInvalidResourceHandle"


def test_nothing_waits_or_allocates_while_it_captures(bench):
    bench.enqueue()
    bench.wait()
    event = bench.new_event()
    bench.ok("cudaEventRecord", event, bench.stream)
    bench.wait()
    bench.begin()
    calls = {
        "waits": [("cudaStreamSynchronize", bench.stream), ("cudaEventSynchronize", event)],
        "allocates": [("cudaMalloc", 1), ("cudaHostAlloc", 1, 0)],
        "frees": [("cudaFree", bench.scratch), ("cudaFreeHost", bench.host_in)],
    }

    for rule, forbidden in calls.items():
        for name, *arguments in forbidden:
            with broken(f"{rule} while it captures"):
                bench.ok(name, *arguments)


def test_another_thread_may_allocate_meanwhile(bench):
    bench.begin()
    other = threading.Thread(target=bench.ok, args=("cudaMalloc", 256))

    other.start()
    other.join()

    assert not bench.gpu.violations


@pytest.mark.parametrize("mode", ["Global", "Relaxed"])
def test_captures_hold_for_their_own_thread_alone(bench, mode):
    with broken("captures in a mode"):
        bench.begin(mode)


def test_a_context_runs_once_before_it_is_captured(bench):
    bench.begin()

    with broken("kernels are not loaded"):
        bench.enqueue()


def test_what_tensorrt_rtx_captures_itself_is_not_captured_by_us():
    bench = Bench(RTX)
    bench.context = bench.new_context(captures_itself=True)
    bench.enqueue()
    bench.wait()
    bench.begin()

    with broken("captures itself"):
        bench.enqueue()


def test_tensorrt_rtx_compiles_nothing_while_it_serves():
    bench = Bench(RTX)
    config = bench.engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(
        bench.trt.ExecutionContextAllocationStrategy.USER_MANAGED
    )

    with broken("compile kernels while it serves"):
        bench.engine.create_execution_context(runtime_config=config)


def change_shape(bench: Bench) -> None:
    bench.context.set_input_shape("x", (ROWS - 1, 1))


def change_address(bench: Bench) -> None:
    bench.context.set_tensor_address("score", bench.ok("cudaMalloc", 256))


def destroy_context(bench: Bench) -> None:
    bench.context = None


def free_memory(bench: Bench) -> None:
    bench.ok("cudaFreeHost", bench.host_out)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (change_shape, "other shapes or addresses"),
        (change_address, "other shapes or addresses"),
        (destroy_context, "execution context is gone"),
        (free_memory, "memory was freed"),
    ],
)
def test_a_graph_is_replayed_only_as_it_was_captured(bench, change, rule):
    bench.enqueue()
    bench.wait()
    graph = bench.captured()
    change(bench)

    with broken(rule):
        bench.ok("cudaGraphLaunch", graph, bench.stream)


def test_a_graph_is_launched_once_at_a_time_and_not_after_its_end(bench):
    bench.enqueue()
    bench.wait()
    graph = bench.captured()
    bench.ok("cudaGraphLaunch", graph, bench.stream)

    with broken("still runs"):
        bench.ok("cudaGraphLaunch", graph, bench.stream)
    with broken("destroys a graph that runs"):
        bench.ok("cudaGraphExecDestroy", graph)
    bench.gpu.violations.clear()
    bench.wait()
    bench.ok("cudaGraphExecDestroy", graph)
    with broken("graph that is not there"):
        bench.ok("cudaGraphLaunch", graph, bench.stream)
    with broken("destroys a graph twice"):
        bench.ok("cudaGraphExecDestroy", graph)


def test_a_thread_chooses_the_device_first():
    gpu = SimulatedGpu(index=1)
    cuda = fake_cuda(T4, T4, simulated=gpu)

    with broken("device is not 1"):
        cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking)


def test_tensorrt_is_not_asked_for_before_cuda():
    gpu = SimulatedGpu()
    trt, _ = fake_tensorrt(VERSIONS[0], gpu=gpu)

    with broken("without a GPU it ends the process"):
        trt.Runtime(BuildLog(trt).logger)


def test_more_memory_than_the_device_has_is_not_given(bench):
    free, total = bench.ok("cudaMemGetInfo")
    assert total - free == bench.gpu.used_bytes

    assert bench.cuda.cudaMalloc(free + 1) == (
        bench.cuda.cudaError_t.cudaErrorMemoryAllocation,
        None,
    )
    bench.gpu.memory_bytes = bench.gpu.used_bytes
    assert bench.bare_context() is None


def test_a_sticky_error_is_met_by_whoever_waits_and_stays(bench):
    bench.gpu.fail("execution", "cudaErrorIllegalAddress")
    bench.enqueue()

    for _ in range(2):
        (error,) = bench.cuda.cudaStreamSynchronize(bench.stream)
        assert error.name == "cudaErrorIllegalAddress"
    assert bench.cuda.cudaMalloc(1)[0].name == "cudaErrorIllegalAddress"
    assert not bench.context.execute_async_v3(int(bench.stream))


def test_what_is_left_is_listed(bench):
    assert len(bench.gpu.leaks()) == 5 + 1 + 2  # memory, a stream, an engine and its context


def test_plans_of_another_version_are_not_loaded(tmp_path: Path):
    eleven, ten = Bench(VERSIONS[0]), Bench(VERSIONS[1])
    built = build_plan(
        ten.trt, half_of_x(), BORDER, row_profiles((ROWS,)), BuildOptions(), timing_cache=None
    )
    runtime = eleven.trt.Runtime(eleven.log.logger)

    assert runtime.deserialize_cuda_engine(built.plan) is None
    assert runtime.deserialize_cuda_engine(b"nonsense") is None
    assert len(eleven.log.errors) == 2
