"""A model on another server: checked when it is loaded, and every trouble is a failure in time."""

import select
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ranking_models.bundle import Bundle
from ranking_models.schema import FeatureBatch
from ranking_models.triton.border import model_name
from service.clock import SystemClock
from service.engines import EngineInfo
from service.engines.loaded_chains import LoadedChains, choices
from service.engines.loading import EngineLoader
from service.engines.triton import TritonEngine, open_triton
from service.errors import EngineFailed, StartupError
from service.settings import EngineSettings
from service.testing import FakeClock
from tests.support.bundles import write_tiny_bundle
from tests.support.v2_server import V2Server, v2_server
from tests.support.valkey import wait_until

pytest.importorskip("tritonclient.http", reason="podium[triton] is not installed")

TIMEOUT_S = 0.2
NOBODY = "127.0.0.1:1"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture
def server(bundle: Bundle) -> Iterator[V2Server]:
    with v2_server(bundle, model_name(bundle.manifest, "fp32")) as server:
        yield server


@pytest.fixture
def engine(server: V2Server, bundle: Bundle) -> Iterator[TritonEngine]:
    engine = opened(server.address, bundle)
    yield engine
    engine.close()


def opened(address: str, bundle: Bundle, key: str | None = None) -> TritonEngine:
    manifest = bundle.manifest
    info = EngineInfo(
        name="triton",
        precision="fp32",
        model=manifest.name,
        version=manifest.version,
        max_batch_rows=manifest.max_batch_rows,
    )
    settings = EngineSettings(triton_url=address, triton_key=key, max_execution_s=TIMEOUT_S)
    return open_triton(bundle, "fp32", settings, info)


def loader(address: str | None, folder: Path) -> EngineLoader:
    settings = EngineSettings(triton_url=address, max_execution_s=TIMEOUT_S)
    return EngineLoader(settings, folder, SystemClock())


def posts(server: V2Server) -> int:
    return sum(method == "POST" for method, _ in server.requests)


def test_a_model_is_named_by_bundle_version_and_precision(bundle):
    assert model_name(bundle.manifest, "fp16") == f"tiny-{bundle.manifest.version}-fp16"


def test_it_is_loaded_and_proved_as_every_engine_is(server, bundle, tmp_path):
    (engine,) = loader(server.address, tmp_path).load("triton", bundle, "fp32", 1).engines
    golden, expected = bundle.golden

    np.testing.assert_allclose(engine.score(golden), expected, rtol=0, atol=1e-5)
    assert (engine.info.name, engine.info.precision) == ("triton", "fp32")
    assert engine.info.max_batch_rows == bundle.manifest.max_batch_rows
    engine.close()


def test_a_model_that_comes_to_the_server_later_is_taken_then(server, bundle, tmp_path):
    server.model, model = "another", server.model
    clock = FakeClock()
    engines = choices(("triton", "onnxruntime-cpu"), "fp32")
    chains = LoadedChains(loader(server.address, tmp_path), bundle, engines, 1, clock)
    (chain,) = chains.chains
    assert "answers 404" in chain.states()[0].problem
    server.model = model

    clock.advance(2.0)
    chains.look_again()
    wait_until(lambda: chain.states()[0].status == "ready")

    assert chain.score(bundle.golden[0]).place == 0
    chains.close()


def test_every_instance_has_a_connection_of_its_own_and_keeps_it(server, bundle, tmp_path):
    loaded = loader(server.address, tmp_path).load("triton", bundle, "fp32", 2)
    for engine in (*loaded.engines, *loaded.engines):
        engine.score(bundle.golden[0])

    assert server.connections == 2
    loaded.close()


def test_every_request_shows_the_key(server, bundle):
    engine = opened(server.address, bundle, key="a key")
    engine.score(bundle.golden[0])
    engine.close()

    assert len(server.headers) == 3
    assert {headers["authorization"] for headers in server.headers} == {"Bearer a key"}


def test_without_a_key_none_is_shown(server, engine):
    assert not any("authorization" in headers for headers in server.headers)


def test_another_model_under_the_right_name_does_not_prove_itself(bundle, tmp_path):
    name = model_name(bundle.manifest, "fp32")
    other = Bundle.open(write_tiny_bundle(tmp_path, seed=5))

    with (
        v2_server(other, name) as server,
        pytest.raises(StartupError, match="triton does not give the golden scores: row "),
    ):
        loader(server.address, tmp_path).load("triton", bundle, "fp32", 1)


def test_the_servers_largest_batch_is_the_engines(server, bundle):
    server.config = {"max_batch_size": 40}

    engine = opened(server.address, bundle)

    assert engine.info.max_batch_rows == 40
    engine.close()


