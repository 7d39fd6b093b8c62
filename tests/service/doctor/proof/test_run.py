"""The whole proof, from start to end: on the simulated GPU, and on a real one if there is any."""

import sys

import msgspec
import numpy as np
import pytest

from ranking_models.errors import InputError
from ranking_models.tensorrt.device import NoDevice
from service.doctor.proof import run, sections
from service.doctor.proof.figures import SECTIONS, decode_proof, encode_proof
from service.doctor.proof.rig import Effort
from service.engines.loading import ONNX_RUNTIME_CPU, ONNX_RUNTIME_CUDA, EngineLoader
from tests.support.fake_cuda import fake_cuda
from tests.support.fake_tensorrt import RTX, Faults
from tests.support.simulated_gpu import CudaError

PRECISIONS = ("fp16", "fp32", "int8-trt")
TENSORRT_SECTIONS = SECTIONS[:-1]


class CpuInPlaceOfCuda(EngineLoader):
    """A machine on which ONNX Runtime has a CUDA provider, with the CPU's scores and times."""

    def absent(self, name):
        return None if name == ONNX_RUNTIME_CUDA else super().absent(name)

    def load(self, name, bundle, precision, instances):
        assert name == ONNX_RUNTIME_CUDA
        return super().load(ONNX_RUNTIME_CPU, bundle, precision, instances)


def outcomes(proof):
    return {name: section.outcome for name, section in proof.sections.items()}


def test_every_section_passes_and_has_its_figures(any_proof):
    proof = any_proof

    assert proof.failures == ()
    found = outcomes(proof)
    # A real device may be done with so few rows before the next batch is handed over.
    assert found["overlap"] == "passed" or proof.gpu.driver is not None
    assert {found[name] for name in TENSORRT_SECTIONS if name != "overlap"} == {"passed"}
    assert proof.stack == ("tensorrt-rtx" if proof.tensorrt.startswith("1.") else "tensorrt")
    assert [one.precision for one in proof.build.figures] == list(PRECISIONS)
    assert [one.precision for one in proof.load.figures] == list(PRECISIONS)
    assert [one.precision for one in proof.scores.figures] == list(PRECISIONS)
    assert [one.precision for one in proof.overlap.figures] == list(PRECISIONS)
    assert [one.precision for one in proof.residents.figures.models] == list(PRECISIONS)


def test_its_json_reads_back_as_the_same_proof(any_proof):
    assert decode_proof(encode_proof(any_proof)) == any_proof


def test_every_bucket_is_timed_with_and_without_graphs_in_one_to_three_slots(any_proof):
    cells = any_proof.timing.figures

    found = {(c.precision, c.cuda_graphs, c.slots, c.rows) for c in cells}
    assert found == {
        (precision, graphs, slots, rows)
        for precision in PRECISIONS
        for graphs in (True, False)
        for slots in (1, 2, 3)
        for rows in (16, 64)
    }
    assert len(cells) == len(found)
    for cell in cells:
        assert 0 < cell.p50_ms <= cell.p95_ms
        assert cell.p99_ms is None, "so few calls have no 99th percentile"
        assert cell.rows_per_s > 0


def test_the_second_build_starts_from_the_measurements_of_the_first(install, prove):
    install()

    for one in prove().build.figures:
        assert one.timing_cache_second_bytes > one.timing_cache_first_bytes > 0
        assert one.second_s is not None


def test_second_builds_leave_time_for_what_is_measured(install, prove):
    install()
    slow = Effort(seconds=1e6, score_rows=16, cell_s=0.01, overlap_rounds=1, swap_calls=1)

    class Course(sections.Course):
        left_s = 4e5

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "Course", Course)
        build = prove(effort=slow).build

    assert build.outcome == "passed"
    assert [one.second_s for one in build.figures] == [None, None, None]
    assert build.left_out[0].startswith("second build of fp16: the time was over")


