"""Every deployment's model scores as it should, or the finding says what to do."""

import pytest

from service.deployments.activations import Activations
from service.doctor.bundles import bundle_findings
from service.settings import (
    DeploymentSettings,
    EngineSettings,
    LoadedSettings,
    ModelSettings,
    Settings,
)
from tests.support.bundles import overwrite, write_tiny_bundle


@pytest.fixture
def folder(tmp_path):
    return write_tiny_bundle(tmp_path / "bundles")


CALM = EngineSettings(calibrate=False)


def findings(folder, *, engine=CALM, **deployment):
    settings = Settings(
        engine=engine,
        deployments={"only": DeploymentSettings(**{"model": "tiny", **deployment})},
        models=ModelSettings(directory="bundles"),
        state_directory="state",
    )
    directory = folder.parents[2]
    (directory / "state").mkdir(exist_ok=True)
    return list(bundle_findings(LoadedSettings(settings=settings, directory=directory)))


def test_a_whole_bundle_scores_its_golden_rows(folder):
    bundle, engines = findings(folder)

    assert bundle.state == engines.state == "ok"
    assert (
        bundle.found == f"tiny@{folder.name} is whole, and its 32 golden rows score right in fp32"
    )
    assert engines.found == "onnxruntime-cpu can run here"


def test_a_damaged_bundle_is_a_problem(folder):
    overwrite(folder / "ranker.fp32.onnx", b"damaged")

    (bundle,) = findings(folder)

    assert bundle.state == "problem"
    assert "ranker.fp32.onnx" in bundle.found


def test_a_bundle_that_is_not_there_is_a_problem(folder):
    (bundle,) = findings(folder, model="other")

    assert bundle.state == "problem"
    assert "other" in bundle.found


def test_a_precision_that_the_bundle_lacks_is_a_problem_as_it_is_to_serve(folder):
    bundle, _ = findings(folder, precision="bf16", engines=("onnxruntime-cpu", "openvino"))

    assert bundle.state == "problem"
    assert "has no precision 'bf16'; it has" in bundle.found


def test_the_version_that_was_activated_is_the_one_that_counts(folder):
    other = write_tiny_bundle(folder.parents[1], seed=1)
    (folder.parents[2] / "state").mkdir()
    for path in (folder, other):
        Activations(folder.parents[2] / "state").keep("tiny", path.name)

        assert findings(folder)[0].found.startswith(f"tiny@{path.name} ")


def test_an_engine_that_is_absent_is_a_note_where_another_one_can_serve(folder):
    _, there, absent = findings(folder, engines=("triton", "onnxruntime-cpu"))

    assert there.found == "onnxruntime-cpu can run here"
    assert absent.state == "note"
    assert absent.found.startswith("triton: ")


def test_a_triton_server_that_is_away_is_said_to_be(folder):
    pytest.importorskip("tritonclient.http")
    away = EngineSettings(triton_url="127.0.0.1:9")

    _, _, absent = findings(folder, engine=away, engines=("triton", "onnxruntime-cpu"))

    assert absent.state == "note"
    assert "triton at 127.0.0.1:9: Connection refused" in absent.found


def test_an_engine_that_is_absent_and_alone_is_a_problem(folder):
    _, absent = findings(folder, engines=("triton",))

    assert absent.state == "problem"
    assert absent.advice == "or leave it out of deployments.only.engines"


def test_popularity_needs_a_bundle_and_no_engine(folder):
    (bundle,) = findings(folder, engines=("popularity",))

    assert bundle.found == f"tiny@{folder.name} is whole"
