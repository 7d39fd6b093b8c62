"""Examples of the OpenAPI document: what is sent, and what then comes back."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

_ASKED: Final = {
    "request_id": "r-81",
    "user": {"id": "u42"},
    "context": {"surface": "home", "device": "ios", "country": "SE", "hour": 21},
    "candidates": ["i1", {"id": "i2", "features": {"price": 12.5}}],
    "k": 2,
    "timeout_ms": 50,
}
_EVENT: Final = {
    "event_id": "9f2c7b1e",
    "type": "impression",
    "slate_id": "01M81SAX3GCVM9GA4S39XS4Y92",
    "item_id": "i2",
    "position": 1,
    "timestamp": "2026-11-22T14:07:36Z",
    "exposure": "v1.c03b38f7.eyJzIjoi.HJir_HsHv1",
}
_VERSION: Final = {"version": "3f9c2a1b"}

REQUESTS: Final[Mapping[str, Any]] = {
    "rank": _ASKED,
    "events": [_EVENT],
    "startExperiment": {"reason": "reviewed by the ranking team"},
    "pauseExperiment": {"reason": "the campaign distorts it", "if_generation": 6},
    "rampExperiment": {"stage": 1, "reason": "latency holds"},
    "promoteExperiment": {"variant": "fp16", "reason": "faster at equal CTR"},
    "rollbackExperiment": {"reason": "CTR fell on iOS"},
    "stopExperiment": {"reason": "decided"},
    "forceToken": {"variant": "fp16", "unit": "u42", "ttl_s": 3600},
    "loadModel": _VERSION,
    "activateModel": _VERSION,
    "unloadModel": _VERSION,
    "warmCache": {"top": 10_000, "pages": 200, "context": {"surface": "home"}},
}
"""Operation to the body of an example."""

_EXAMPLES: Final = Path(__file__).parent / "examples"
_SAME: Final[Mapping[str, str]] = {
    **dict.fromkeys(("loadModel", "activateModel", "unloadModel"), "models"),
    **dict.fromkeys(
        (
            *("startExperiment", "rampExperiment", "promoteExperiment"),
            *("rollbackExperiment", "stopExperiment"),
        ),
        "pauseExperiment",
    ),
}
"""Operations whose replies have the form of another one's."""
_METRICS: Final = """# HELP http_requests_total Requests by route and status.
# TYPE http_requests_total counter
http_requests_total{http_route="/v1/rank",http_response_status_code="200"} 1042
"""


def examples(operation: str, status: str | None = None) -> dict[str, Any]:
    """Media type to an example of the operation's body; with a status, of that response.

    Those of replies were captured from a running service: `python -m tests.support.api_examples`.
    """
    if operation == "metrics":
        return {"text/plain": _METRICS}
    if (operation, status) == ("ready", "503"):
        ready = _captured("ready", "200")["application/json"]
        return {"application/json": {**ready, "status": "draining"}}
    if status is not None:
        return _captured(_SAME.get(operation, operation), status)
    return {"application/json": REQUESTS[operation]} if operation in REQUESTS else {}


@cache
def _captured(operation: str, status: str) -> dict[str, Any]:
    file = _EXAMPLES / f"{operation}.{status}.json"
    return {"application/json": json.loads(file.read_bytes())} if file.exists() else {}
