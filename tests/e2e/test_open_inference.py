"""``/v2`` for the real clients of Triton, and for another Podium that asks it as an engine."""

import asyncio
import contextlib
import gzip
import json
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from ranking_models.bundle import Bundle, find_bundle
from ranking_models.onnx_runtime import onnx_runtime_scorer
from service.engines import EngineInfo
from service.engines.rows import as_features
from service.engines.triton import open_triton
from service.errors import EngineFailed
from service.features import BundleFeatures
from service.messages import RankRequest, UserRef
from service.settings import EngineSettings
from tests.e2e.test_keys import BACKEND, KEYS, READER
from tests.support.bundles import write_tiny_bundle
from tests.support.server import SETTINGS, serving

http: Any = pytest.importorskip("tritonclient.http", reason="podium[triton] is not installed")
aio: Any = pytest.importorskip("tritonclient.http.aio")

USER, ITEMS = "u1", [f"i{n}" for n in range(1, 12)]
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def client(server):
    with http.InferenceServerClient(_address(server)) as client:
        yield client


@pytest.fixture(scope="module")
def bundle(server):
    return Bundle.open(find_bundle(server.home / "bundles", "tiny"))


@pytest.fixture(scope="module")
def rows(bundle):
    """What a ranking of `ITEMS` for `USER` gives to the engine."""
    features = BundleFeatures(bundle)
    request = RankRequest(user=UserRef(id=USER), candidates=tuple(ITEMS))
    return as_features(features.rows(features.encode(request)))


def _address(server):
    return server.base_url.removeprefix("http://")


def tensors(rows, *, binary=True, of=http):
    """The inputs of a request; `binary` for all, or by name."""
    given = []
    for name, values in rows.inputs().items():
        kind = "FP32" if name == "dense" else "INT32"
        as_bytes = binary if isinstance(binary, bool) else binary[name]
        tensor = of.InferInput(name, list(values.shape), kind)
        given.append(tensor.set_data_from_numpy(np.ascontiguousarray(values), as_bytes))
    return given


def ranked(server):
    """The scores that a ranking gives, in the order of `ITEMS`."""
    reply = server.rank(
        user={"id": USER}, candidates=ITEMS, k=len(ITEMS), context={"surface": "uncached"}
    )
    scores = {item["id"]: item["score"] for item in reply.json()["items"]}
    return np.array([scores[item] for item in ITEMS], np.float32)


def test_a_client_of_triton_finds_the_server_and_its_models(client, bundle):
    version = bundle.manifest.version

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("ranker")
    assert client.is_model_ready("ranker", version)
    assert not client.is_model_ready("popularity")
    assert client.get_server_metadata()["name"] == "podium"
    assert client.get_model_metadata("ranker", version) == {
        "name": "ranker",
        "versions": [version],
        "platform": "podium",
        "inputs": [
            {"name": "dense", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "ids", "datatype": "INT32", "shape": [-1, 5]},
            {"name": "multi_tags", "datatype": "INT32", "shape": [-1, 3]},
        ],
        "outputs": [{"name": "score", "datatype": "FP32", "shape": [-1]}],
    }
    config = client.get_model_config("ranker")
    assert config["max_batch_size"] == bundle.manifest.max_batch_rows
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 5000
    assert client.get_model_repository_index() == [
        {"name": name, "version": number, "state": "READY", "reason": ""}
        for name, number in (
            ("ranker", version),
            ("uncached", version),
            (f"tiny-{version}-fp32", "1"),
        )
    ]


@pytest.mark.parametrize("binary", [True, False, {"dense": True, "ids": False, "multi_tags": True}])
@pytest.mark.parametrize("model", ["uncached", "tiny-{version}-fp32"])
def test_rows_score_as_in_a_ranking(server, client, bundle, rows, binary, model):
    name = model.format(version=bundle.manifest.version)

    result = client.infer(
        name,
        tensors(rows, binary=binary),
        outputs=[http.InferRequestedOutput("score", binary_data=binary is True)],
        request_id="r-1",
        priority=1,
        timeout=5_000_000,
    )

    np.testing.assert_allclose(result.as_numpy("score"), ranked(server), rtol=0, atol=1e-7)
    reply = result.get_response()
    assert (reply["id"], reply["model_name"]) == ("r-1", name)
    assert reply["parameters"]["engine"] == "onnxruntime-cpu"


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_a_compressed_request_of_more_than_one_batch(client, rows, compression):
    many = rows.take(np.arange(9_000) % rows.rows)
    alone = client.infer("ranker", tensors(rows)).as_numpy("score")

    result = client.infer("ranker", tensors(many), request_compression_algorithm=compression)

    scores = result.as_numpy("score")
    np.testing.assert_allclose(scores, alone[np.arange(9_000) % rows.rows], rtol=0, atol=1e-7)


