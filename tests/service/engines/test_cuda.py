"""Every error of CUDA's is told; the sticky ones are told apart."""

import pytest

from ranking_models.tensorrt.device import find_device
from service.engines.cuda import STICKY, CudaFailed, CudaRuntime, DeviceLost
from tests.support.fake_cuda import FILE, T4, fake_cuda
from tests.support.recorded import Recording
from tests.support.simulated_gpu import SimulatedGpu


@pytest.fixture
def gpu() -> SimulatedGpu:
    return SimulatedGpu(memory_bytes=1 << 20)


@pytest.fixture
def cuda(gpu: SimulatedGpu) -> CudaRuntime:
    module = fake_cuda(T4, simulated=gpu)
    return CudaRuntime(module, find_device(module, 0))


def test_an_error_has_the_call_its_name_and_its_text(cuda):
    with pytest.raises(CudaFailed, match=r"^cudaMalloc: cudaErrorMemoryAllocation: text of") as no:
        cuda.allocate(2 << 20)

    assert (no.value.call, no.value.error) == ("cudaMalloc", "cudaErrorMemoryAllocation")
    assert not cuda.is_lost
    cuda.free(cuda.allocate(1 << 10))


def test_an_error_is_taken_back_so_that_nobody_else_meets_it(cuda, gpu):
    with pytest.raises(CudaFailed):
        cuda.allocate(2 << 20)

    assert gpu.last_error == ""


def test_every_sticky_error_is_one_of_cudas():
    known = Recording(FILE).classes["cudaError_t"]["members"]

    assert set(known) >= STICKY


@pytest.mark.parametrize("error", sorted(STICKY))
def test_after_a_sticky_error_cuda_is_not_called_again(cuda, gpu, error):
    memory = cuda.allocate(256)
    gpu.fail("cudaMemGetInfo", error)

    with pytest.raises(DeviceLost, match=rf"\(cudaMemGetInfo: {error}\)"):
        cuda.memory()
    with pytest.raises(DeviceLost, match=error):
        cuda.allocate(1)
    cuda.free(memory)

    assert cuda.is_lost
    assert memory in gpu.memory, "what a lost device held is gone with it"


def test_what_cannot_be_given_back_is_logged_and_does_not_raise(cuda, gpu, caplog):
    memory = cuda.allocate(256)
    gpu.fail("cudaFree", "cudaErrorInvalidValue")

    cuda.free(memory)

    assert "not given back to the GPU: cudaFree: cudaErrorInvalidValue" in caplog.text


def test_time_passes_on_the_device_between_timed_events(cuda):
    stream, host, device = cuda.stream(), cuda.allocate_pinned(1 << 16), cuda.allocate(1 << 16)
    started, done = (cuda.event(timed=True) for _ in range(2))

    cuda.record(started, stream)
    cuda.copy_in(device, host, 1 << 16, stream)
    cuda.record(done, stream)
    cuda.wait(done)

    assert cuda.elapsed_ms(started, done) > 0


def test_a_capture_that_fails_leaves_the_stream_usable(cuda, gpu):
    stream, host, device = cuda.stream(), cuda.allocate_pinned(256), cuda.allocate(256)

    def enqueue() -> None:
        cuda.copy_in(device, host, 256, stream)
        gpu.fail("cudaMemcpyAsync", "cudaErrorInvalidValue")
        cuda.copy_in(device, host, 256, stream)

    with pytest.raises(CudaFailed, match="cudaMemcpyAsync"):
        cuda.captured(stream, enqueue)

    assert not gpu.graphs
    cuda.copy_in(device, host, 256, stream)
    cuda.synchronise(stream)
