"""Whether there is a GPU is asked of CUDA, and answered in one line, before TensorRT is touched."""

import sys

import pytest

from ranking_models.tensorrt.device import (
    Device,
    NoDevice,
    cuda_runtime,
    find_device,
    load_tensorrt,
)
from tests.support.fake_cuda import L4, T4, fake_cuda


def test_a_gpu_is_made_current_and_described():
    cuda = fake_cuda(T4, L4)

    device = find_device(cuda, 1)

    assert device == Device(index=1, name="NVIDIA L4", compute_capability=(8, 9), driver="13.2")
    assert cuda.calls[0] == "cudaGetDeviceCount"
    assert "cudaSetDevice" in cuda.calls


NO_DEVICE = {
    "no driver": (
        fake_cuda(count_error="cudaErrorInsufficientDriver"),
        0,
        r"no NVIDIA driver that works \(cudaErrorInsufficientDriver: text of",
    ),
    "no GPU": (fake_cuda(), 0, "the NVIDIA driver finds none"),
    "not this one": (fake_cuda(T4), 1, "there is no GPU 1: this machine has device 0"),
    "not these": (fake_cuda(T4, L4), 5, "there is no GPU 5: this machine has devices 0 to 1"),
    "broken": (
        fake_cuda(T4, set_error="cudaErrorDevicesUnavailable"),
        0,
        "GPU 0 cannot be used: cudaErrorDevicesUnavailable",
    ),
}


@pytest.mark.parametrize("machine", NO_DEVICE)
def test_without_a_gpu_it_says_why_in_one_line(machine):
    cuda, index, message = NO_DEVICE[machine]

    with pytest.raises(NoDevice, match=message) as refusal:
        find_device(cuda, index)

    assert "\n" not in str(refusal.value)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)

    with pytest.raises(
        NoDevice, match=r"package cuda-bindings cannot be imported .* podium\[gpu\]"
    ):
        cuda_runtime()
    with pytest.raises(NoDevice, match=r"package tensorrt cannot be imported .* podium\[gpu\]"):
        load_tensorrt()


def test_another_major_version_of_tensorrt_is_refused(monkeypatch):
    class Old:
        __version__ = "8.6.1"

    monkeypatch.setitem(sys.modules, "tensorrt", Old)

    with pytest.raises(NoDevice, match=r"TensorRT 8\.6\.1 is not one"):
        load_tensorrt()
