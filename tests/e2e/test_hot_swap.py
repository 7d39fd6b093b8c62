"""Another version of a model takes over while rankings go on."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import onnxruntime
import pytest

from ranking_models.bundle import Bundle
from service.engines.rows import as_features
from service.features import BundleFeatures
from service.messages import RankRequest, UserRef
from tests.support.bundles import overwrite, write_tiny_bundle
from tests.support.server import SETTINGS, launched, make_home

ITEMS = [f"i{n}" for n in range(50)]
SURFACES = ("uncached", "default")
CLIENTS = 4


class Direct:
    """What ONNX Runtime scores for a request, without Podium."""

    def __init__(self, path):
        bundle = Bundle.open(path)
        self._session = onnxruntime.InferenceSession(
            bundle.graph("fp32"), providers=["CPUExecutionProvider"]
        )
        self._inputs = [node.name for node in self._session.get_inputs()]
        self._features = BundleFeatures(bundle)

    def scores(self, user, candidates):
        request = RankRequest(user=UserRef(id=user), candidates=tuple(candidates))
        rows = as_features(self._features.rows(self._features.encode(request))).inputs()
        (scores,) = self._session.run(["score"], {name: rows[name] for name in self._inputs})
        return dict(zip(candidates, scores.tolist(), strict=True))


class Shoppers:
    """Clients that rank without a break, and keep every reply."""

    def __init__(self, server):
        self._server, self._stop = server, threading.Event()
        self.replies = []
        self.begun = threading.Semaphore(0)

    def shop(self, seed):
        random = np.random.default_rng(seed)
        with httpx.Client(base_url=self._server.base_url, timeout=30) as client:
            while not self._stop.is_set():
                size = int(random.integers(1, len(ITEMS) + 1))
                body = {
                    "user": {"id": f"u{random.integers(20)}"},
                    "candidates": [ITEMS[n] for n in random.permutation(len(ITEMS))[:size]],
                    "context": {"surface": SURFACES[int(random.integers(2))]},
                    "k": 1000,
                    "timeout_ms": 10_000,
                }
                self.replies.append((body, client.post("/v1/rank", json=body)))
                self.begun.release()

    def see(self, replies):
        """Wait for more replies than there are."""
        while self.begun.acquire(blocking=False):
            pass
        for _ in range(replies):
            assert self.begun.acquire(timeout=30)

    def stop(self):
        self._stop.set()


def home_with(workers):
    return make_home(settings=SETTINGS.replace("workers = 1\n", f"workers = {workers}\n"))


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def server(request):
    home = home_with(request.param)
    try:
        with launched(home) as running:
            yield running
    finally:
        shutil.rmtree(home, ignore_errors=True)


def written(server, seed):
    """The version of one more bundle; every seed gives another."""
    return write_tiny_bundle(server.home / "bundles", seed=seed).name


def versions(server):
    """The versions that are loaded; the default first."""
    (model,) = server.client.get("/v1/models").json()["models"]
    loaded = sorted(model["versions"], key=lambda v: not v["default"])
    return [v["version"] for v in loaded]


def change(server, verb, version, model="tiny"):
    return server.client.post(f"/v1/models/{model}/{verb}", json={"version": version})


def test_no_request_fails_or_mixes_versions_while_versions_take_turns(server):
    (first,) = versions(server)
    second = written(server, seed=1)
    direct = {v: Direct(server.home / "bundles" / "tiny" / v) for v in (first, second)}
    shoppers = Shoppers(server)

    with ThreadPoolExecutor(CLIENTS) as pool:
        shopping = [pool.submit(shoppers.shop, seed) for seed in range(CLIENTS)]
        try:
            for version in (second, first, second):
                shoppers.see(20)
                assert change(server, "load", version).status_code == 200
                shoppers.see(20)
                assert change(server, "activate", version).status_code == 200
                assert versions(server)[0] == version
            shoppers.see(20)
        finally:
            shoppers.stop()
    for client in shopping:
        client.result()

    assert {reply.status_code for _, reply in shoppers.replies} == {200}
    seen = []
    for body, reply in shoppers.replies:
        slate = reply.json()
        assert slate["degraded"] is None
        seen.append(slate["model"]["version"])
        expected = direct[seen[-1]].scores(body["user"]["id"], body["candidates"])
        got = {item["id"]: item["score"] for item in slate["items"]}
        assert got == pytest.approx(expected, abs=1e-5)
    assert set(seen) == {first, second}
    assert set(seen[-CLIENTS:]) == {second}


def test_what_was_activated_serves_after_a_restart():
    home = home_with(workers=2)
    try:
        with launched(home) as server:
            bundles = {*versions(server), written(server, seed=1)}
            (other,) = bundles - {*versions(server)}
            change(server, "load", other)
            change(server, "activate", other)
            server.stop()
        with launched(home) as again:
            assert versions(again) == [other]
    finally:
        shutil.rmtree(home, ignore_errors=True)


def test_a_damaged_bundle_is_refused_and_the_old_version_goes_on(server):
    (first,) = versions(server)
    damaged = write_tiny_bundle(server.home / "bundles", seed=2)
    overwrite(damaged / "popularity.npy", b"something else")

    refused = change(server, "load", damaged.name)

    assert refused.status_code == 409
    assert refused.json()["code"] == "load_refused"
    assert "popularity.npy" in refused.json()["detail"]
    assert versions(server) == [first]
    assert server.rank(candidates=["i1"]).json()["model"]["version"] == first


def test_what_cannot_be_done_is_refused_with_a_code_and_what_there_is(server):
    (first,) = versions(server)
    second = written(server, seed=3)
    refusals = {
        ("activate", "00000000"): (404, "unknown_version", first),
        ("load", "00000000"): (404, "unknown_version", second),
        ("activate", second): (409, "version_not_loaded", first),
        ("unload", second): (409, "version_not_loaded", first),
        ("unload", first): (409, "version_in_use", "serves ranker, uncached, popularity"),
        ("load", "../../x"): (400, "invalid_request", "version"),
    }

    for (verb, version), (status, code, said) in refusals.items():
        response = change(server, verb, version)
        problem = response.json()
        assert (response.status_code, problem["code"]) == (status, code), problem
        assert said in problem["detail"] + str(problem.get("path"))

    unknown = change(server, "load", first, model="huge")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_model")
    assert "tiny" in unknown.json()["detail"]


def test_a_version_that_stands_by_can_be_unloaded(server):
    (first,) = versions(server)
    second = written(server, seed=4)
    assert change(server, "load", second).status_code == 200
    assert versions(server) == [first, second]

    assert change(server, "unload", second).status_code == 200

    assert versions(server) == [first]
