"""A service of two workers in which something of everything happens, for whoever watches it."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx

import ranking_models
from ranking_models.bundle import Bundle, find_bundle
from ranking_models.triton.border import model_name
from service.loadgen.process import serving
from tests.support.v2_server import v2_server

START_S = 60.0
SESSIONS = "150"
SETTINGS = """
state_directory = "state"
[server]
port = 0
workers = 2
[telemetry]
sample_ratio = 1.0
[batching]
max_waiting_rows = 600
[engine]
triton_url = "{triton}"
[experiments]
file = "experiments.toml"
judge_every_s = 0.5
price_per_hour = 0.05
[deployments.ranker]
model = "marketplace"
[deployments.uncached]
model = "marketplace"
cache = "off"
[deployments.segments]
model = "marketplace"
cache = "segment_rescore"
[deployments.falls_back]
model = "marketplace"
engines = ["triton", "onnxruntime-cpu"]
cache = "off"
[deployments.popularity]
model = "marketplace"
engines = ["popularity"]
cache = "off"
[surfaces]
default = "ranker"
segments = "segments"
falls_back = "falls_back"
"""
EXPERIMENTS = """
[[experiment]]
key = "ranker"
unit = "user_or_session"
shadow_bp = 10000
[[experiment.variant]]
name = "cached"
share_bp = 5000
deployment = "ranker"
[[experiment.variant]]
name = "uncached"
share_bp = 5000
deployment = "uncached"
[experiment.rollout]
automatic = true
stages_bp = [5000, 10000]
"""
HAPPENED = (
    "podium_shed_total",
    'podium_degraded_total{reason="fallback_engine"}',
    'podium_degraded_total{reason="popularity"}',
    'podium_fallbacks_total{reason="failed"}',
    'podium_breaker_state{state="open"}',
    "podium_telemetry_dropped_total",
    "podium_clicks_total",
    'podium_cache_candidates_total{result="hit"}',
)
"""What the traffic must have brought about, else panels would only show zeros."""


@contextmanager
def busy_service() -> Iterator[str]:
    """Its address. Nobody takes its spans, and one of its engines fails from now on."""
    bundle = Bundle.open(find_bundle(Path(ranking_models.__file__).parent / "demo", "marketplace"))
    with (
        v2_server(bundle, model_name(bundle.manifest, "fp32")) as triton,
        _service(triton.address) as url,
    ):
        triton.answer = "refuses"  # it was well when the engine was loaded
        yield url


@contextmanager
def _service(triton: str) -> Iterator[str]:
    home = Path(tempfile.mkdtemp(prefix="podium-dashboards-"))
    (home / "podium.toml").write_text(SETTINGS.format(triton=triton))
    (home / "experiments.toml").write_text(EXPERIMENTS)
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"  # where nobody listens
    try:
        with serving(["--config", str(home / "podium.toml")]) as service:
            yield service.url(longest_s=START_S)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def make_busy(url: str) -> None:
    """Let shoppers shop, and callers ask for what goes wrong."""
    command = [sys.executable, "-m", "service", "simulate", "--url", url]
    subprocess.run([*command, "--sessions", SESSIONS], check=True, timeout=120, capture_output=True)
    requests = [
        *[("falls_back", 1000)] * 60,
        *[("default", 1)] * 30,
        *[("segments", 1000)] * 60,
    ]
    with (
        httpx.Client(base_url=url, timeout=30) as client,
        ThreadPoolExecutor(max_workers=12) as callers,
    ):
        list(callers.map(lambda request: _rank(client, *request), requests))


def _rank(client: httpx.Client, surface: str, timeout_ms: int) -> None:
    body = {
        "candidates": [f"i{n:05}" for n in range(400)],
        "timeout_ms": timeout_ms,
        "context": {"surface": surface},
    }
    answer = client.post("/v1/rank", json=body)
    assert answer.status_code in (200, 429), answer.text
