"""Ranking requests whose right answers are known: what ONNX Runtime computes without Podium.

Requests share their candidates in groups, and all have as many of them, so a
reply that belongs to another request looks like a right one in all but its scores.
"""

import json
import re
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.schema import Encoder, FeatureBatch, FeatureValue

CANDIDATES = 20
GROUPS = 20
"""Lists of candidates; each is asked for by many users and in many contexts."""
TIMEOUT_MS = 10_000
"""So long that a late answer is late, and not one by popularity."""
TOLERANCE = 1e-6
"""Of a score: rows of a batch may be rounded otherwise than alone."""
APART = 1e-4
"""By so much at least the scores of two requests with the same candidates differ."""

_ITEMS = re.compile(rb'"items":\[[^\]]*\]')


class Question(Struct, frozen=True):
    """A request and its right answer."""

    body: bytes
    scores: dict[str, float]
    """Candidate to score, best first."""
    k: int
    """Of so many candidates the reply is to tell."""
    chosen: bool = False
    """Which candidates it tells of is the cache's choice, their scores and order are not."""


class Checker:
    """Compares replies with right answers, item by item and score by score.

    The text of the items of a right reply is remembered, so that the same text need not be
    read again.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self._questions = questions
        self._right: set[tuple[int, bytes]] = set()

    def is_right(self, index: int, reply: bytes) -> bool:
        """Whether this can be the answer to the question with this index."""
        found = _ITEMS.search(reply)
        if found is None:
            return False
        seen = (index, found.group())
        if seen in self._right:
            return True
        items = json.loads(reply)["items"]
        if not self._is_right_order(index, items):
            return False
        self._right.add(seen)
        return True

    def _is_right_order(self, index: int, items: list[dict[str, float | str]]) -> bool:
        question = self._questions[index]
        ids = [str(item["id"]) for item in items]
        if len(ids) != question.k or len({*ids} & question.scores.keys()) != question.k:
            return False
        best = (
            [question.scores[one] for one in ids] if question.chosen else question.scores.values()
        )
        return all(
            item["rank"] == place
            and abs(question.scores[str(item["id"])] - float(item["score"])) <= TOLERANCE
            and abs(right - float(item["score"])) <= TOLERANCE
            for place, (item, right) in enumerate(
                zip(items, sorted(best, reverse=True), strict=False), 1
            )
        )


def questions(
    bundle: Bundle, *, count: int, surface: str, k: int = CANDIDATES, seed: int = 1
) -> list[Question]:
    """Requests for known users and items of a tiny bundle (`tests.support.bundles`).

    Args:
        bundle: With features ``device`` and ``hour`` of the context.
        count: Of requests.
        surface: Which deployment is to answer.
        k: Of so many candidates the reply is to tell; if not of all, of which is its choice.
        seed: The same seed gives the same requests.
    """
    # Here, as the process that only sends the requests should not have to load the runtime.
    from tests.support.plain_onnx import plain_scores

    random = np.random.default_rng(seed)
    lists = [
        random.permutation(len(bundle.item_ids))[:CANDIDATES]
        for _ in range(min(GROUPS, max(1, count // 10)))
    ]
    (device,) = (spec for spec in bundle.schema.of("context").ids if spec.name == "device")
    asked: list[tuple[int, npt.NDArray[np.int64], dict[str, FeatureValue]]] = []
    known: set[tuple[int, int, str]] = set()
    while len(asked) < count:
        group, user = int(random.integers(len(lists))), int(random.integers(len(bundle.user_ids)))
        context: dict[str, FeatureValue] = {
            "device": str(random.choice(device.vocabulary)),
            "hour": int(random.integers(24)),
        }
        if (group, user, json.dumps(context)) not in known:
            known.add((group, user, json.dumps(context)))
            asked.append((user, lists[group], context))
    scores = plain_scores(bundle.graph("fp32").read_bytes(), _rows(bundle, asked)).reshape(
        count, CANDIDATES
    )
    return [_question(bundle, *one, scores[n], surface, k) for n, one in enumerate(asked)]


def differing(asked: Sequence[Question]) -> float:
    """Share of pairs of questions, among those with the same candidates, that can be told apart."""
    groups: dict[frozenset[str], list[Question]] = {}
    for question in asked:
        groups.setdefault(frozenset(question.scores), []).append(question)
    pairs = [
        max(abs(a.scores[item] - b.scores[item]) for item in a.scores) > APART
        for group in groups.values()
        for n, a in enumerate(group)
        for b in group[:n]
    ]
    return sum(pairs) / max(1, len(pairs))


def _question(
    bundle: Bundle,
    user: int,
    items: npt.NDArray[np.int64],
    context: dict[str, FeatureValue],
    scores: npt.NDArray[np.float32],
    surface: str,
    k: int,
) -> Question:
    candidates = [str(bundle.item_ids[item]) for item in items]
    order = np.argsort(-scores, kind="stable")
    body = {
        "user": {"id": str(bundle.user_ids[user])},
        "context": {**context, "surface": surface},
        "candidates": candidates,
        "k": k,
        "timeout_ms": TIMEOUT_MS,
    }
    right = {candidates[n]: float(scores[n]) for n in order.tolist()}
    return Question(msgspec.json.encode(body), right, k, chosen=k < CANDIDATES)


def _rows(
    bundle: Bundle,
    asked: Sequence[tuple[int, npt.NDArray[np.int64], dict[str, FeatureValue]]],
) -> FeatureBatch:
    """One row per request and candidate, by the recipe of the bundle and not by Podium's."""
    schema = bundle.schema
    contexts = [context for _, _, context in asked for _ in range(CANDIDATES)]
    rows = Encoder(schema).encode_rows(contexts)
    items = np.concatenate([items for _, items, _ in asked])
    users = np.repeat(np.array([user for user, _, _ in asked]), CANDIDATES)
    for source, table, at in (("item", bundle.items, items), ("user", bundle.users, users)):
        for kind in ("dense", "ids"):
            columns = [c for c, s in enumerate(getattr(schema, kind)) if s.source == source]
            getattr(rows, kind)[:, columns] = getattr(table, kind)[at]
        for name, values in table.multi.items():
            rows.multi[name][:] = values[at]
    return rows
