"""GPU figures by NVML: right units, nothing where there is nothing, never in anybody's way."""

import sys
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry import gpu as module
from service.telemetry.gpu import FRESH_S, GpuFigures, gpu_figures, read_gpus
from service.telemetry.merging import encode_snapshot, family_snapshot, merged_page
from service.testing import FakeClock
from tests.support.fake_nvml import FakeGpu, NVMLError_GpuIsLost, fake_nvml


def shown(figures: GpuFigures) -> dict[tuple[str, ...], float]:
    """Sample name and label values to value, as they stand on the page."""
    page = merged_page([encode_snapshot(list(map(family_snapshot, figures.collect())))], "")[0]
    families = text_string_to_metric_families(page.decode())
    samples = [sample for family in families for sample in family.samples]
    return {(s.name, *(s.labels[label] for label in sorted(s.labels))): s.value for s in samples}


def taken(*gpus: FakeGpu, triton_names: bool = False) -> GpuFigures:
    figures = GpuFigures(triton_names=triton_names)
    figures.take(read_gpus(fake_nvml(*gpus)))
    return figures


def test_figures_are_in_base_units():
    assert shown(taken(FakeGpu())) == {
        ("podium_gpu_info", "580.65.06", "0", "NVIDIA L4", "GPU-0"): 1,
        ("podium_gpu_utilization", "0"): 0.37,
        ("podium_gpu_memory_bytes", "0", "used"): 6 << 30,
        ("podium_gpu_memory_bytes", "0", "free"): 18 << 30,
        ("podium_gpu_memory_bytes", "0", "total"): 24 << 30,
        ("podium_gpu_power_watts", "0"): 31.5,
        ("podium_gpu_power_limit_watts", "0"): 72,
        ("podium_gpu_temperature_celsius", "0"): 41,
        ("podium_gpu_clock_hertz", "sm", "0"): 2.04e9,
        ("podium_gpu_clock_hertz", "memory", "0"): 6.251e9,
        ("podium_gpu_energy_joules_total", "0"): 5000,
        ("podium_gpu_ecc_errors_total", "0", "corrected"): 3,
        ("podium_gpu_ecc_errors_total", "0", "uncorrected"): 0,
    }


def test_what_a_gpu_does_not_support_is_absent_and_the_rest_is_there():
    plain = FakeGpu(without=("nvmlDeviceGetTotalEccErrors", "nvmlDeviceGetPowerUsage"))
    found = {name for name, *_ in shown(taken(plain, FakeGpu(1)))}
    of_the_first = set(shown(taken(plain)))

    assert "podium_gpu_ecc_errors_total" in found
    assert ("podium_gpu_power_limit_watts", "0") in of_the_first
    assert not any(name.startswith(("podium_gpu_ecc", "podium_gpu_power_watts"))
                   for name, *_ in of_the_first)  # fmt: skip


def test_a_gpu_that_is_lost_hides_no_other():
    lost = FakeGpu(0)
    lost.is_lost = True

    assert {key[-1] for key in shown(taken(lost, FakeGpu(1))) if "utilization" in key[0]} == {"1"}


def test_without_a_gpu_the_series_are_absent_and_not_zero():
    assert shown(taken(triton_names=True)) == {}


def test_old_figures_are_not_shown():
    clock = FakeClock()
    figures = GpuFigures(now=clock.now)
    figures.take(read_gpus(fake_nvml(FakeGpu())))
    clock.advance(FRESH_S)
    before = shown(figures)
    clock.advance(0.1)

    assert before
    assert shown(figures) == {}


def test_triton_names_are_those_of_its_server():
    found = shown(taken(FakeGpu(), triton_names=True))

    assert {key: value for key, value in found.items() if key[0].startswith("nv_")} == {
        ("nv_gpu_utilization", "GPU-0"): 0.37,
        ("nv_gpu_memory_total_bytes", "GPU-0"): 24 << 30,
        ("nv_gpu_memory_used_bytes", "GPU-0"): 6 << 30,
        ("nv_gpu_power_usage", "GPU-0"): 31.5,
        ("nv_gpu_power_limit", "GPU-0"): 72,
        ("nv_energy_consumption", "GPU-0"): 5000,
    }


@pytest.fixture
def install(monkeypatch):
    monkeypatch.setattr(module, "READ_S", 0.01)
    return lambda nvml: monkeypatch.setitem(sys.modules, "pynvml", nvml)


def test_the_reader_is_a_thread_that_ends_with_its_block(install):
    install(fake_nvml(FakeGpu()))
    with gpu_figures() as figures:
        until(lambda: shown(figures))
        assert "podium-gpu" in thread_names()

    assert "podium-gpu" not in thread_names()


def test_without_a_driver_nothing_is_read_and_no_thread_is_left(install, caplog):
    install(fake_nvml(has_driver=False))
    with gpu_figures() as figures:
        until(lambda: "podium-gpu" not in thread_names())
        assert list(figures.collect()) == []
    assert caplog.text == ""


def test_without_the_package_there_is_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with gpu_figures() as figures:
        assert list(figures.collect()) == []
        assert "podium-gpu" not in thread_names()


def test_a_driver_that_goes_and_comes_back_is_read_again(install, caplog):
    nvml = fake_nvml(FakeGpu())
    there = nvml._functions["nvmlDeviceGetCount"]

    def gone() -> int:
        raise NVMLError_GpuIsLost("the driver is being replaced")

    install(nvml)
    with gpu_figures() as figures:
        until(lambda: shown(figures))
        nvml._functions["nvmlDeviceGetCount"] = gone
        until(lambda: not shown(figures))
        nvml._functions["nvmlDeviceGetCount"] = there
        until(lambda: shown(figures))

    assert caplog.text.count("the driver is being replaced") == 1


def thread_names() -> set[str]:
    return {thread.name for thread in threading.enumerate()}


def until(true) -> None:
    """Let the reader's thread run until something holds."""
    beat = threading.Event()
    for _ in range(1000):
        if true():
            return
        beat.wait(0.01)
    raise AssertionError("it never came to be")
