"""Drivers, devices and libraries: what fits, and what to do about what does not."""

import sys
from types import SimpleNamespace

import pytest

from service.doctor.gpu import gpu_findings, libraries
from service.doctor.proof.stack import driver_version
from tests.support.fake_cuda import fake_cuda


def told(versions, driver_cuda="13.2", onnx_runtime_cuda="13.0"):
    return {one.found: one.state for one in libraries(versions, driver_cuda, onnx_runtime_cuda)}


def problems(*args):
    return [found for found, state in told(*args).items() if state == "problem"]


def test_no_libraries_are_a_note():
    assert told({}) == {"none is installed": "note"}


def test_tensorrt_11_beside_onnxruntime_gpu_is_told_and_does_no_harm():
    found = told({"tensorrt": "11.4.0.106", "onnxruntime-gpu": "1.31.1"})

    assert set(found.values()) == {"ok"}
    assert any("own TensorRT provider cannot work with TensorRT 11.4" in one for one in found)
    assert not any("provider" in one for one in told({"tensorrt": "10.16", "onnxruntime-gpu": "1"}))


@pytest.mark.parametrize("version", ["9.3.0", "12.0.0"])
def test_a_tensorrt_that_podium_does_not_build_with_is_a_problem(version):
    assert problems({"tensorrt": version}) == [f"TensorRT {version} is not supported"]


def test_a_driver_older_than_the_libraries_is_a_problem():
    assert problems({"tensorrt": "11.4", "tensorrt-cu13": "11.4"}, "12.8", None) == [
        "tensorrt-cu13 needs CUDA 13, the driver supports 12.8"
    ]
    assert problems({"onnxruntime-gpu": "1.31.1"}, "12.8", "13.0") == [
        "onnxruntime-gpu needs CUDA 13, the driver supports 12.8"
    ]
    assert problems({"tensorrt-cu12": "10.16"}, "12.8", None) == []


def test_without_a_gpu_no_library_is_too_new():
    assert problems({"tensorrt-cu13": "11.4"}, None, None) == []


def test_every_device_is_told_with_its_memory(install):
    install()

    found = {one.subject: one for one in gpu_findings()}

    assert found["GPU 0"].state == "ok"
    assert found["GPU 0"].found == (
        "Tesla T4, compute capability 7.5, 16.0 GiB of 16.0 GiB free, CUDA 13.2 by its driver"
    )


def test_a_gpu_that_does_not_answer_is_a_problem(install, gpu):
    install()
    gpu.fail("cudaMemGetInfo", "cudaErrorECCUncorrectable")

    (found,) = [one for one in gpu_findings() if one.state == "problem"]

    assert "cudaErrorECCUncorrectable" in found.found


def test_no_gpu_is_a_note_with_the_reason(monkeypatch):
    cuda = fake_cuda(count_error="cudaErrorInsufficientDriver")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)

    found = next(one for one in gpu_findings() if one.subject == "GPU")

    assert found.state == "note"
    assert "no NVIDIA driver that works (cudaErrorInsufficientDriver" in found.found


def test_without_that_file_nvml_is_asked(tmp_path, monkeypatch):
    nvml = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "581.15",
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)

    assert driver_version(tmp_path / "version") == "581.15"


def test_the_driver_says_its_version_to_the_kernel(tmp_path):
    file = tmp_path / "version"
    assert driver_version(file) is None

    file.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\n"
        "GCC version:  gcc version 12.3.0\n"
    )
    assert driver_version(file) == "580.65.06"
