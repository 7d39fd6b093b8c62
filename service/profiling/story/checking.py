"""Every step's answers against the same graph scored directly, before anything is measured."""

from collections.abc import Sequence

import msgspec
import numpy as np
from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.schema import Float32
from service.engines import Engine
from service.engines.precisions import REFERENCE
from service.engines.rows import as_features
from service.errors import StartupError
from service.features import BundleFeatures
from service.loadgen.generator import Met
from service.messages import RankRequest
from service.profiling.story.peer import page_request
from service.profiling.story.precision import Scoring
from service.profiling.story.traffic import SLATE, Page, Rank, Stream

TOLERANCE = 1e-4
"""Of a score in fp32."""
REDUCED_TOLERANCE = 5e-3
"""Of a score in a reduced precision, whose rounding may follow the size of the batch."""


class _Item(Struct):
    id: str
    score: float


class _Reply(Struct):
    items: list[_Item]


class Right:
    """What the right answers to a stream are, by one engine called directly."""

    def __init__(self, bundle: Bundle, engine: Engine, scoring: Scoring, stream: Stream) -> None:
        self.tolerance = TOLERANCE if scoring.precision == REFERENCE else REDUCED_TOLERANCE
        self._bundle, self._engine = bundle, engine
        self._features = BundleFeatures(bundle)
        self._decoder = msgspec.json.Decoder(RankRequest)
        self._answers = [self._answer(self._request(r)) for r in stream.requests]

    def check(self, met: Met) -> float:
        """Compare answers to the stream with the right ones.

        Returns:
            The largest difference of a score.

        Raises:
            StartupError: an answer is missing or wrong.
        """
        indices = {index for index, _ in met.replies}
        if {*met.statuses} != {200} or indices != {*range(len(self._answers))}:
            raise StartupError(
                f"it answered {len(met.replies)} of {len(self._answers)} requests, with the "
                f"statuses {', '.join(map(str, sorted(met.statuses)))}"
            )
        worst = max(
            slate_difference(*self._answers[index], _items(body)) for index, body in met.replies
        )
        if worst > self.tolerance:
            raise StartupError(f"a score is off by {worst:.1e}")
        return worst

    def _request(self, asked: Page | Rank) -> RankRequest:
        if isinstance(asked, Rank):
            return self._decoder.decode(asked.body)
        return page_request(self._bundle, self._features, asked.item_id, SLATE)

    def _answer(self, request: RankRequest) -> tuple[Sequence[str], Float32]:
        rows = self._features.encode(request)
        return rows.item_ids, self._engine.score(as_features(self._features.rows(rows)))


def slate_difference(
    ids: Sequence[str], scores: Float32, slate: Sequence[tuple[str, float]]
) -> float:
    """Largest difference of a slate from the right one: of a score, or of a place.

    A place is off by as much as the score of its item lies beside the one that
    belongs there; items whose scores hardly differ may change places.

    Raises:
        StartupError: not so many items of the candidates as it should be.
    """
    right = dict(zip(ids, scores.tolist(), strict=True))
    best = np.sort(scores)[::-1][:SLATE].tolist()
    items = [item for item, _ in slate]
    if len(items) != len(best) or len({*items}) != len(items) or not right.keys() >= {*items}:
        raise StartupError(f"a slate of {len(items)} items is not {len(best)} of the candidates")
    places = [abs(right[item] - value) for item, value in zip(items, best, strict=True)]
    own = [abs(right[item] - score) for item, score in slate]
    return float(max(places + own))


def _items(body: bytes) -> list[tuple[str, float]]:
    try:
        return [(item.id, item.score) for item in msgspec.json.decode(body, type=_Reply).items]
    except msgspec.DecodeError as error:
        raise StartupError(f"it answered what is no slate: {error}") from None
