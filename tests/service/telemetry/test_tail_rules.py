"""The shipped collector keeps what an operator asks about: its rules, on spans of a real service.

The rules are read as the collector's tail sampling processor documents them.
"""

import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service.messages import Degraded
from service.telemetry import names
from tests.support.collector import Collector
from tests.support.server import SETTINGS, Server, serving

CONFIG = Path(__file__).parents[3] / "deploy/otel/collector.yaml"
CALLER = "00f067aa0ba902b7"


def configuration() -> dict[str, Any]:
    """As it is where no variable is set."""
    text = re.sub(r"\$\{env:\w+:-([^}]*)\}", r"\1", CONFIG.read_text())
    return yaml.safe_load(text)


POLICIES = configuration()["processors"]["tail_sampling"]["policies"]


def keeps(policy: dict[str, Any], trace: Sequence[Span]) -> bool:
    """Whether one policy wants a trace."""
    rule = policy[policy["type"]]
    match policy["type"]:
        case "status_code":
            wanted = {getattr(Status, f"STATUS_CODE_{code}") for code in rule["status_codes"]}
            return any(span.status.code in wanted for span in trace)
        case "latency":
            began = min(span.start_time_unix_nano for span in trace)
            ended = max(span.end_time_unix_nano for span in trace)
            lasted_ms = (ended - began) / 1e6
            return rule["threshold_ms"] < lasted_ms <= rule["upper_threshold_ms"]
        case "numeric_attribute":
            values = attributes(trace, rule["key"], "int_value")
            return any(rule["min_value"] <= value <= rule["max_value"] for value in values)
        case "string_attribute":
            assert set(rule) == {"key", "values"}
            return bool(set(rule["values"]) & set(attributes(trace, rule["key"], "string_value")))
        case "boolean_attribute":
            return rule["value"] in attributes(trace, rule["key"], "bool_value")
        case "probabilistic":
            return False  # the only rule that keeps what is nothing special
    raise AssertionError(f"what does {policy['type']} do?")


def attributes(trace: Sequence[Span], key: str, kind: str) -> list[Any]:
    """The values of one type that an attribute has on the spans of a trace."""
    return [
        getattr(pair.value, kind)
        for span in trace
        for pair in span.attributes
        if pair.key == key and pair.value.HasField(kind)
    ]


def kept_by(trace: Sequence[Span]) -> set[str]:
    return {policy["name"] for policy in POLICIES if keeps(policy, trace)}


def test_every_attribute_of_a_rule_is_one_of_ours():
    known = {value for value in vars(names).values() if isinstance(value, str)}
    keys = {policy[policy["type"]].get("key") for policy in POLICIES} - {None}

    assert "http.response.status_code" in keys
    assert keys <= known


def test_every_kind_of_degraded_slate_is_kept():
    (rule,) = [policy for policy in POLICIES if policy["name"] == "degraded"]

    assert set(rule["string_attribute"]["values"]) == set(get_args(Degraded))


def test_every_pipeline_limits_memory_first_and_uses_what_is_there():
    config = configuration()

    for pipeline in config["service"]["pipelines"].values():
        assert pipeline["processors"][0] == "memory_limiter"
        assert pipeline["processors"][-1] == "batch"
        for part in ("receivers", "processors", "exporters"):
            assert set(pipeline[part]) <= set(config[part])
    assert set(config["service"]["extensions"]) == set(config["extensions"])


async def test_an_answer_of_ours_that_failed_is_kept(collector, open_shop):
    shop = open_shop()
    async with shop.client() as http:
        await http.get("/broken/not-ready")
    shop.telemetry.shutdown()

    assert {"errors", "server-errors"} <= kept_by(collector.spans)


FULL = """
[batching]
mode = "fixed"
max_queue_delay_s = 30.0
max_waiting_rows = 3
[telemetry]
sample_ratio = 1
"""


@pytest.fixture(scope="module")
def traces() -> dict[str, list[Span]]:
    """The spans of some requests to a real service, by what happened to each."""
    receiver = Collector()
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    happens = ("fine", "asked for", "late", "shed")
    with serving(settings=SETTINGS + FULL, environ=environ) as server:

        def ask(what: str, surface: str, **lines: str) -> int:
            context = f"00-{happens.index(what) + 1:032x}-{CALLER}-01"
            body = {"candidates": ["i1"], "context": {"surface": surface}, "timeout_ms": 200}
            lines |= {"traceparent": context}
            return server.client.post("/v1/rank", json=body, headers=lines).status_code

        assert ask("fine", "popular") == 200
        assert ask("asked for", "popular", **{"X-Podium-Trace": "force"}) == 200
        assert ask("late", "uncached") == 200
        with full_queue(server):
            assert ask("shed", "uncached") == 429
        server.stop()  # which sends what is waiting
    receiver.close()
    spans = [(int.from_bytes(span.trace_id, "big"), span) for span in receiver.spans]
    return {what: [s for n, s in spans if n == i] for i, what in enumerate(happens, 1)}


@contextmanager
def full_queue(server: Server) -> Iterator[None]:
    body = b'{"candidates":["i1","i2","i3"],"context":{"surface":"uncached"},"timeout_ms":10000}'
    host, port = server.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as waiting:
        waiting.sendall(
            b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        while b'"queue_rows":3' not in server.client.get("/v1/models").content:
            pass
        yield


def test_sheds_late_and_degraded_slates_are_kept_and_what_is_nothing_special_is_not(traces):
    busy = {"slow"}  # as may any request be on a machine that does other things as well
    assert kept_by(traces["fine"]) - busy == set()
    assert kept_by(traces["asked for"]) - busy == {"asked-for"}
    assert kept_by(traces["shed"]) - busy == {"sheds"}
    assert kept_by(traces["late"]) >= {"slow", "degraded"}
