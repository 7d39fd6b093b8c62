"""Every value that crosses a border of the service."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeGuard

import msgspec
from msgspec import Meta, Struct

from experiments.decisions import DecisionRecord
from experiments.definition import Experiment
from experiments.standing import Standing
from ranking_models.cache_evaluation import CacheEvaluation
from ranking_models.manifest import DataSource, GateFigures, ModeCost, Quality
from ranking_models.schema import FeatureValue

MAX_TEXT = 256

Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
Features = dict[Name, FeatureValue]
Decisions = dict[Name, Text]
"""Experiment key to variant."""

SignedText = Annotated[str, Meta(min_length=1, max_length=2048)]

Priority = Literal["high", "normal", "low"]
CacheResult = Literal["hit", "partial", "miss", "stale", "bypass", "error"]
CacheLevel = Literal["process", "server"]
Degraded = Literal["fallback_engine", "stale", "popularity"]

MAX_CANDIDATES = 1000

SlateLength = Annotated[int, Meta(ge=1, le=MAX_CANDIDATES)]
TimeoutMs = Annotated[int, Meta(ge=1, le=10_000)]
"""Milliseconds, counted from arrival; late answers are not worth computing."""


class UserRef(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who the slate is for; without an id the user is anonymous."""

    id: Text | None = None
    features: Features = {}
    """Feature values that override what the bundle knows of this user."""


class Candidate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item to score, with feature values that override the catalogue's."""

    id: Text
    features: Features = {}


class RankRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the marketplace backend asks: order these candidates for this user."""

    candidates: Annotated[
        tuple[Text | Candidate, ...], Meta(min_length=1, max_length=MAX_CANDIDATES)
    ]
    request_id: Text | None = None
    user: UserRef = UserRef()
    session_id: Text | None = None
    context: Features = {}
    """``surface``, ``device``, ``country``, ``hour`` and every context feature of a loaded model;
    other names are refused."""
    anchor_item: Text | None = None
    """Ranking beside this item."""
    k: SlateLength = 20
    timeout_ms: TimeoutMs = 50
    priority: Priority = "normal"
    explain: bool = False
    """Add how the slate came about: the batch, and the model inputs of its items."""
    force: Decisions = {}
    """QA overrides, never counted in the analysis."""
    external: Decisions = {}
    """What another system has decided."""
    force_token: SignedText | None = None
    """What an admin has signed: forces one variant without the scope that ``force`` needs."""

    def __post_init__(self) -> None:
        try:
            # Of ids alone: a description has no hash.
            distinct: set[object] = set(self.candidates)
        except TypeError:
            distinct = set(self.candidate_ids())
        if len(distinct) != len(self.candidates):
            ids = self.candidate_ids()
            first = {item: at for at, item in reversed([*enumerate(ids)])}
            twice = next(at for at, item in enumerate(ids) if first[item] < at)
            # In msgspec's own words for the place; it knows none for a whole request.
            raise ValueError(
                f"candidates must be distinct, {ids[twice]!r} is there twice"
                f" - at `$.candidates[{twice}]`"
            )

    def candidate_ids(self) -> tuple[str, ...]:
        """In the order asked; the very candidates where none is described."""
        given = self.candidates
        if _are_ids(given):
            return given
        return tuple(c if isinstance(c, str) else c.id for c in given)

    def described(self) -> Sequence[tuple[int, Candidate]]:
        """The candidates that carry feature values, each with its place."""
        given = self.candidates
        if _are_ids(given):
            return ()
        return [(i, c) for i, c in enumerate(given) if isinstance(c, Candidate) and c.features]


def _are_ids(candidates: tuple[Text | Candidate, ...]) -> TypeGuard[tuple[str, ...]]:
    # A description has no hash, and those of the ids are known by now: without a look at each in
    # Python this costs a quarter of one with `type`.
    try:
        hash(candidates)
    except TypeError:
        return False
    return True


class RankedItem(Struct, frozen=True, gc=False):
    """One place of the slate; rank 1 is the best."""

    id: str
    score: Annotated[
        float,
        Meta(
            description="Falls with the rank, but for an interleaved slate (a variant is "
            "`interleaved`): there two rankers take turns, and each item has the score of its own."
        ),
    ]
    """Click probability where an engine scored. On a slate by popularity (see ``model``) it
    orders the items and is no probability: 1 for the most popular of all, 0 for an unknown."""
    rank: int


class ModelRef(Struct, frozen=True, kw_only=True, gc=False):
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


class CacheReport(Struct, frozen=True, kw_only=True, gc=False):
    """How much of the answer came from the cache, in candidates."""

    result: CacheResult
    """stale: past its lifetime, and computed anew behind the reply. bypass: the cache was not
    asked; error: it gave no answer; then nothing is a hit or a miss."""
    hits: int
    misses: int
    age_ms: int | None = None
    level: CacheLevel | None = None
    """Where the scores were: in the process that answers, or in the cache server."""


class Timing(Struct, frozen=True, kw_only=True, gc=False):
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
    fetching: Literal["nothing", "declined", "ok", "error", "open"]
    """What became of the rows that this process did not hold. nothing: there were none. declined:
    to fetch them would have cost more than to score them. ok: they were fetched, as far as there
    are any. error, open: Redis failed, or was left alone."""
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
    teams: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    """Of an interleaved slate only: item id to the variant whose ranker placed it."""
    rows: RowsReport | msgspec.UnsetType = msgspec.UNSET
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
    degraded: Degraded | None
    timing_ms: Timing
    request_id: str | None = None
    explain: Explanation | msgspec.UnsetType = msgspec.UNSET


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
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


class FeedbackEvent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An impression or a click, as the backend reports it."""

    event_id: Text
    type: Literal["impression", "click"]
    slate_id: Text
    item_id: Text
    position: Annotated[int, Meta(ge=1, le=MAX_CANDIDATES)]
    """Place in the slate as shown, 1 is first."""
    timestamp: Annotated[str, Meta(max_length=64)]
    """When it happened, by the sender's clock; RFC 3339, with a time zone. It is held against the
    time at which our clock made the slate: more than events.attribution_window_s later is late."""
    exposure: Annotated[str, Meta(max_length=8192)] | None = None


