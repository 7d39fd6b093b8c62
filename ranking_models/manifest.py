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

from ranking_models.schema import FeatureSchema

FORMAT = 1
"""Version of the bundle layout itself."""


class FileDigest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of the bundle, as it was written."""

    sha256: str
    bytes: int


class Architecture(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which network, and its sizes."""

    name: Literal["dcn-v2", "deepfm"]
    embedding_dim: int
    cross_layers: int = 0
    """Depth of the cross network (dcn-v2)."""
    hidden: tuple[int, ...]
    """Widths of the MLP's layers."""
    dropout: float = 0.0


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


class Variant(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The graph of one precision and how far it is from the reference."""

    file: str
    tolerance: float
    """Largest absolute score difference on the golden rows that an engine may show."""
    parity: float
    """The difference measured at export, ONNX Runtime on the CPU against PyTorch."""


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
