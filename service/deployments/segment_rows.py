"""What a deployment of the segment modes has beside its engines: who belongs where, and rows."""

from msgspec import Struct

from ranking_models.bundle import Bundle
from ranking_models.schema import Int32
from service.batching.batcher import Batcher
from service.cache.rows import RowLevels, ScoreRows
from service.clock import Clock
from service.deployments.row_fills import RowFiller, Speakers
from service.engines.rows import CandidateTables
from service.features import FeatureSource
from service.id_index import NOWHERE
from service.settings import CacheMode

NOBODYS = 0
"""The segment of everybody who is not in the bundle's table of users."""

SEGMENT_MODES: tuple[CacheMode, ...] = ("segment", "segment_rescore")


class SegmentRows(Struct, frozen=True):
    """The segments of a bundle, and their score rows."""

    rows: ScoreRows
    filler: RowFiller
    features: FeatureSource
    of_user: Int32
    """By position in the table of users."""

    def segment_of(self, user_id: str | None) -> int:
        """The user's segment."""
        at = NOWHERE if user_id is None else self.features.user_position(user_id)
        return NOBODYS if at == NOWHERE else int(self.of_user[at])


def segment_rows(
    bundle: Bundle,
    features: FeatureSource,
    batcher: Batcher,
    levels: RowLevels,
    *,
    name: str,
    score_hash: str,
    clock: Clock,
) -> SegmentRows | None:
    """The rows of a deployment of that name; None if its bundle has no segments."""
    segments = bundle.segments
    if segments is None:
        return None
    rows = levels.rows(segments.figures.count, score_hash)
    tables = CandidateTables.of(bundle)
    filler = RowFiller(rows, Speakers(bundle), tables, batcher, name, clock)
    return SegmentRows(rows, filler, features, segments.users)


def no_segments(mode: CacheMode, bundle: Bundle) -> str:
    """Why a mode cannot be had, and what to do."""
    manifest = bundle.manifest
    return (
        f'cache = "{mode}" needs the segments of users, and {manifest.name}@{manifest.version} '
        'has none: export the model again with segments, or set cache = "exact"'
    )
