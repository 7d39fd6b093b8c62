"""A bundle profiled for real, on this machine, and on one with a simulated GPU."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from ranking_models.bundle import Bundle, write_bundle
from ranking_models.errors import InputError
from service.clock import SystemClock
from service.engines.tensor_rt import bundles
from service.profiling import (
    Asked,
    Profile,
    ProfileOptions,
    encode_profile,
    profile,
    profile_bundle,
)
from service.profiling.drawing import draw_profile
from service.profiling.machine import this_machine
from service.profiling.opening import Opener
from service.profiling.text import render_profile
from service.profiling.together import Job, Rates
from service.settings import load_settings
from tests.support.bundles import tiny_contents, write_tiny_bundle
from tests.support.simulated_gpu import SimulatedGpu
from tests.support.split_graphs import write_split_bundle
from tests.support.tensor_rt import simulated

CPU = Asked(engines=("onnxruntime-cpu",), precisions=("fp32",), threads=(1,), splits=(False, True))


class Told:
    """The progress that was told."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.shares: list[float] = []

    def begin(self, what: str) -> None:
        self.steps.append(what)

    def share(self, done: float) -> None:
        self.shares.append(done)


@pytest.fixture
def options(tmp_path: Path) -> ProfileOptions:
    return ProfileOptions(
        asked=CPU,
        rows=(10, 100),
        seconds=0.4,
        price_per_hour=0.36,
        model="tiny",
        directory=tmp_path,
        plans=tmp_path / "plans",
    )


def profiled(path: Path, options: ProfileOptions, told: Told | None = None, **changes) -> Profile:
    options = msgspec.structs.replace(options, **changes)
    return profile_bundle(Bundle.open(path), options, progress=told or Told(), clock=SystemClock())


def names(found: Profile) -> list[str]:
    return [one.contender.name for one in found.figures]


def left_out(found: Profile) -> dict[str, str]:
    return {left.what: left.reason for left in found.left_out}


def test_whole_graph_and_split_are_measured_against_each_other(tmp_path, options):
    told = Told()
    found = profiled(write_split_bundle(tmp_path), options, told)

    assert names(found) == [
        "onnxruntime-cpu fp32, 1 thread",
        "onnxruntime-cpu fp32 split, 1 thread",
    ]
    for one in found.figures:
        assert [size.rows for size in one.sizes] == [10, 100]
        assert one.golden_difference <= 1e-5
        assert one.engines == found.machine.cores
        for size in one.sizes:
            assert 0 < size.p50_ms <= size.p95_ms
            assert size.rows_per_s == pytest.approx(1e3 * size.rows / size.p50_ms)
            assert size.efficiency == pytest.approx(size.rows_per_s / one.best.rows_per_s)
            paid = 0.36 / 3600 / (size.rows_per_s * one.engines) * 1e6
            assert size.cost_per_million == pytest.approx(paid)
    assert found.seconds <= 1.0
    assert told.steps[:2] == ["loading", "measuring"]


def test_what_is_recommended_can_be_served_and_was_tried_on_all_cores(tmp_path, options):
    found = profiled(write_split_bundle(tmp_path), options)

    advice = found.recommendation
    assert advice is not None
    file = tmp_path / "podium.toml"
    file.write_text(advice.toml)
    settings = load_settings(file, environ={}).settings
    assert settings.models.directory == str(tmp_path)
    assert settings.server.workers == found.machine.cores
    if found.machine.cores > 1:
        assert found.together is not None
        assert found.together.processes == advice.workers
        assert found.together.rows == advice.max_batch_rows
        assert found.together.rows_per_s > 0


def test_all_workers_at_once_are_held_against_one_alone(tmp_path, options, monkeypatch):
    cores = msgspec.structs.replace(this_machine(0), cores=4)
    monkeypatch.setattr(profile, "this_machine", lambda _device: cores)
    asked: list[int] = []

    def rates(_job: Job, processes: int) -> Rates:
        asked.append(processes)
        return Rates(alone=100.0, together=300.0)

    monkeypatch.setattr(profile, "rates_of", rates)
    found = profiled(write_tiny_bundle(tmp_path), options)

    assert asked == [4]
    assert found.together is not None
    assert (found.together.rows_per_s, found.together.scaling) == (300.0, 0.75)
    assert found.together.cost_per_million == pytest.approx(0.36 / 3600 / 300.0 * 1e6)