EventStatus = Literal["accepted", "duplicate", "late", "orphan", "rejected"]
"""accepted: counts for the variants of its slate. late: kept, but it happened after the attribution
window of its slate, so it is counted as late and for nothing else. orphan: kept, but the slate is
none of ours. duplicate: it was reported before. rejected: see the code."""


class EventResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one event."""

    event_id: str | None
    status: EventStatus
    code: str | None = None
    """For rejected events, a stable code."""
    detail: str | None = None


class EventsReply(Struct, frozen=True, kw_only=True):
    """One result per event, in the order sent."""

    results: tuple[EventResult, ...]


SourceTrouble = Literal[
    "invalid_file", "store_unavailable", "other_definition", "overlapping", "no_copy"
]
"""invalid_file: the last good definitions stay. store_unavailable: the last known standings stay,
and changes are refused. other_definition: another replica has another file. overlapping: two files
together define experiments that cannot run together. no_copy: the last known standings cannot be
kept for a start without the event server."""


class SourceStatus(Struct, frozen=True, kw_only=True):
    """Whether the newest definitions and standings of experiments are in force."""

    status: Literal["ok"] | SourceTrouble
    problem: str | None = None
    since: float
    """Unix seconds: since when it has that status."""


class ForceTokenRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a force token shall allow."""

    variant: Text
    unit: Text | None = None
    """The only user or session that it works for; without it, any."""
    ttl_s: Annotated[int, Meta(ge=1, le=30 * 86_400)] = 3600
    """Seconds until it expires."""


class ForceToken(Struct, frozen=True, kw_only=True):
    """Whoever sends the token is served by the variant, and not counted."""

    token: str
    key: str
    variant: str
    unit: str | None
    expires: int
    """Unix seconds."""


class ExperimentReply(Experiment, frozen=True, kw_only=True):
    """An experiment as it is in force: its definition with its standing put in."""

    standing: Standing | None
    """What was decided besides the definition; None while it is not known."""
    unready: str | None = None
    """Why nobody is assigned although the state says so."""


class ExperimentsReply(Struct, frozen=True, kw_only=True):
    """The experiments in force."""

    experiments: tuple[ExperimentReply, ...]
    config_digest: str
    """Equal definitions and standings have equal digests; every exposure carries it."""
    source: SourceStatus
    """Whether they are the newest."""


class ExperimentChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a person may say with a change of an experiment. Everything may be left out."""

    reason: Annotated[str, Meta(max_length=2_000)] = ""
    """For the audit log."""
    if_generation: Annotated[int, Meta(ge=0)] | None = None
    """The change is refused unless this is the standing's generation."""
    stage: Annotated[int, Meta(ge=0)] | None = None
    """Of ``ramp``: the place of the stage, from 0; without it and `traffic_bp` the next one."""
    traffic_bp: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """Of ``ramp``: a share of the traffic that need not be a stage's."""
    variant: Text | None = None
    """Of ``promote``; may be left out where there is only one beside the control."""


