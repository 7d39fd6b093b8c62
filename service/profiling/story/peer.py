"""The server of the steps without Podium: one request at a time, no batching, no cache.

``uvicorn --factory service.profiling.story.peer:app`` behind FastAPI where it
is installed, else as a bare ASGI application. What a request needs - features
looked up in memory, candidates of a page, the best k - is done by Podium's own
code, so that steps differ in what scores and serves and in nothing else; the
body is decoded by msgspec and the reply encoded by it, which is less work than
FastAPI's own models would be.
"""

import os
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote

import msgspec
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.parity import Scorer
from service.engines.rows import as_features
from service.features import BundleFeatures
from service.messages import RankedItem, RankRequest
from service.slate import best

BUNDLE, SCORER = "PODIUM_STORY_BUNDLE", "PODIUM_STORY_SCORER"
"""Variables of its environment: the bundle's folder, and what scores: torch or onnxruntime."""
FASTAPI: Final = "fastapi"

_Asgi = Callable[..., Awaitable[None]]


class Slate(Struct, frozen=True):
    """The reply: what a Podium reply has as well."""

    items: tuple[RankedItem, ...]


class Handler:
    """Requests to replies, one after the other. For one event loop."""

    def __init__(self, bundle: Bundle, scorer: Scorer) -> None:
        self._bundle, self._scorer = bundle, scorer
        self._features = BundleFeatures(bundle)
        self._decode = msgspec.json.Decoder(RankRequest).decode
        self._encode = msgspec.json.Encoder().encode

    def rank(self, body: bytes) -> bytes:
        """The slate of a rank request."""
        return self._encode(Slate(self._best(self._decode(body))))

    def page(self, item_id: str, k: int) -> bytes:
        """The slate of an item page."""
        return self._encode(
            Slate(self._best(page_request(self._bundle, self._features, item_id, k)))
        )

    def _best(self, request: RankRequest) -> tuple[RankedItem, ...]:
        rows = self._features.encode(request)
        scores = self._scorer(as_features(self._features.rows(rows)))
        return best(rows.item_ids, scores, request.k)


def page_request(bundle: Bundle, features: BundleFeatures, item_id: str, k: int) -> RankRequest:
    """The ranking behind an item page."""
    beside = bundle.candidates[features.position(item_id)]
    ids = tuple(bundle.item_ids[beside[beside >= 0]].tolist())
    return RankRequest(candidates=ids, anchor_item=item_id, k=k)


def app() -> Any:
    """What uvicorn serves, by the variables of the environment."""
    bundle = Bundle.open(Path(os.environ[BUNDLE]))
    scorer = torch_of(bundle) if os.environ[SCORER] == "torch" else _onnx_runtime_of(bundle)
    handler = Handler(bundle, scorer)
    return _fastapi(handler) if find_spec(FASTAPI) else _bare(handler)


def torch_of(bundle: Bundle) -> Scorer:
    """The network of a bundle in PyTorch: its weights stand in the fp32 graph.

    Raises:
        InputError: the bundle was imported, so it has no network.
    """
    from ranking_models.continuing import read_parent
    from ranking_models.nn import restore
    from ranking_models.torch_scorer import torch_scorer

    parent = read_parent(bundle)
    network = restore(parent.architecture, parent.start.schema, parent.start.weights)
    return torch_scorer(network.eval(), bundle.schema)


def _onnx_runtime_of(bundle: Bundle) -> Scorer:
    return onnx_runtime_scorer(bundle.graph("fp32"))


def _fastapi(handler: Handler) -> Any:
    from fastapi import FastAPI, Request, Response

    served = FastAPI()

    async def rank(request: Request) -> Response:
        return Response(handler.rank(await request.body()), media_type="application/json")

    async def page(item_id: str, k: int) -> Response:
        return Response(handler.page(item_id, k), media_type="application/json")

    served.add_api_route("/v1/rank", rank, methods=["POST"])
    served.add_api_route("/v1/items/{item_id}/recommendations", page, methods=["GET"])
    return served


def _bare(handler: Handler) -> _Asgi:
    async def served(
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
        send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "POST":
            reply = handler.rank(await _body(receive))
        else:
            item_id = unquote(scope["path"].removeprefix("/v1/items/").rpartition("/")[0])
            (k,) = parse_qs(scope["query_string"].decode())["k"]
            reply = handler.page(item_id, int(k))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(reply))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply})

    return served


async def _body(receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body"):
            return body