def test_processes_that_fail_cost_their_figure_and_nothing_else(tmp_path, options, monkeypatch):
    cores = msgspec.structs.replace(this_machine(0), cores=2)
    monkeypatch.setattr(profile, "this_machine", lambda _device: cores)

    def rates(_job: Job, _processes: int) -> Rates:
        raise InputError("no memory left")

    monkeypatch.setattr(profile, "rates_of", rates)
    found = profiled(write_tiny_bundle(tmp_path), options, asked=_only("onnxruntime-cpu"))

    assert found.together is None
    assert found.recommendation is not None
    assert left_out(found) == {
        "onnxruntime-cpu fp32, 1 thread in 2 processes at once": "no memory left"
    }


def test_the_json_holds_everything_and_both_pictures_can_be_made_of_it(tmp_path, options):
    found = profiled(write_tiny_bundle(tmp_path), options)

    assert msgspec.json.decode(encode_profile(found), type=Profile) == found
    assert (found.model, found.version) == (
        "tiny",
        Bundle.open(next((tmp_path / "tiny").iterdir())).manifest.version,
    )
    assert {"python", "numpy", "onnxruntime"} <= set(found.machine.versions)
    assert "onnxruntime-cpu fp32, 1 thread" in render_profile(found)
    assert draw_profile(found).startswith("<svg ")


def test_what_cannot_be_measured_is_left_out_with_the_reason(tmp_path, options):
    asked = msgspec.structs.replace(
        CPU, engines=("onnxruntime-cpu", "tensorrt"), precisions=("fp32", "fp16"), threads=(1, 512)
    )

    found = profiled(write_tiny_bundle(tmp_path), options, asked=asked, rows=(10, 5_000))

    reasons = left_out(found)
    assert set(reasons) == {
        "fp16",
        "512 threads",
        "onnxruntime-cpu fp32 split",
        "tensorrt",
        "onnxruntime-cpu fp32, 1 thread, 5000 rows",
    }
    assert reasons["onnxruntime-cpu fp32, 1 thread, 5000 rows"].endswith("4,096 rows in a call")
    assert "no GPU can be used" in reasons["tensorrt"]


def test_other_scores_than_the_golden_ones_are_never_timed(tmp_path, options):
    contents = tiny_contents()
    arrays = contents.arrays
    wrong = msgspec.structs.replace(arrays, golden_scores=1 - arrays.golden_scores)
    path = write_bundle(tmp_path, msgspec.structs.replace(contents, arrays=wrong))

    with pytest.raises(InputError, match=r"nothing of this can be measured here: .*golden scores"):
        profiled(path, options)


def test_without_a_size_that_fits_it_says_so(tmp_path, options):
    with pytest.raises(InputError, match="takes at most 4,096 rows in a call"):
        profiled(write_tiny_bundle(tmp_path), options, rows=(5_000,))


def test_every_engine_is_closed_again(tmp_path, options, monkeypatch):
    open_one, closed = Opener.open, []

    def watched(self, contender):
        found = open_one(self, contender)
        close = found.engine.close
        found.engine.close = lambda: (closed.append(contender), close())
        return found

    monkeypatch.setattr(Opener, "open", watched)
    profiled(write_tiny_bundle(tmp_path), options, asked=_only("onnxruntime-cpu"))
    assert len(closed) == 1

    with pytest.raises(InputError):
        profiled(
            write_tiny_bundle(tmp_path), options, rows=(5_000,), asked=_only("onnxruntime-cpu")
        )
    assert len(closed) == 2


def _only(*engines: str, precisions: Sequence[str] = ("fp32",)) -> Asked:
    return Asked(engines=engines, precisions=tuple(precisions), threads=(1,), splits=(False,))


def test_a_gpu_is_measured_through_the_same_seam(tmp_path, options, monkeypatch):
    gpu = SimulatedGpu()
    machine = simulated(gpu)
    monkeypatch.setattr(bundles, "find_gpu", lambda _index: machine)

    found = profiled(
        write_tiny_bundle(tmp_path),
        options,
        asked=_only("onnxruntime-cpu", "tensorrt"),
        rows=(64, 2_000),
    )

    assert names(found) == ["onnxruntime-cpu fp32, 1 thread", "tensorrt fp32"]
    on_gpu = found.figures[1]
    assert (on_gpu.engines, [size.rows for size in on_gpu.sizes]) == (1, [64])
    assert on_gpu.sizes[0].rows_per_s_thread is None
    assert left_out(found) == {"tensorrt fp32, 2000 rows": "it takes at most 1,024 rows in a call"}
