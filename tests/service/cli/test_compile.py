"""``podium compile``: without a GPU one line and exit code 1; with one, the plan's folder."""

import sys

import pytest

from service.cli import run
from tests.support.bundles import write_tiny_bundle
from tests.support.fake_cuda import T4, fake_cuda
from tests.support.fake_tensorrt import VERSIONS, fake_tensorrt


class Untouchable:
    """A TensorRT that nobody may look at: without a driver its objects can end the process."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"tensorrt.{name} was touched without a GPU")


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["compile", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("podium: ")
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.fixture
def bundles(tmp_path):
    write_tiny_bundle(tmp_path / "bundles")
    return tmp_path / "bundles"


def test_without_a_driver_it_says_so_and_touches_nothing(bundles, capsys, monkeypatch):
    cuda = fake_cuda(count_error="cudaErrorInsufficientDriver")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)
    monkeypatch.setitem(sys.modules, "tensorrt", Untouchable())

    said = failed(capsys, "--bundle", "tiny", "--bundles", str(bundles))

    assert "no GPU can be used: there is no NVIDIA driver" in said
    assert cuda.calls == ["cudaGetDeviceCount", "cudaGetErrorString"]


def test_without_the_packages_it_names_them(bundles, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)

    assert "podium[gpu]" in failed(capsys, "--bundle", "tiny", "--bundles", str(bundles))


def test_buckets_that_are_no_numbers_are_one_line(capsys):
    assert "'64;128'" in failed(capsys, "--bundle", "tiny", "--buckets", "64;128")


@pytest.mark.parametrize("version", VERSIONS)
def test_with_a_gpu_it_prints_where_the_plan_is(bundles, capsys, monkeypatch, version, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake_cuda(T4))
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version)[0])
    command = ["compile", "--bundle", "tiny", "--bundles", str(bundles), "--precision", "fp32"]

    assert run([*command, "--buckets", "64,128"]) == 0
    first = capsys.readouterr().out
    assert run([*command, "--buckets", "64,128"]) == 0
    second = capsys.readouterr().out

    assert "fp32 for Tesla T4: built in" in first
    assert "2 profiles up to 128 rows" in first
    assert "is there already" in second
    assert first.splitlines()[-1] == second.splitlines()[-1]
    plans = tmp_path / "state" / "podium" / "plans"
    assert (plans / first.strip().rsplit("/", 1)[-1] / "plan").is_file()
    assert run([*command, "--plans", str(bundles / "elsewhere")]) == 0
    assert (bundles / "elsewhere").is_dir()
