"""Captures the examples of the API document from a running service, after a little traffic.

    python -m tests.support.api_examples

Run it when a reply has changed its form; `tests/e2e/test_openapi_examples.py` says so.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.support.server import EXPERIMENTS, Server, serving

FOLDER = Path(__file__).parents[2] / "service" / "api" / "examples"
ITEMS = [f"i{number}" for number in range(1, 6)]


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    with serving(experiments=EXPERIMENTS) as server:
        for name, reply in replies(server).items():
            reply.raise_for_status()
            file = FOLDER / f"{name}.{reply.status_code}.json"
            file.write_text(json.dumps(reply.json(), indent=1) + "\n")
    return 0


def replies(server: Server) -> dict[str, httpx.Response]:
    """Operation to its reply; operations with replies of one form share one."""
    client = server.client
    slate = server.rank(candidates=ITEMS, k=3, user={"id": "u1"}, request_id="r-81")
    shown = [_events(server, user) for user in range(20)]
    pages = "/v1/items/i1/recommendations?k=3&user_id=u1"
    change = {"reason": "the campaign distorts it"}
    token = {"variant": "ranker", "unit": "u42", "ttl_s": 3600}
    return {
        "rank": slate,
        "itemRecommendations": client.get(pages),
        "events": shown[0],
        "experiments": client.get("/v1/experiments"),
        "experiment": client.get("/v1/experiments/model"),
        "experimentReport": client.get("/v1/experiments/model/report"),
        "pauseExperiment": client.post("/v1/experiments/model/pause", json=change),
        "experimentDecisions": client.get("/v1/experiments/model/decisions?limit=2"),
        "forceToken": client.post("/v1/experiments/model/force-tokens", json=token),
        "models": client.get("/v1/models"),
        "warmCache": client.post("/v1/cache/warm", json={"top": 50}),
        "cache": client.get("/v1/cache?count=true"),
        "cacheEntry": client.get("/v1/cache/entry?item=i1"),
        "flushCache": client.post("/v1/cache/flush"),
        "live": client.get("/health/live"),
        "ready": client.get("/health/ready"),
    }


def _events(server: Server, user: int) -> httpx.Response:
    """What a visitor's impressions, and a click on the first place, are answered with."""
    slate: dict[str, Any] = server.rank(candidates=ITEMS, k=2, user={"id": f"u{user}"}).json()
    common = {
        "slate_id": slate["slate_id"],
        "exposure": slate["exposure"],
        "timestamp": datetime.now(UTC).isoformat(),
    }
    seen = [
        {**common, "type": "impression", "item_id": item["id"], "position": item["rank"]}
        for item in slate["items"]
    ]
    clicks = [{**seen[0], "type": "click"}] if user % 2 else []
    events = [
        {**event, "event_id": f"e-{user}-{number}"} for number, event in enumerate(seen + clicks)
    ]
    return server.client.post("/v1/events", json=events)


if __name__ == "__main__":
    sys.exit(main())
