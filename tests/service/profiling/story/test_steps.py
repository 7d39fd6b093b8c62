"""Which steps this machine has, what they run, and what is said of the others."""

import sys
from pathlib import Path

import msgspec
import pytest

from ranking_models.architectures import Imported
from ranking_models.bundle import Bundle
from ranking_models.errors import InputError
from service.clock import SystemClock
from service.profiling.story.precision import Choice, Scoring, choose
from service.profiling.story.steps import Peer, cache_step, peer_of, settings_of, steps_of
from service.settings import load_settings
from tests.support.bundles import write_tiny_bundle

NONE = Choice(scoring=None, why="the bundle has fp32 alone")
INT8 = Scoring(engine="openvino", precision="int8-cpu")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path / "bundles"))


def peer(*missing: str) -> Peer:
    names = ("torch", "onnx", "pyarrow", "fastapi", "uvicorn")
    names += ("numpy", "msgspec", "litestar", "onnxruntime")
    versions = {name: None if name in missing else "1.2.3" for name in names}
    return Peer(python=Path("/opt/python"), versions=versions)


def test_everything_is_there(bundle):
    choice = Choice(scoring=INT8, why="twice the rows")

    steps, left_out = steps_of(bundle, peer=peer(), choice=choice, workers=2)

    assert [step.name for step in steps] == [
        "PyTorch behind FastAPI, one by one",
        "ONNX Runtime behind FastAPI, one by one",
        "dynamic batching, fp32",
        "reduced precision, int8-cpu",
    ]
    assert left_out == []
    assert steps[0].what == "PyTorch 1.2.3 behind FastAPI 1.2.3, 2 processes"
    assert steps[3].scoring == INT8
    assert not any(step.has_cache for step in steps)
    assert cache_step(bundle, INT8, workers=2, also="").has_cache


def test_without_torch_its_step_is_left_out_and_the_others_stay(bundle):
    steps, left_out = steps_of(bundle, peer=peer("torch", "pyarrow"), choice=NONE, workers=1)

    assert [step.number for step in steps] == [1, 2]
    assert [left.number for left in left_out] == [0, 3]
    assert left_out[0].reason == (
        "/opt/python has no torch, pyarrow: pip install 'podium[train]' fastapi there, "
        "or name another with --peer-python"
    )
    assert left_out[1].reason == NONE.why


def test_without_fastapi_the_step_says_what_really_ran(bundle):
    steps, _ = steps_of(bundle, peer=peer("fastapi"), choice=NONE, workers=1)

    assert steps[0].name == "PyTorch behind bare ASGI, one by one"
    assert "behind a bare ASGI application (FastAPI is not installed), 1 process" in steps[0].what


def test_an_imported_graph_has_no_network(bundle):
    manifest = msgspec.structs.replace(
        bundle.manifest, architecture=Imported(producer="somebody", sha256="0" * 64)
    )
    imported = msgspec.structs.replace(bundle, manifest=manifest)

    _, left_out = steps_of(imported, peer=peer(), choice=NONE, workers=1)

    assert "imported as an ONNX graph" in left_out[0].reason


def test_the_settings_are_those_of_podium_serve(bundle, tmp_path):
    file = tmp_path / "podium.toml"
    file.write_text(settings_of(bundle, INT8, 3, cache="exact").replace("{port}", "8123"))

    settings = load_settings(file, environ={}).settings

    assert (settings.server.port, settings.server.workers) == (8123, 3)
    ranker = settings.deployments["ranker"]
    assert ranker.model == f"tiny@{bundle.manifest.version}"
    assert (ranker.precision, ranker.cache) == ("int8-cpu", "exact")
    assert ranker.engines == ("openvino",)
    assert settings.models.directory == str(tmp_path / "bundles")
    assert not settings.allow_degraded


def test_this_interpreter_has_what_podium_needs():
    versions = peer_of(Path(sys.executable)).versions

    assert versions["uvicorn"]
    assert versions["msgspec"] == msgspec.__version__


@pytest.mark.parametrize(
    ("python", "says"),
    [("/nowhere/python", "does not run: No such file"), ("/bin/true", "no Python interpreter")],
)
def test_what_is_no_interpreter_is_refused(python, says):
    with pytest.raises(InputError, match=says):
        peer_of(Path(python))


def test_a_bundle_with_fp32_alone_has_no_reduced_precision(bundle, tmp_path):
    found = choose(bundle, plans=tmp_path, clock=SystemClock(), seconds=0.1)

    assert found.scoring is None
    assert found.why