DECISIONS, MOST_DECISIONS = 50, 1_000
"""How many decisions are told where nobody says how many, and at most."""


class DecisionsReply(Struct, frozen=True, kw_only=True):
    """The last decisions about an experiment."""

    key: str
    decisions: tuple[DecisionRecord, ...]
    """Newest first."""


EngineStatus = Literal["loading", "ready", "failing", "open", "probing", "hung", "refused"]
"""loading: not there yet, the next engine of the chain answers. failing: its last call failed.
open: it is left alone. probing: golden rows are asked of it. hung: a call does not come back.
refused: it could not be loaded, such as for want of memory."""


class EngineReport(Struct, frozen=True, kw_only=True):
    """What an engine has done since it was loaded, over all its instances."""

    name: str
    precision: str
    """Of the graph that it runs; another one than the deployment's where it cannot run that."""
    status: EngineStatus
    """Of the instance that is worst off."""
    since: float
    """Unix seconds: since when it has that status."""
    opened: int
    """How often it has been left alone."""
    best_batch_rows: int | None
    """Rows per call at which it scores most rows a second."""
    split: bool
    """Whether it runs as the exact split; the scores are the same but for rounding."""
    shared: bool
    """Whether the engine process runs it, once for all workers."""
    predicted_bytes: int
    """What it was expected to take of the GPU; 0 on a CPU."""
    used_bytes: int
    """What it took, as measured when it was loaded."""
    calls: int
    rows: int
    failed_calls: int
    invalid_rows: int
    """Rows whose score was no probability."""
    last_error: str | None


class GateReport(Struct, frozen=True, kw_only=True):
    """Whether a model ranks like what it was made from, as measured before it was published."""

    verdict: Literal["passed", "failed"]
    forced: bool
    """Published although it failed."""
    failures: tuple[str, ...]
    """The thresholds that were broken, each in one sentence."""
    reference: str
    """What it was compared with: fp32 of the same bundle, or another model."""
    evidence: str
    """Which rows, in words."""
    figures: GateFigures


class CacheModesReport(Struct, frozen=True, kw_only=True):
    """What the cache's modes cost, as the bundle's manifest says since its export."""

    measured_on: str | None
    """The rows and lists, in words; None where the manifest says none."""
    modes: tuple[ModeCost, ...]
    """exact first."""


class DeploymentReport(Struct, frozen=True, kw_only=True):
    """A deployment: what serves it, and how good that was on held-out data."""

    name: str
    model: ModelRef
    cache: str
    surfaces: tuple[str, ...]
    """Surfaces that it serves outside experiments."""
    engines: tuple[EngineReport, ...]
    """In the order of the chain; none for a popularity deployment."""
    queue_rows: int
    items: int
    users: int
    quality: Quality | None
    """Of the model on held-out rows; None where popularity ranks."""
    gate: GateReport | None
    """Of the precision that serves; None for fp32, the reference, and where popularity ranks."""
    lineage_gate: GateReport | None
    """Of a model that was made from another one, held against it; None for every other."""
    data: DataSource
    cache_modes: CacheModesReport | None = None
    """What the cache's modes cost, measured at export; None where that was not asked for, and
    where popularity ranks."""
    cache_evaluation: CacheEvaluation | None = None
    """The same by `podium cache evaluate`, later; None where nobody has measured."""


class ModelVersion(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which version of a model to load, activate or unload."""

    version: Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]


class VersionReport(Struct, frozen=True, kw_only=True):
    """A version that is loaded, and what serves with it."""

    version: str
    default: bool
    """Whether deployments that name no version serve with it."""
    deployments: tuple[str, ...]
    """Empty while it only stands by."""


class ModelReport(Struct, frozen=True, kw_only=True):
    """A model and its versions that are loaded."""

    name: str
    versions: tuple[VersionReport, ...]


class MemoryHold(Struct, frozen=True, kw_only=True):
    """What is counted for a model: what it was expected to take, or more if it took more."""

    model: str
    bytes: int


class GpuMemory(Struct, frozen=True, kw_only=True):
    """The memory of the GPU that models share."""

    limit_bytes: int
    held_bytes: int
    holds: tuple[MemoryHold, ...]


class ModelsReply(Struct, frozen=True, kw_only=True):
    """Everything that is loaded."""

    deployments: tuple[DeploymentReport, ...]
    models: tuple[ModelReport, ...] = ()
    gpu_memory: GpuMemory | None = None
    """None where no model is on a GPU."""
