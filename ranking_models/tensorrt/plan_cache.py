"""Plans on disk, beside the bundles and never in them.

Under a folder of plans::

    <key>/plan              the serialised engine
    <key>/manifest.json     what it was made from, and the plan's digest
    timing-<key>.cache      SHA-256, then TensorRT's measurements, shared by graphs

A plan's folder is there completely or not at all. A damaged plan is refused;
damaged measurements are worth nothing and are made anew.
"""

import contextlib
import hashlib
import logging
import secrets
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Struct

from ranking_models.errors import InputError
from ranking_models.folders import new_folder
from ranking_models.manifest import FileDigest
from ranking_models.tensorrt.plan_key import PlanSource

_LOG = logging.getLogger(__name__)
_LOG.addHandler(logging.NullHandler())

FORMAT = 1
PLAN = "plan"
MANIFEST = "manifest.json"

_DIGEST_BYTES = 32


class PlanDamaged(InputError):
    """A plan in the cache is not what was written."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}; podium compile builds the plan again")


class PlanManifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan says of itself."""

    format: int
    model: str
    """``name@version`` of the bundle."""
    precision: str
    created: Annotated[datetime, msgspec.Meta(tz=True)]
    build_s: float
    source: PlanSource
    plan: FileDigest


class Plan(Struct, frozen=True, kw_only=True):
    """A plan that is there and undamaged."""

    path: Path
    """Its folder."""
    manifest: PlanManifest
    content: bytes
    """What `deserialize_cuda_engine` takes."""


class PlanCache:
    """The folder of all plans.

    Of two processes that write the same plan at once one may be refused; what
    is there is whole at any time.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def find(self, source: PlanSource) -> Plan | None:
        """The plan made from exactly this, or None.

        Raises:
            PlanDamaged: it is there, and is not what was written.
        """
        folder = self.root / source.key
        if not folder.is_dir():
            return None
        plan = read_plan(folder)
        if plan.manifest.source != source:
            raise PlanDamaged(folder / MANIFEST, "is the manifest of another plan")
        return plan

    def keep(
        self,
        source: PlanSource,
        plan: bytes,
        *,
        model: str,
        precision: str,
        created: datetime,
        build_s: float,
    ) -> Plan:
        """Write a plan, in place of one that may be there.

        Raises:
            InputError: the folder cannot be written; nothing was changed.
        """
        manifest = PlanManifest(
            format=FORMAT,
            model=model,
            precision=precision,
            created=created,
            build_s=build_s,
            source=source,
            plan=_digest(plan),
        )
        with new_folder(self.root / source.key, replace=True) as folder:
            (folder / PLAN).write_bytes(plan)
            (folder / MANIFEST).write_bytes(_encoded(manifest))
        return Plan(path=self.root / source.key, manifest=manifest, content=plan)

    def timing_cache(self, source: PlanSource) -> bytes | None:
        """Measurements of earlier builds on this GPU, or None."""
        file = self._timing_file(source)
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _LOG.warning("%s: cannot be read (%s); measuring anew", file, error.strerror)
            return None
        digest, measurements = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(measurements).digest() != digest:
            _LOG.warning("%s: was damaged; measuring anew", file)
            return None
        return measurements

    def keep_timing_cache(self, source: PlanSource, measurements: bytes) -> None:
        """Replace the measurements for this GPU.

        Raises:
            InputError: the file cannot be written; the one before is still there.
        """
        digest = hashlib.sha256(measurements).digest()
        _replace(self._timing_file(source), digest + measurements)

    def _timing_file(self, source: PlanSource) -> Path:
        return self.root / f"timing-{source.timing_key}.cache"


def read_plan(folder: Path) -> Plan:
    """The plan of a folder, whatever it was made from.

    Raises:
        PlanDamaged: there is none, or it is not what was written.
    """
    manifest = _read_manifest(folder / MANIFEST)
    content = _read(folder / PLAN)
    if _digest(content) != manifest.plan:
        raise PlanDamaged(folder / PLAN, "was changed or damaged: its SHA-256 differs")
    return Plan(path=folder, manifest=manifest, content=content)


def _read_manifest(file: Path) -> PlanManifest:
    content = _read(file)
    try:
        manifest = msgspec.json.decode(content, type=PlanManifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PlanDamaged(file, f"is not the manifest of a plan ({error})") from error
    if manifest.format != FORMAT:
        raise PlanDamaged(file, f"has format {manifest.format}, this podium reads {FORMAT}")
    return manifest


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise PlanDamaged(file, f"cannot be read ({error.strerror})") from error


def _encoded(manifest: PlanManifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=1) + b"\n"


def _digest(content: bytes) -> FileDigest:
    return FileDigest(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def _replace(file: Path, content: bytes) -> None:
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(4)}.new")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(content)
        unfinished.replace(file)
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)