def test_tensorrt_rtx_has_no_measurements_and_captures_its_graphs_itself(install, prove):
    install(RTX)

    proof = prove()

    assert {one.timing_cache_first_bytes for one in proof.build.figures} == {None}
    assert {one.graphs_wanted for one in proof.load.figures} == {0}


def test_memory_is_counted_and_what_does_not_fit_takes_none(any_proof):
    found = any_proof.residents.figures

    assert found.held_bytes == sum(one.held_bytes for one in found.models) <= found.limit_bytes
    assert found.device_bytes_of_refused == 0
    assert "of GPU memory" in found.refused


def test_a_swap_counts_old_and_new_and_fails_no_call(any_proof):
    found = any_proof.swap.figures

    assert (found.old, found.new) == ("fp16", "int8-trt")
    assert found.both_bytes >= found.old_bytes + found.after_bytes
    assert found.failed_calls == 0
    assert found.calls_before >= 6
    assert found.calls_after >= 6


def test_it_says_what_it_does(install, prove):
    install()
    told = []

    prove(tell=told.append)

    assert told[:2] == ["build", "build fp16"]
    assert set(TENSORRT_SECTIONS) <= set(told)


def test_onnx_runtime_cuda_is_compared_where_it_is_there(install, prove, monkeypatch):
    install()
    monkeypatch.setattr(run, "EngineLoader", CpuInPlaceOfCuda)

    section = prove().onnxruntime_cuda

    assert section.outcome == "passed"
    assert [one.precision for one in section.figures.loads] == ["fp16", "fp32"]
    assert [one.reference_max for one in section.figures.scores] == [0.0, 0.0]
    assert [(one.precision, one.rows) for one in section.figures.timings] == [
        ("fp16", 16),
        ("fp32", 16),
    ]


def test_onnx_runtime_cuda_alone_is_measured_alone(install, prove, monkeypatch):
    install(None)
    monkeypatch.setattr(run, "EngineLoader", CpuInPlaceOfCuda)

    proof = prove()

    found = outcomes(proof)
    assert found.pop("onnxruntime_cuda") == "passed"
    assert set(found.values()) == {"not run"}
    assert "tensorrt cannot be imported" in proof.timing.reasons[0]
    assert (proof.stack, proof.tensorrt, proof.failures) == ("none", None, ())


def test_without_onnx_runtime_cuda_its_section_says_why(install, prove):
    install()

    section = prove().onnxruntime_cuda

    assert (section.outcome, section.figures) == ("not run", None)
    assert "built without CUDA" in section.reasons[0]


def test_a_gpu_that_nothing_can_use_is_one_line(install, prove):
    install(None)

    with pytest.raises(InputError, match=r"Tesla T4 is there, and nothing can use it.*ONNX"):
        prove()


def test_without_a_driver_nothing_is_touched(install, prove, monkeypatch):
    install()
    cuda = fake_cuda(count_error="cudaErrorInsufficientDriver")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)

    with pytest.raises(NoDevice, match="no NVIDIA driver"):
        prove()


def test_memory_that_ends_in_the_third_model_is_named(install, prove, gpu, monkeypatch):
    install()
    weights = prove().load.figures[0].weights_bytes
    allocate = gpu.allocate

    def for_two_models(kind, size):
        if kind == "device" and gpu.foreign_bytes.get("weights", 0) > 2 * weights:
            raise CudaError("cudaErrorMemoryAllocation")
        return allocate(kind, size)

    monkeypatch.setattr(gpu, "allocate", for_two_models)
    proof = prove()

    assert outcomes(proof)["residents"] == "failed"
    (failure,) = proof.failures
    assert failure.startswith("residents: model 3 of 3, int8-trt: cudaMalloc: cudaErrorMemory")
    assert outcomes(proof)["swap"] == "passed"


