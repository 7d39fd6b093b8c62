"""Which item pages are to be warm, and what each of them asks."""

from hashlib import blake2b
from typing import Final

import msgspec
from msgspec import Struct

from service.cache import ScoreCache
from service.cache.keys import namespace
from service.deployments import Deployment
from service.deployments.segment_rows import SEGMENT_MODES, SegmentRows
from service.messages import RankRequest, UserRef
from service.routing import AS_CONFIGURED, Caching
from service.scoring import Wanted
from service.warming.values import PageOf

_PATIENCE_MS: Final = 10_000


class Pages(Struct, frozen=True):
    """The pages that one call is about."""

    of: PageOf
    deployment: Deployment
    caching: Caching = AS_CONFIGURED

    @property
    def cache(self) -> ScoreCache:
        """Where they are kept."""
        cache = self.deployment.cache
        assert cache is not None, "it was looked at"
        return cache

    @property
    def segments(self) -> SegmentRows | None:
        """What the pages are made of, where that is score rows; None: they are kept whole."""
        mode = self.caching.mode or self.deployment.settings.cache
        return self.deployment.segments if mode in SEGMENT_MODES else None

    @property
    def top(self) -> int:
        return len(self.deployment.bundle.popularity)

    def request(self, place: int) -> RankRequest | None:
        """The request of the page at a place of the popularity order; None: nothing is beside."""
        bundle = self.deployment.bundle
        anchor = str(bundle.item_ids[bundle.popularity[place]])
        return self.request_of(anchor)

    def request_of(self, anchor: str) -> RankRequest | None:
        """The request of an item's page; None: nothing is beside it, or nobody knows it."""
        candidates = self.deployment.candidates_of(anchor)
        if not candidates:
            return None
        return RankRequest(
            candidates=candidates,
            anchor_item=anchor,
            user=UserRef(id=self.of.user_id),
            context=self.of.context,
            priority="low",
            timeout_ms=_PATIENCE_MS,
        )

    def wanted(self, request: RankRequest, now: float) -> Wanted:
        """What a request of these asks of whoever scores it."""
        rows = self.deployment.features.encode(request)
        deadline = now + _PATIENCE_MS / 1000
        return Wanted(request, self.deployment, rows, deadline, self.caching)

    def cursor_key(self, epoch: int) -> str:
        """Where it is noted how far these pages are warm: gone with the epoch and the model."""
        whose = (self.of.context, self.of.user_id, self.segments is None)
        digest = blake2b(msgspec.json.encode(whose, order="sorted"), digest_size=12).hexdigest()
        return f"{namespace(self.deployment.score_hash, epoch, self.caching.arm)}:W:{digest}"
