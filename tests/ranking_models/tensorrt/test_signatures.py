"""The fakes refuse what the real modules do not have: the rest of the suite leans on this."""

import pytest

from ranking_models.tensorrt.targets import is_rtx
from tests.support.fake_cuda import T4, fake_cuda
from tests.support.fake_tensorrt import RTX, VERSIONS, fake_tensorrt

ELEVEN, TEN = VERSIONS


def test_the_recordings_are_of_the_versions_that_podium_builds_with():
    assert [fake_tensorrt(file)[0].__version__ for file in VERSIONS] == ["11.4.0.106", "10.16.1.11"]


def test_tensorrt_rtx_is_told_apart_by_what_it_alone_has():
    rtx, eleven = fake_tensorrt(RTX)[0], fake_tensorrt(ELEVEN)[0]

    assert (is_rtx(rtx), is_rtx(eleven)) == (True, False)
    assert "WHOLE_GRAPH_CAPTURE" in rtx.CudaGraphStrategy.__members__
    with pytest.raises(AttributeError, match="there is no CudaGraphStrategy"):
        _ = eleven.CudaGraphStrategy


def test_what_version_11_dropped_is_not_there():
    """Code written for TensorRT 10 alone fails here, as it would on 11."""
    eleven, ten = fake_tensorrt(ELEVEN)[0], fake_tensorrt(TEN)[0]

    assert {"FP16", "INT8"} <= set(ten.BuilderFlag.__members__)
    assert not {"FP16", "INT8"} & set(eleven.BuilderFlag.__members__)
    with pytest.raises(AttributeError, match=r"there is no IInt8EntropyCalibrator2"):
        _ = eleven.IInt8EntropyCalibrator2


@pytest.mark.parametrize("version", VERSIONS)
def test_a_call_with_another_argument_fails(version):
    trt, _ = fake_tensorrt(version)
    builder = trt.Builder(trt.ILogger())
    config = builder.create_builder_config()

    with pytest.raises(TypeError, match="create_network takes"):
        builder.create_network(explicit_batch=True)
    with pytest.raises(TypeError, match="Builder takes"):
        trt.Builder()
    with pytest.raises(AttributeError, match="has no max_workspace_size"):
        config.max_workspace_size = 1
    with pytest.raises(AttributeError, match="has no max_batch_size"):
        _ = builder.max_batch_size


def test_cuda_has_only_what_it_has():
    cuda = fake_cuda(T4)

    with pytest.raises(TypeError, match="cudaSetDevice takes"):
        cuda.cudaSetDevice(index=0)
    assert (cuda.cudaStreamNonBlocking, cuda.cudaEventDisableTiming) == (1, 2)
    with pytest.raises(AttributeError, match="there is no cudaGetDevices"):
        _ = cuda.cudaGetDevices
    with pytest.raises(AttributeError, match="cudaDeviceProp has no compute"):
        _ = cuda.cudaGetDeviceProperties(0)[1].compute
