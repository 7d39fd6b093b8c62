"""The manifest: what a bundle holds, how good it is, and how that was checked.

It is written as canonical JSON (sorted keys), so the same values are the same
bytes. Its ``version`` covers the content and leaves out when and with what it
was made; its ``sha256`` covers every field, so that no damage goes unnoticed.
"""

import hashlib
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Struct

from ranking_models.architectures import Architecture
from ranking_models.schema import FeatureSchema

FORMAT = 2
"""Version of the bundle layout itself."""


class FileDigest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the bundle, as it was written."""

    sha256: str
    bytes: int


class Quality(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Figures on held-out rows of one split."""

    split: str
    """In words, such as "last tenth of each user's rows by time". It ends in "before a last round
    on all rows" where the figures are those of the same recipe without the test rows."""
    rows: int
    users: int
    auc: float
    log_loss: float
    gauc: float
    """AUC per user, weighted by rows; users with one class are left out."""
    ndcg_at_10: float


class DataSource(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model was trained on."""

    name: str
    licence: str
    interactions: int
    users: int
    items: int
    first_event: str
    """RFC 3339."""
    last_event: str


class Interval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A figure and the 95 % interval around it."""

    value: float
    low: float
    high: float


class GateFigures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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
    auc_change: Interval
    """Relative: ``auc / reference_auc - 1``; negative is worse. Paired bootstrap by user."""
    log_loss_change: Interval
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


class GateThresholds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a candidate must keep; None asks for nothing."""

    max_auc_loss: float | None = None
    """Relative: 0.003 is 0.3 %."""
    max_log_loss_gain: float | None = None
    """Relative."""
    max_difference: float | None = None
    min_top10_overlap: float | None = None
    min_top10_overlap_worst: float | None = None
    min_kendall_tau: float | None = None
    max_activation: float | None = None
    above_baseline: bool = False
    """Whether the AUC must not be below that of logistic regression."""


class Gate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The proof that a candidate ranks like its reference, or that it does not."""

    reference: str
    """What it was compared with: ``fp32`` of the same bundle, or another model."""
    evidence: str
    """Which rows, in words."""
    figures: GateFigures
    thresholds: GateThresholds
    failures: tuple[str, ...]
    """The thresholds that were broken, each in one sentence; none: passed."""
    forced: bool = False
    """Published although it failed."""

    @property
    def passed(self) -> bool:
        return not self.failures


class LayerSensitivity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What quantising one layer alone does to the scores of the calibration rows."""

    layer: str
    mean_difference: float
    """Mean absolute score difference."""
    kept: bool
    """Whether the layer stays in the higher precision."""


class Quantisation(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a graph came to INT8."""

    activations: Literal["u8", "s8"]
    calibration: str
    """The method, such as ``percentile 99.9``."""
    calibration_rows: int
    kept_precision: Literal["fp32", "fp16"]
    """Of the layers that were not quantised."""
    layers: tuple[LayerSensitivity, ...]


class Variant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The graph of one precision and how far it is from the reference."""

    file: str
    tolerance: float
    """Largest absolute score difference on the golden rows that an engine may show."""
    parity: float
    """The difference measured at export, ONNX Runtime on the CPU against PyTorch."""
    embedding_rows: Literal["fp32", "fp16", "int8"] = "fp32"
    """How the rows of the embedding table are stored."""
    quantisation: Quantisation | None = None
    gate: Gate | None = None
    """None for fp32, the reference itself."""


class Lineage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which model this one was made from, and how."""

    method: Literal["continued", "pruned", "distilled", "with-catalogue"]
    parent: str
    """``name@version`` of a bundle, or the name of a run."""
    options: dict[str, str | int | float]
    gate: Gate | None = None
    """The model held against its parent; None where it is not meant to rank like it."""


class ExactSplit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fp32 graph in three parts that give the same scores; see `ranking_models.bundle`."""

    user_width: int
    """float32 numbers that ``split/user.onnx`` gives per request."""
    item_width: int
    """float32 numbers that ``split/item.onnx`` gives per item."""
    parity: float
    """Largest score difference to the fp32 graph on the golden rows."""
    factored: tuple[str, ...]
    """Layers that were taken apart."""
    whole: tuple[str, ...]
    """Layers that need user and item together, and stay in ``split/row.onnx``."""


class ModeCost(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a mode of the score cache costs and saves, against exact scores."""

    mode: Literal["exact", "segment", "segment_rescore"]
    segments: int | None = None
    """Scores of a row, segment 0 included; None for exact."""
    top: int | None = None
    """With segment_rescore: candidates that are scored exactly."""
    rows_saved: float
    """Share of a list's candidates that no engine scores once all rows are cached, 0..1."""
    figures: dict[str, Interval]
    """By metric, with its 95 % interval. On held-out rows: ``auc``, ``gauc``, ``ndcg_rows``, none
    of which segment_rescore has, since it orders requests; on lists of one click among candidates
    drawn from the catalogue: ``list_auc``, the share of the other candidates behind the click,
    ``ndcg``, ``hit_rate``, and ``overlap``, the share of the exact first k that are the mode's
    first k; on whole catalogues: ``catalogue_overlap``. What these rows are too few for is left
    out."""
    change: dict[str, Interval] = {}
    """This minus exact, paired: what both share cancels out."""


class Segments(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The users in groups that rank alike, for cached score rows."""

    count: int
    version: str
    """8 hex digits over the map; part of what a cached row depends on."""
    probes: int
    """Items whose scores describe a user to the grouping."""
    explained: float
    """Share of the variance of users' log odds that the groups explain, 0..1."""
    modes: tuple[ModeCost, ...] | msgspec.UnsetType = msgspec.UNSET
    """What ranking by segment costs, on the run's held-out rows; if the export measured it."""
    modes_on: str | msgspec.UnsetType = msgspec.UNSET
    """On which rows and lists, in words."""


class CandidateFigures(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How good the item pages' candidates are, on likes that did not make them."""

    size: int
    """Candidates per item."""
    pairs: int
    """Held-out likes of a user with an earlier like as anchor."""
    recall: float
    """Share of them that are among the anchor's candidates."""
    popularity_recall: float
    """The same for the most popular items alone."""
    shares: dict[str, float]
    """Of all candidates, by where they come from: co-occurrence, neighbours, popularity."""


class ModelManifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle says of itself."""

    format: int
    name: str
    version: str
    created: Annotated[datetime, msgspec.Meta(tz=True)]
    """RFC 3339 with a time zone; not part of the version."""
    architecture: Architecture
    schema: FeatureSchema
    precisions: dict[str, Variant]
    """By precision; "fp32", the reference, is always among them."""
    max_batch_rows: int
    """Rows that every graph of the bundle was checked with in one call."""
    quality: Quality
    data: DataSource
    lineage: Lineage | None
    """None for a model trained from nothing."""
    split: ExactSplit | None
    """None without the three graphs of ``split/``."""
    segments: Segments | None
    """None without the files of ``segments/``."""
    candidates: CandidateFigures | None
    """None where no likes were held out to measure on."""
    files: dict[str, FileDigest]
    tools: dict[str, str]
    """Package to version; not part of the version."""
    sha256: str
    """Over the manifest itself, with this field empty; not part of the version."""


def content_version(manifest: ModelManifest) -> str:
    """First 8 hex digits of the SHA-256 over files and manifest.

    Covers the sorted (path, SHA-256) pairs of all files, and the manifest as
    canonical JSON (sorted keys) without ``version``, ``created``, ``tools``
    and ``sha256``: the same content always has the same version.
    """
    digest = hashlib.sha256()
    for path, file in sorted(manifest.files.items()):
        digest.update(f"{path}\0{file.sha256}\n".encode())
    content = msgspec.to_builtins(manifest)
    for key in ("version", "created", "tools", "sha256"):
        del content[key]
    digest.update(msgspec.json.encode(content, order="sorted"))
    return digest.hexdigest()[:8]


def sealed(manifest: ModelManifest) -> ModelManifest:
    """The manifest with its version and its own digest filled in."""
    versioned = msgspec.structs.replace(manifest, version=content_version(manifest), sha256="")
    digest = hashlib.sha256(encode_manifest(versioned)).hexdigest()
    return msgspec.structs.replace(versioned, sha256=digest)


def encode_manifest(manifest: ModelManifest) -> bytes:
    """Canonical JSON, indented for people."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1) + b"\n"


def decode_manifest(content: bytes) -> ModelManifest:
    """The manifest that was encoded.

    Raises:
        msgspec.MsgspecError: not JSON, or a field is missing, unknown or wrong.
    """
    return msgspec.json.decode(content, type=ModelManifest)
