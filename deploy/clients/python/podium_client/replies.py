"""What Podium answers to rankings, events and questions about its health.

Fields that a newer service adds are passed over; words, such as of ``degraded``, may be new too.
"""

from msgspec import Struct


class RankedItem(Struct, frozen=True, kw_only=True):
    """One place of the slate; rank 1 is the best."""

    id: str
    score: float
    """Falls with the rank, but for an interleaved slate (a variant is `interleaved`): there two
    rankers take turns, and each item has the score of its own. Click probability where an
    engine scored. On a slate by popularity (see ``model``) it orders the items and is no
    probability: 1 for the most popular of all, 0 for an unknown."""
    rank: int


class ModelRef(Struct, frozen=True, kw_only=True):
    """What scored: enough to find the very artefact again."""

    name: str
    version: str
    precision: str
    engine: str


class ExperimentRef(Struct, frozen=True, kw_only=True):
    """The variant of one experiment that this request got, and why."""

    key: str
    phase: int
    variant: str
    """``interleaved`` where two variants made the slate together."""
    reason: str


class CacheReport(Struct, frozen=True, kw_only=True):
    """How much of the answer came from the cache, in candidates."""

    result: str
    """One of ``hit``, ``partial``, ``miss``, ``stale``, ``bypass``, ``error``. stale: past its
    lifetime, and computed anew behind the reply. bypass: the cache was not asked; error: it
    gave no answer; then nothing is a hit or a miss."""
    hits: int
    misses: int
    age_ms: int | None = None
    level: str | None = None
    """One of ``process``, ``server``. Where the scores were: in the process that answers, or in
    the cache server."""


class Timing(Struct, frozen=True, kw_only=True):
    """Where the time went, in milliseconds; what did not happen is 0."""

    total: float
    cache: float = 0.0
    queue: float = 0.0
    engine: float = 0.0


class BatchReport(Struct, frozen=True, kw_only=True):
    """The batch that scored a request, and why it left when it did."""

    rows: int
    jobs: int
    reason: str
    waiting_rows: int
    """Rows that waited in the queue when the batch left, its own included."""
    oldest_wait_ms: float
    executing: int = 0
    """Batches that were under way when this one left."""
    duplicate_rows: int = 0
    """Rows that were not scored, as equal ones were in the same batch."""
    engine_wait_ms: float = 0.0
    """How long this request waited because every engine was busy, or others were first."""
    company_wait_ms: float = 0.0
    """How long it waited after that, with an engine free, for others to join its batch."""
    arrival_rows_per_s: float | None = None
    """How fast rows came in, as learnt by then; null before it is known."""
    batch_fixed_ms: float | None = None
    """What a batch costs whatever its size, as learnt by then; null before it is known."""
    batch_row_us: float | None = None
    """What each row adds to that, in microseconds."""
    serial_share: float | None = None
    """How far batches under way at the same time wait for each other: 0 not at all, 1 wholly."""


class RowsReport(Struct, frozen=True, kw_only=True):
    """What the cache's score rows had to do with a slate; of the segment modes only."""

    segment: int
    """The user's; 0 is everybody's whom the model does not know."""
    found: int
    """Candidates that had a row."""
    scored: int
    """Candidates that an engine scored exactly."""
    fetching: str
    """One of ``nothing``, ``declined``, ``ok``, ``error``, ``open``. What became of the rows
    that this process did not hold. nothing: there were none. declined: to fetch them would
    have cost more than to score them. ok: they were fetched, as far as there are any. error,
    open: Redis failed, or was left alone."""
    lookup_us: float | None
    """CPU time of fetching one row, as learnt; null: not yet."""
    scoring_us: float | None
    """Time of scoring one instead; null: not learnt yet."""


class Explanation(Struct, frozen=True, kw_only=True):
    """How the slate came about; only on request."""

    batch: BatchReport | None
    """None when no engine ran: a cached or a popularity slate."""
    inputs: dict[str, dict[str, float | int | list[int]]]
    """Item id to the model inputs, encoded, by feature name."""
    teams: dict[str, str] | None = None
    """Of an interleaved slate only: item id to the variant whose ranker placed it."""
    rows: RowsReport | None = None
    """Of the segment modes of the cache only."""


class RankReply(Struct, frozen=True, kw_only=True):
    """An ordered slate and its provenance."""

    slate_id: str
    items: tuple[RankedItem, ...]
    model: ModelRef
    experiments: tuple[ExperimentRef, ...]
    exposure: str | None
    """Signed token to send back with impressions and clicks; None outside experiments."""
    cache: CacheReport
    degraded: str | None
    """One of ``fallback_engine``, ``stale``, ``popularity``."""
    timing_ms: Timing
    request_id: str | None = None
    explain: Explanation | None = None


class EventResult(Struct, frozen=True, kw_only=True):
    """What became of one event."""

    event_id: str | None
    status: str
    """One of ``accepted``, ``duplicate``, ``late``, ``orphan``, ``rejected``."""
    code: str | None = None
    """For rejected events, a stable code."""
    detail: str | None = None


class EventsReply(Struct, frozen=True, kw_only=True):
    """One result per event, in the order sent."""

    results: tuple[EventResult, ...]


class Problem(Struct, frozen=True, kw_only=True):
    """RFC 9457 problem details; ``code`` is stable, ``path`` is a JSON path."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    path: str | None = None
    request_id: str | None = None
    """The caller's, once the request was understood."""
    retryable: bool = False
    """The same request may well succeed a moment later."""
    retry_after_s: float | None = None


class ComponentHealth(Struct, frozen=True, kw_only=True):
    """The state of one part, and what that means for callers."""

    status: str
    """One of ``ok``, ``degraded``, ``failed``. failed: without it some rankings are refused."""
    detail: str | None = None


class Readiness(Struct, frozen=True, kw_only=True):
    """The answer of ``/health/ready``.

    ``degraded`` still takes traffic: rankings go on, something beside them
    does not. ``not_ready`` and ``draining`` want it to go elsewhere.
    """

    status: str
    """One of ``ready``, ``degraded``, ``not_ready``, ``draining``."""
    components: dict[str, ComponentHealth]