def test_the_asynchronous_client_scores_in_company(server, rows):
    async def ask():
        async with aio.InferenceServerClient(_address(server)) as client:
            given = tensors(rows, of=aio)
            return await asyncio.gather(*(client.infer("ranker", given) for _ in range(8)))

    results = asyncio.run(ask())

    for result in results:
        np.testing.assert_allclose(result.as_numpy("score"), ranked(server), rtol=0, atol=1e-7)


def test_a_request_of_kserve(server, rows):
    """As `InferRequest.to_rest` of kserve 0.15 writes it (python/kserve/protocol/infer_type.py)."""
    request = {
        "id": "0b1c",
        "model_name": "ranker",
        "inputs": [
            {
                "name": name,
                "shape": list(values.shape),
                "datatype": "FP32" if name == "dense" else "INT32",
                "data": values.ravel().tolist(),
            }
            for name, values in rows.inputs().items()
        ],
    }
    with_nulls = request | {"parameters": None, "outputs": None}

    for body in (request, with_nulls):
        reply = server.client.post("/v2/models/ranker/infer", json=body)
        (score,) = reply.json()["outputs"]
        assert score["datatype"] == "FP32"
        np.testing.assert_allclose(score["data"], ranked(server), rtol=0, atol=1e-7)


def test_errors_are_those_of_the_protocol(server, client, rows):
    def refusal(call):
        with pytest.raises(http.InferenceServerException) as caught:
            call()
        return caught.value.status(), caught.value.message()

    assert refusal(lambda: client.infer("ranker", tensors(rows)[1:])) == (
        "400",
        "input 'dense' is missing: it takes dense FP32[rows, 3], ids INT32[rows, 5], "
        "multi_tags INT32[rows, 3]",
    )
    status, message = refusal(lambda: client.infer("nobody", tensors(rows)))
    assert (status, message.partition(";")[0]) == (
        "404",
        "there is no model 'nobody' that an engine serves",
    )
    status, message = refusal(lambda: client.get_model_metadata("ranker", "7"))
    assert (status, message[:34]) == ("404", "model 'ranker' has no version '7',")
    assert refusal(client.get_trace_settings)[0] == "404"
    status, message = refusal(lambda: client.infer("ranker", tensors(rows), timeout=1))
    assert status == "429" or (status, message) == ("504", "no score was ready within 0.001 ms")


def test_bodies_have_bounds(server):
    large_json = json.dumps({"inputs": [], "filler": " " * 1_048_576}).encode()
    bomb = gzip.compress(bytes(17_000_000))
    post = server.client.post

    for reply in (
        post("/v2/models/ranker/infer", content=large_json),
        post("/v2/models/ranker/infer", content=bomb, headers={"Content-Encoding": "gzip"}),
        post("/v2/models/ranker/infer", content=bytes(16_777_217)),
    ):
        assert reply.status_code == 413
        assert "is larger than" in reply.json()["error"]


def test_no_damaged_body_is_a_fault_of_ours(server, rows):
    body, length = http.InferenceServerClient.generate_request_body(tensors(rows))
    dice = random.Random(7)
    statuses = set()
    for _ in range(150):
        damaged = bytearray(body)
        for _ in range(dice.randint(1, 5)):
            at = dice.randrange(len(damaged))
            damaged[at : at + dice.randint(0, 2)] = dice.randbytes(dice.randint(0, 2))
        header = dice.choice((str(length), str(dice.randint(-5, 2 * len(body))), "x"))
        reply = server.client.post(
            "/v2/models/ranker/infer", content=bytes(damaged), headers={LENGTH: header}
        )
        statuses.add(reply.status_code)
        assert reply.status_code == 200 or set(reply.json()) == {"error"}

    assert statuses <= {200, 400}
    assert 400 in statuses


def test_statistics_count_rows_and_requests(client, rows):
    def of_ranker():
        (stats,) = client.get_inference_statistics("ranker")["model_stats"]
        return stats

    before = of_ranker()
    client.infer("ranker", tensors(rows))
    after = of_ranker()

    assert after["inference_count"] - before["inference_count"] == rows.rows
    assert after["execution_count"] - before["execution_count"] == 1
    for figure in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        earlier, later = (s["inference_stats"][figure] for s in (before, after))
        assert later["count"] - earlier["count"] == 1
        assert later["ns"] >= earlier["ns"]
    every = client.get_inference_statistics()["model_stats"]
    assert {stats["name"] for stats in every} == {
        "ranker",
        "uncached",
        client.get_model_repository_index()[-1]["name"],
    }


