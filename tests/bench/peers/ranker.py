"""What every peer runs for a request: the same Python work on the same ONNX graph.

msgspec decodes, numpy looks features up and gathers them, one ONNX Runtime call
on one thread scores, the best come back. Runs in each peer's own environment,
without Podium; reads the bundle's plain files from the folder ``BENCH_BUNDLE``.
"""

import os
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime

USER_DENSE, USER_IDS = 10, 3
SIDE_DENSE, SIDE_IDS = 14, 5
"""Columns of the user and, behind them, of the context; the item's follow."""


class User(msgspec.Struct):
    id: str


class Request(msgspec.Struct):
    user: User
    context: dict[str, str | float]
    candidates: list[str]
    k: int


class Item(msgspec.Struct):
    id: str
    score: float


class Slate(msgspec.Struct):
    items: list[Item]


decode = msgspec.json.Decoder(Request).decode
encode = msgspec.json.Encoder().encode


class Ranker:
    """Requests to slates."""

    def __init__(self) -> None:
        folder = Path(os.environ["BENCH_BUNDLE"])
        self._items, self._item_dense, self._item_ids = _table(folder / "catalogue", "item_ids")
        self._users, self._user_dense, self._user_ids = _table(folder / "users", "user_ids")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            folder / "ranker.fp32.onnx", options, providers=["CPUExecutionProvider"]
        )

    def rank(self, requests: list[Request]) -> list[bytes]:
        """Score all candidates of all requests in one call."""
        counts = [len(request.candidates) for request in requests]
        (scores,) = self._session.run(None, self._inputs(requests, counts))
        slates, start = [], 0
        for request, count in zip(requests, counts, strict=True):
            own = scores[start : start + count]
            start += count
            best = np.argsort(-own)[: request.k]
            ids = request.candidates
            pairs = zip(best.tolist(), own[best].tolist(), strict=True)
            slates.append(encode(Slate([Item(ids[place], score) for place, score in pairs])))
        return slates

    def _inputs(self, requests: list[Request], counts: list[int]) -> dict[str, np.ndarray]:
        items = np.array([self._items[i] for request in requests for i in request.candidates])
        side_dense, side_ids = self._sides(requests)
        of_row = np.repeat(np.arange(len(requests)), counts)
        rows = len(items)
        dense = np.empty((rows, SIDE_DENSE + self._item_dense.shape[1]), np.float32)
        ids = np.empty((rows, SIDE_IDS + self._item_ids.shape[1]), np.int32)
        dense[:, :SIDE_DENSE], dense[:, SIDE_DENSE:] = side_dense[of_row], self._item_dense[items]
        ids[:, :SIDE_IDS], ids[:, SIDE_IDS:] = side_ids[of_row], self._item_ids[items]
        return {"dense": dense, "ids": ids}

    def _sides(self, requests: list[Request]) -> tuple[np.ndarray, np.ndarray]:
        """Users and contexts, one row per request."""
        users = [self._users[request.user.id] for request in requests]
        dense = np.empty((len(requests), SIDE_DENSE), np.float32)
        ids = np.empty((len(requests), SIDE_IDS), np.int32)
        dense[:, :USER_DENSE], ids[:, :USER_IDS] = self._user_dense[users], self._user_ids[users]
        for row, request in enumerate(requests):
            said = request.context
            dense[row, USER_DENSE:] = [said[f"context_{i}"] for i in range(4)]
            ids[row, USER_IDS:] = int(said["device"][1:]) + 1, int(said["hour"][1:]) + 1
        return dense, ids


def _table(folder: Path, ids: str) -> tuple[dict[str, int], np.ndarray, np.ndarray]:
    at = {name: row for row, name in enumerate(np.load(folder / f"{ids}.npy").tolist())}
    return at, np.load(folder / "dense.npy"), np.load(folder / "ids.npy")
