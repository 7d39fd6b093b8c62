"""An engine that this machine cannot run keeps nobody from being served."""

import pytest

from service.engines.loading import EngineLoader
from service.settings import EngineSettings
from service.testing import FakeClock
from tests.support.server import SETTINGS, serving
from tests.support.valkey import wait_until

CHAIN = 'model = "tiny"\nengines = ["tensorrt", "onnxruntime-cpu"]\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    plans = tmp_path_factory.mktemp("plans")
    if EngineLoader(EngineSettings(), plans, FakeClock()).absent("tensorrt") is None:
        pytest.skip("this machine has a GPU")
    settings = SETTINGS.replace(
        '[deployments.ranker]\nmodel = "tiny"\n', f"[deployments.ranker]\n{CHAIN}"
    )
    with serving(settings=settings) as running:
        yield running


def engines(server):
    deployments = server.client.get("/v1/models").json()["deployments"]
    (ranker,) = (d for d in deployments if d["name"] == "ranker")
    return {engine["name"]: engine for engine in ranker["engines"]}


def test_the_rest_of_the_chain_serves_and_every_reply_says_so(server):
    slate = server.rank(candidates=["i1", "i2"]).json()

    assert slate["model"]["engine"] == "onnxruntime-cpu"
    assert slate["degraded"] == "fallback_engine"


def test_what_is_missing_is_told(server):
    wait_until(lambda: engines(server)["tensorrt"]["status"] == "refused")

    assert "tensorrt cannot load it: no " in engines(server)["tensorrt"]["last_error"]
    assert engines(server)["onnxruntime-cpu"]["status"] == "ready"
    ready = server.client.get("/health/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert "tensorrt" in ready.json()["components"]["deployment:ranker"]["detail"]


def test_nobody_is_told_where_the_files_are(server):
    wait_until(lambda: engines(server)["tensorrt"]["status"] == "refused")

    assert engines(server)["tensorrt"]["last_error"].startswith("ranker.fp32.onnx: tensorrt ")
    for path in ("/v1/models", "/health/ready"):
        assert str(server.home) not in server.client.get(path).text
