"""What is loaded: deployments, their engines, and how good their models are."""

from msgspec import Struct

from podium_client.replies import ModelRef


class EngineReport(Struct, frozen=True, kw_only=True):
    """What an engine has done since it was loaded, over all its instances."""

    name: str
    precision: str
    """Of the graph that it runs; another one than the deployment's where it cannot run that."""
    status: str
    """One of ``loading``, ``ready``, ``failing``, ``open``, ``probing``, ``hung``, ``refused``.
    Of the instance that is worst off."""
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


class Quality(Struct, frozen=True, kw_only=True):
    """Figures on held-out rows of one split."""

    split: str
    """In words, such as "last tenth of each user's rows by time". It ends in "before a last
    round on all rows" where the figures are those of the same recipe without the test rows."""
    rows: int
    users: int
    auc: float
    log_loss: float
    gauc: float
    """AUC per user, weighted by rows; users with one class are left out."""
    ndcg_at_10: float


class GateInterval(Struct, frozen=True, kw_only=True):
    """A figure and the 95 % interval around it."""

    value: float
    low: float
    high: float


class GateFigures(Struct, frozen=True, kw_only=True):
    """A candidate graph held against its reference on the same held-out rows and lists."""

    rows: int
    """Held-out rows that both scored."""
    users: int
    lists: int
    """Users whose whole catalogue both ordered."""
    list_items: int
    """Items per list: the catalogue's size."""
    reference_auc: float
    auc: float
    auc_change: GateInterval
    """Relative: ``auc / reference_auc - 1``; negative is worse. Paired bootstrap by user."""
    log_loss_change: GateInterval
    """Relative; positive is worse. Paired bootstrap by user."""
    max_difference: float
    """Largest absolute score difference over rows and lists."""
    p99_difference: float
    """Its 99th percentile over the held-out rows."""
    top10_overlap: float
    """Share of the reference's first ten items that are among the candidate's; mean of lists."""
    top10_overlap_worst: float
    """The same, mean of the worst 5 % of lists."""
    kendall_tau: float
    """Kendall's tau-b on the reference's first 100 items, mean of lists."""
    not_finite: int
    """Scores that are NaN, infinite or outside 0..1, over rows and lists."""
    max_activation: float
    """Largest absolute value inside the reference graph over the rows; fp16 ends at 65504."""
    baseline_auc: float | None = None
    """AUC of logistic regression on the same rows, where a model was made smaller."""


class GateReport(Struct, frozen=True, kw_only=True):
    """Whether a model ranks like what it was made from, as measured before it was published."""

    verdict: str
    """One of ``passed``, ``failed``."""
    forced: bool
    """Published although it failed."""
    failures: tuple[str, ...]
    """The thresholds that were broken, each in one sentence."""
    reference: str
    """What it was compared with: fp32 of the same bundle, or another model."""
    evidence: str
    """Which rows, in words."""
    figures: GateFigures


class DataSource(Struct, frozen=True, kw_only=True):
    """What the model was trained on."""

    name: str
    licence: str
    interactions: int
    users: int
    items: int
    first_event: str
    """RFC 3339."""
    last_event: str


class ModeCost(Struct, frozen=True, kw_only=True):
    """What a mode of the score cache costs and saves, against exact scores."""

    mode: str
    """One of ``exact``, ``segment``, ``segment_rescore``."""
    segments: int | None = None
    """Scores of a row, segment 0 included; None for exact."""
    top: int | None = None
    """With segment_rescore: candidates that are scored exactly."""
    rows_saved: float
    """Share of a list's candidates that no engine scores once all rows are cached, 0..1."""
    figures: dict[str, GateInterval]
    """By metric, with its 95 % interval. On held-out rows: ``auc``, ``gauc``, ``ndcg_rows``; on
    lists of one click among candidates drawn from the catalogue: ``ndcg``, ``hit_rate``, and
    ``overlap``, the share of the exact first k that are the mode's first k; on whole
    catalogues: ``catalogue_overlap``. What a mode cannot change, or these rows cannot have,
    is left out."""
    change: dict[str, GateInterval] = {}
    """This minus exact, paired: what both share cancels out."""


class CacheEvaluation(Struct, frozen=True, kw_only=True):
    """What each mode costs, and on what that was measured."""

    format: int
    model: str
    """``name@version``."""
    precision: str
    evidence: str
    """In words."""
    rows: int
    users: int
    known_users: int
    """Of these, users of the bundle's table: all others are in segment 0."""
    lists: int
    """Of one click among `candidates`."""
    candidates: int
    k: int
    resamples: int
    seed: int
    confidence: float
    modes: tuple[ModeCost, ...]
    """exact first."""


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