def test_a_graph_that_cannot_be_captured_is_counted(install, prove, gpu):
    install()
    gpu.fail("capture", "cudaErrorStreamCaptureUnsupported")

    proof = prove()

    assert proof.failures == ("load: fp16: 1 of 2 CUDA graphs could be captured",)
    assert proof.load.figures[0].graphs_captured == 1


def test_wrong_scores_are_told_with_the_difference(install, prove, gpu, monkeypatch):
    install()
    write = gpu.write
    off = np.float32(0.01)

    def a_little_off(address, values):
        write(address, np.clip(np.frombuffer(values, np.float32) + off, 0, 1).tobytes())

    monkeypatch.setattr(gpu, "write", a_little_off)
    proof = prove()

    assert outcomes(proof)["scores"] == outcomes(proof)["residents"] == "failed"
    assert "scores: fp32: golden rows differ by 0.01, 1e-05 is allowed" in proof.failures
    assert any("rows one is 0.01 from the same graph" in failure for failure in proof.failures)
    assert proof.scores.figures[0].reference_max == pytest.approx(0.01, abs=1e-4)
    assert outcomes(proof)["timing"] == "passed", "wrong scores can be timed"


def test_scores_that_are_no_numbers_have_no_figures(install, prove, gpu, monkeypatch):
    install()
    write = gpu.write
    monkeypatch.setattr(gpu, "write", lambda address, values: write(address, b"\xff" * len(values)))

    proof = prove()

    assert proof.scores.figures is None
    assert any(failure.startswith("scores: fp16: golden rows") for failure in proof.failures)
    assert decode_proof(encode_proof(proof)) == proof


def test_a_lost_gpu_ends_the_proof_and_the_rest_says_so(install, prove, gpu):
    install()
    gpu.fail("execution", "cudaErrorIllegalAddress", after=7)

    proof = prove()

    found = outcomes(proof)
    assert (found["build"], found["load"]) == ("passed", "failed")
    assert set(list(found.values())[2:]) == {"not run"}
    assert proof.scores.reasons == (
        "the GPU was lost in load; only a new process can use it again",
    )
    assert "the GPU is lost to this process" in proof.failures[0]


def test_a_graph_that_tensorrt_refuses_is_told_once(install, prove):
    install(faults=Faults(refuses_build="no kernel for this"))

    proof = prove()

    found = outcomes(proof)
    assert found.pop("build") == "failed"
    assert set(found.values()) == {"not run"}
    assert [failure[:14] for failure in proof.failures] == [
        "build: fp16: /",
        "build: fp32: /",
        "build: int8-tr",
    ]
    assert "no kernel for this" in proof.failures[0]
    assert proof.build.figures is None
    assert proof.swap.reasons == ("no plan was built",)


def test_a_call_that_fails_during_the_swap_is_counted(install, prove, gpu, monkeypatch):
    install()
    swap = run.prove_swap

    def with_a_failure(rig, trouble):
        gpu.fail("cudaGraphLaunch", "cudaErrorNotReady", after=5)  # two of them warm up
        return swap(rig, trouble)

    monkeypatch.setattr(run, "prove_swap", with_a_failure)
    proof = prove()

    assert proof.swap.figures.failed_calls == 1
    (failure,) = proof.failures
    assert failure.startswith("swap: a call failed while fp16 was replaced")
    assert "cudaErrorNotReady" in failure


def test_what_there_is_no_time_for_is_not_run(install, prove):
    install()

    proof = prove(effort=Effort(seconds=1e-9, score_rows=1))

    assert {outcomes(proof)[name] for name in TENSORRT_SECTIONS} == {"not run"}
    assert "the time was over" in proof.build.reasons[0]
    assert proof.failures == ()


def test_a_figure_that_is_missing_is_no_proof(install, prove):
    install()
    fields = msgspec.json.decode(encode_proof(prove()))
    del fields["timing"]["figures"][0]["p50_ms"]

    with pytest.raises(msgspec.ValidationError, match="p50_ms"):
        decode_proof(msgspec.json.encode(fields))
