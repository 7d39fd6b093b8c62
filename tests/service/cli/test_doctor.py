"""``podium doctor``: lines or JSON, exit code 0 or 1; with a GPU, the proof."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from service.cli import run
from service.doctor.findings import Examination
from service.doctor.proof.figures import decode_proof
from service.doctor.proof.rig import Effort
from tests.support.bundles import write_tiny_bundle
from tests.support.fake_cuda import T4, fake_cuda
from tests.support.fake_tensorrt import RTX, VERSIONS, fake_tensorrt
from tests.support.simulated_gpu import SimulatedGpu

ROOT = Path(__file__).parents[3]

LITTLE = Effort(
    seconds=60,
    score_rows=64,
    cell_s=0.01,
    cell_calls=2,
    warm_up_calls=1,
    overlap_rounds=2,
    swap_calls=2,
)


@pytest.fixture
def config(tmp_path):
    write_tiny_bundle(tmp_path / "bundles")
    file = tmp_path / "podium.toml"
    file.write_text(
        'state_directory = "state"\n[server]\nport = 0\n[models]\ndirectory = "bundles"\n'
        '[deployments.only]\nmodel = "tiny"\n[engine]\nrow_buckets = [16]\n'
    )
    return file


@pytest.fixture
def no_gpu(monkeypatch):
    cuda = fake_cuda(count_error="cudaErrorInsufficientDriver")
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", cuda)


@pytest.fixture(params=[VERSIONS[0], RTX])
def gpu(request, monkeypatch):
    """A simulated one, and a proof that takes less than a person's."""
    device = SimulatedGpu()
    trt = fake_tensorrt(request.param, gpu=device)[0]
    is_rtx = request.param == RTX
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", fake_cuda(T4, simulated=device))
    monkeypatch.setitem(sys.modules, "tensorrt", None if is_rtx else trt)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", trt if is_rtx else None)
    monkeypatch.setattr("service.doctor.proof.rig.Effort", lambda: LITTLE)
    return device


def test_a_machine_without_a_gpu_is_ready_to_serve(config, no_gpu, capsys):
    assert run(["doctor", "--config", str(config)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "ready to serve"
    states = {line.split()[0] for line in lines[:-1]}
    assert states <= {"ok", "note"}
    (gpu,) = [line for line in lines if line.split()[1] == "GPU" and "no GPU can be used" in line]
    assert gpu.startswith("note")


def test_a_bundle_that_is_missing_is_a_problem_and_exit_code_1(config, no_gpu, capsys):
    config.write_text(config.read_text().replace('"tiny"', '"other"'))

    assert run(["doctor", "--config", str(config)]) == 1

    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "1 problem"
    (line,) = [line for line in lines if line.startswith("problem")]
    assert "deployment only" in line


def test_without_onnx_runtime_it_runs_and_says_so(config):
    code = (
        "import sys; sys.modules['onnxruntime'] = None; from service.cli import run; "
        f"sys.exit(run(['doctor', '--config', {str(config)!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )

    problems = [line for line in done.stdout.splitlines() if line.startswith("problem")]
    assert done.returncode == 1
    assert [line.split()[1] for line in problems] == ["ONNX", "deployment"]
    assert all("podium[cpu] or podium[gpu]" in line for line in problems)
    assert done.stderr == ""


def test_its_json_is_the_examination(config, no_gpu, capsys):
    assert run(["doctor", "--config", str(config), "--json"]) == 0

    found = msgspec.json.decode(capsys.readouterr().out, type=Examination)
    assert found.problems == 0
    assert {"Python", "memory", "embedded Valkey", "deployment only", "plans"} <= {
        one.subject for one in found.findings
    }


def test_a_state_directory_that_cannot_be_written_is_a_problem(config, no_gpu, capsys):
    (config.parent / "state").write_text("in the way")

    assert run(["doctor", "--config", str(config)]) == 1

    assert "state cannot be written" in capsys.readouterr().out


def test_settings_that_are_wrong_are_one_line(tmp_path, capsys):
    assert run(["doctor", "--config", str(tmp_path / "none.toml")]) == 2

    assert capsys.readouterr().err.count("\n") == 1


def test_the_proof_needs_a_gpu_and_says_so_in_one_line(config, no_gpu, capsys):
    assert run(["doctor", "--config", str(config), "--gpu-proof"]) == 1

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("podium: no GPU can be used: there is no NVIDIA driver")
    assert printed.err.count("\n") == 1


def test_the_proof_prints_a_summary_and_writes_its_json(config, gpu, capsys, tmp_path):
    out = tmp_path / "gpu.json"

    assert run(["doctor", "--config", str(config), "--gpu-proof", "--out", str(out)]) == 0

    printed = capsys.readouterr()
    proof = decode_proof(out.read_bytes())
    assert proof.gpu.name == "Tesla T4"
    assert proof.bundle.model == "tiny"
    titles = ("Plans", "Loading", "Scores", "Times", "Overlap", "Three models", "Hot swap")
    for title in titles:
        assert f"\n{title}: passed\n" in printed.out
    assert "ONNX Runtime CUDA: not run" in printed.out
    assert "  build" in printed.err
    gpu.check()


def test_the_proof_prints_its_json(config, gpu, capsys):
    assert run(["doctor", "--config", str(config), "--gpu-proof", "--json"]) == 0

    assert decode_proof(capsys.readouterr().out.encode()).failures == ()


def test_a_proof_that_fails_says_where_and_still_writes_its_json(config, gpu, capsys, tmp_path):
    gpu.fail("create_execution_context")
    out = tmp_path / "gpu.json"

    assert run(["doctor", "--config", str(config), "--gpu-proof", "--out", str(out)]) == 1

    printed = capsys.readouterr()
    assert "podium: the proof failed: load: fp32: " in printed.err
    assert "Loading: failed" in printed.out
    assert decode_proof(out.read_bytes()).load.outcome == "failed"


def test_a_place_that_is_not_there_is_refused_before_anything_runs(config, gpu, capsys, tmp_path):
    out = tmp_path / "nowhere" / "gpu.json"

    assert run(["doctor", "--config", str(config), "--gpu-proof", "--out", str(out)]) == 1

    assert "there is no such folder" in capsys.readouterr().err
    assert gpu.allocations == 0


def test_another_device_and_bundle_may_be_named(config, gpu, capsys):
    command = ["doctor", "--config", str(config), "--gpu-proof"]

    assert run([*command, "--device", "3"]) == 1
    assert "there is no GPU 3" in capsys.readouterr().err
    assert run([*command, "--bundle", "other"]) == 1
    assert "other" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--bundle", "--device", "--seconds", "--out"])
def test_options_of_the_proof_alone_are_wrong_usage(option, capsys):
    assert run(["doctor", option, "1"]) == 2

    assert "go with --gpu-proof" in capsys.readouterr().err