def test_a_server_that_says_nothing_of_batches_takes_what_the_bundle_was_checked_with(
    server, bundle
):
    server.config = None

    engine = opened(server.address, bundle)

    assert engine.info.max_batch_rows == bundle.manifest.max_batch_rows
    engine.close()


def test_scores_in_a_column_are_scores(server, engine, bundle):
    server.metadata["outputs"][0]["shape"] = [-1, 1]
    of_rows = server.scores
    server.scores = lambda request, tensors: of_rows(request, tensors)[:, None]

    other = opened(server.address, bundle)

    np.testing.assert_allclose(other.score(bundle.golden[0]), bundle.golden[1], rtol=0, atol=1e-5)
    other.close()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"inputs": []}, "it takes nothing, not dense FP32"),
        ({"outputs": []}, r"it gives nothing, not score FP32\[-1\]"),
        (
            {"outputs": [{"name": "score", "datatype": "FP16", "shape": [-1]}]},
            "it gives score FP16",
        ),
        ({"outputs": [{"name": "score", "datatype": "FP32", "shape": [-1, 2]}]}, "it gives score"),
        ({"inputs": 7}, r"Expected `array`"),
    ],
)
def test_a_model_with_another_border_is_refused(server, bundle, changed, words):
    server.metadata |= changed

    with pytest.raises(EngineFailed, match=words):
        opened(server.address, bundle)


@pytest.mark.parametrize("change", [{"datatype": "INT64"}, {"shape": [-1, 99]}, {"name": "x"}])
def test_an_input_of_another_kind_is_refused(server, bundle, change):
    server.metadata["inputs"][1] |= change

    with pytest.raises(EngineFailed, match=r"it takes .*, not .*ids INT32"):
        opened(server.address, bundle)


def test_a_model_that_is_not_on_the_server_is_refused_by_name(server, bundle, tmp_path):
    server.model = "another"

    with pytest.raises(
        StartupError, match=r"model tiny-\w+-fp32: triton at .* answers 404: Request"
    ):
        loader(server.address, tmp_path).load("triton", bundle, "fp32", 1)


def test_a_server_that_is_not_there_is_a_refusal_with_its_address(bundle, tmp_path):
    with pytest.raises(StartupError, match=f"triton at {NOBODY}: Connection refused"):
        loader(NOBODY, tmp_path).load("triton", bundle, "fp32", 1)


def test_an_address_that_is_none_is_refused(bundle):
    with pytest.raises(EngineFailed, match="Port out of range"):
        opened("localhost:99999", bundle)


def test_without_an_address_nobody_is_asked(bundle, tmp_path):
    without = loader(None, tmp_path)

    assert "needs engine.triton_url" in (without.absent("triton") or "")
    assert loader(NOBODY, tmp_path).absent("triton") is None
    with pytest.raises(StartupError, match=r"needs engine\.triton_url: host:port"):
        without.load("triton", bundle, "fp32", 1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("refuses", "answers 400: no such luck"),
        ("silent", "no answer in time"),
        ("hangs up", "Remote end closed"),
        ("refuses badly", "answers 500: without a word"),
        ("rubbish", "triton sent no scores"),
        ("length", "Content-Length is '-4'"),
        ("doubles", r"triton sent float64 \[32\] as scores of 32 rows"),
    ],
)
def test_a_call_that_fails_is_sent_once_and_the_next_one_is_as_good_as_ever(
    server, engine, bundle, answer, words
):
    rows, expected = bundle.golden
    server.answer = answer
    with pytest.raises(EngineFailed, match=words):
        engine.score(rows)
    assert posts(server) == 1

    server.answer = "scores"

    np.testing.assert_allclose(engine.score(rows), expected, rtol=0, atol=1e-5)


def test_a_connection_that_the_server_closed_meanwhile_is_made_anew(server, engine, bundle):
    rows, expected = bundle.golden
    server.keep_alive = False
    engine.score(rows)
    wait_until_closed(engine)

    np.testing.assert_allclose(engine.score(rows), expected, rtol=0, atol=1e-5)
    assert posts(server) == 2


def wait_until_closed(engine: TritonEngine) -> None:
    """Until the server's end of the connection is closed: then there is something to read."""
    sock = engine._server._http.sock
    assert sock is not None
    assert select.select([sock], [], [], 5)[0]


def test_rows_without_an_input_are_never_sent(server, engine, bundle):
    rows, _ = bundle.golden

    with pytest.raises(EngineFailed, match="input 'multi_tags' is missing"):
        engine.score(FeatureBatch(dense=rows.dense, ids=rows.ids))
    with pytest.raises(EngineFailed, match="input 'ids': got unexpected datatype INT64"):
        engine.score(
            FeatureBatch(dense=rows.dense, ids=rows.ids.astype(np.int64), multi=rows.multi)
        )
    assert posts(server) == 0