def test_a_version_that_stands_by_scores_for_who_names_it(server, client, bundle, rows):
    other = Bundle.open(write_tiny_bundle(server.home / "bundles", seed=2))
    version, model = other.manifest.version, {"version": other.manifest.version}

    def versions():
        return client.get_model_metadata("ranker")["versions"]

    try:
        assert server.client.post("/v1/models/tiny/load", json=model).status_code < 300
        assert versions() == [bundle.manifest.version, version]
        theirs = client.infer("ranker", tensors(rows), model_version=version).as_numpy("score")
        ours = client.infer("ranker", tensors(rows)).as_numpy("score")
        by_name = client.infer(f"tiny-{version}-fp32", tensors(rows)).as_numpy("score")
        expected = onnx_runtime_scorer(other.graph("fp32"))(rows)
    finally:
        assert server.client.post("/v1/models/tiny/unload", json=model).status_code < 300
        shutil.rmtree(other.path)

    np.testing.assert_allclose(theirs, expected, rtol=0, atol=1e-7)
    np.testing.assert_array_equal(by_name, theirs)
    np.testing.assert_allclose(ours, ranked(server), rtol=0, atol=1e-7)
    assert versions() == [bundle.manifest.version]


@pytest.fixture(scope="module")
def front(server):
    """Another Podium, with keys, whose engine is the first one; its batches wait for company."""
    remote = SETTINGS.replace(
        '[deployments.uncached]\nmodel = "tiny"\n',
        '[deployments.uncached]\nmodel = "tiny"\nengines = ["triton"]\n',
    )
    engine = f'[engine]\ntriton_url = "{_address(server)}"\n'
    batching = '[batching]\nmode = "fixed"\nmax_queue_delay_s = 0.3\n'
    with serving(settings=remote + engine + batching + KEYS) as front:
        front.client.headers["Authorization"] = f"Bearer {BACKEND}"
        yield front


def test_one_podium_is_the_remote_engine_of_another(server, front):
    scores = ranked(front)
    slate = front.rank(candidates=ITEMS, context={"surface": "uncached"}).json()

    np.testing.assert_allclose(scores, ranked(server), rtol=0, atol=1e-7)
    assert (slate["model"]["engine"], slate["degraded"]) == ("triton", None)


def test_a_podium_with_keys_is_an_engine_for_who_has_one(front, bundle):
    manifest = bundle.manifest
    info = EngineInfo(
        name="triton",
        precision="fp32",
        model=manifest.name,
        version=manifest.version,
        max_batch_rows=manifest.max_batch_rows,
    )

    def opened(key):
        settings = EngineSettings(triton_url=_address(front), triton_key=key)
        return open_triton(bundle, "fp32", settings, info)

    with contextlib.closing(opened(BACKEND)) as engine:
        np.testing.assert_allclose(engine.score(bundle.golden[0]), bundle.golden[1], atol=1e-5)
    for wrong in (None, "another"):
        with pytest.raises(EngineFailed, match=r"answers 401: .* \(its key is engine\.triton_key"):
            opened(wrong)


def test_rows_share_a_batch_with_those_of_a_ranking(front, rows):
    body, length = http.InferenceServerClient.generate_request_body(tensors(rows))
    headers = {LENGTH: str(length)}
    with ThreadPoolExecutor(2) as callers:
        inferred = callers.submit(
            front.client.post, "/v2/models/ranker/infer", content=body, headers=headers
        )
        slate = callers.submit(front.rank, candidates=["i20", "i21"], explain=True).result()

    assert inferred.result().status_code == 200
    batch = slate.json()["explain"]["batch"]
    assert (batch["jobs"], batch["rows"]) == (2, rows.rows + 2)


def test_inference_needs_the_key_of_rankings(front):
    def statuses(key):
        headers = {"Authorization": f"Bearer {key}"}
        infer = front.client.post("/v2/models/ranker/infer", content=b"{", headers=headers)
        metadata = front.client.get("/v2/models/ranker", headers=headers)
        assert metadata.status_code == 200 or set(metadata.json()) == {"error"}
        assert set(infer.json()) == {"error"}
        return infer.status_code, metadata.status_code

    assert statuses("another") == (401, 401)
    assert statuses(READER) == (403, 200)
    assert statuses(BACKEND) == (400, 200)
    assert httpx.get(f"{front.base_url}/v2/health/live").status_code == 200
    assert httpx.get(f"{front.base_url}/v2").json().keys() == {"error"}
