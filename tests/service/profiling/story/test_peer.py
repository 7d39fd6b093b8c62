"""The server of the steps without Podium, by what it replies."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from ranking_models.bundle import Bundle
from service.profiling.story import peer
from service.profiling.story.traffic import SLATE, Page, Rank, Shoppers
from tests.support.bundles import write_tiny_bundle

Message = dict[str, Any]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    found = Bundle.open(write_tiny_bundle(tmp_path))
    monkeypatch.setenv(peer.BUNDLE, str(found.path))
    monkeypatch.setenv(peer.SCORER, "onnxruntime")
    return found


async def asked(app: Any, scope: Message, *received: Message) -> tuple[Message, bytes]:
    sent: list[Message] = []
    waiting = list(received)

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "query_string": b"", **scope}, receive, send)
    start, body = sent
    assert (b"content-length", b"%d" % len(body["body"])) in start["headers"]
    return start, body["body"]


async def test_a_page_is_the_best_of_the_items_candidates(bundle, monkeypatch):
    monkeypatch.setattr(peer, "find_spec", lambda _name: None)  # whether or not FastAPI is here
    (page,) = Shoppers(bundle).popular(1).requests
    assert isinstance(page, Page)
    scope = {"method": "GET", "path": f"/v1/items/{page.item_id}/recommendations"}

    start, body = await asked(peer.app(), {**scope, "query_string": b"k=7&timeout_ms=1000"})

    assert start["status"] == 200
    items = msgspec.json.decode(body)["items"]
    position = bundle.item_ids.tolist().index(page.item_id)
    beside = bundle.item_ids[bundle.candidates[position]].tolist()
    assert len(items) == 7
    assert {item["id"] for item in items} <= {*beside}
    scores = [item["score"] for item in items]
    assert scores == sorted(scores, reverse=True)


async def test_a_ranking_may_come_in_pieces(bundle, monkeypatch):
    monkeypatch.setattr(peer, "find_spec", lambda _name: None)
    rank = Shoppers(bundle).stream(50, seed=1).requests[-1]
    assert isinstance(rank, Rank)
    pieces = (
        {"type": "http.request", "body": rank.body[:100], "more_body": True},
        {"type": "http.request", "body": rank.body[100:]},
    )

    _, body = await asked(peer.app(), {"method": "POST", "path": "/v1/rank"}, *pieces)

    assert len(msgspec.json.decode(body)["items"]) == SLATE
