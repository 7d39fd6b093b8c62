"""Opens a bundle and trusts nothing in it that was not verified."""

import hashlib
import zipfile
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.bundle.layout import (
    CANDIDATES,
    GOLDEN,
    ITEM_IDS,
    MANIFEST,
    POPULARITY,
    SEGMENT_REPRESENTATIVES,
    SEGMENT_SCORES,
    SEGMENT_USERS,
    SPLIT,
    USER_IDS,
    BundleArrays,
    bundle_files,
    check_arrays,
    check_segments,
    table_files,
)
from ranking_models.bundle.parts import SegmentArrays
from ranking_models.errors import BundleError
from ranking_models.manifest import (
    FORMAT,
    FileDigest,
    ModelManifest,
    decode_manifest,
    encode_manifest,
    sealed,
)
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32, Int32

Array = npt.NDArray[Any]

_DAMAGED = "copy the bundle again, or export the run again"


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """An opened, verified bundle. Its arrays are read-only views of the files."""

    path: Path
    manifest: ModelManifest
    arrays: BundleArrays
    segments: SegmentArrays | None = None
    """The users in groups, for cached score rows; None in a bundle without them."""

    @staticmethod
    def open(path: Path) -> "Bundle":
        """Verify every byte of a bundle and map its arrays into memory.

        Raises:
            BundleError: a file is missing, changed, not listed, or does not
                fit the schema; names the file and what to do.
        """
        manifest = read_manifest(path)
        _check_files(path, manifest)
        arrays = _load(path, manifest.schema)
        segments = _load_segments(path, manifest)
        try:
            check_arrays(manifest.schema, arrays)
            if segments:
                check_segments(segments, users=len(arrays.user_ids), items=len(arrays.item_ids))
        except BundleError as error:
            raise BundleError(str(path / error.file), error.reason) from error
        return Bundle(path=path, manifest=manifest, arrays=arrays, segments=segments)

    @property
    def schema(self) -> FeatureSchema:
        """All features, in the order of the graph's columns."""
        return self.manifest.schema

    @property
    def item_ids(self) -> npt.NDArray[np.str_]:
        """Ids of the catalogue's items, by position."""
        return self.arrays.item_ids

    @property
    def items(self) -> FeatureBatch:
        """The encoded features of ``schema.of("item")``, one row per item."""
        return self.arrays.items

    @property
    def user_ids(self) -> npt.NDArray[np.str_]:
        """Ids of the known users, by position."""
        return self.arrays.user_ids

    @property
    def users(self) -> FeatureBatch:
        """The encoded features of ``schema.of("user")``, one row per user."""
        return self.arrays.users

    @property
    def candidates(self) -> Int32:
        """Positions to rank beside each anchor item, ``[items, C]``, padded with -1."""
        return self.arrays.candidates

    @property
    def popularity(self) -> Int32:
        """Every position once, the most popular item first."""
        return self.arrays.popularity

    @property
    def golden(self) -> tuple[FeatureBatch, Float32]:
        """Rows with all columns of the schema, and the reference model's scores for them."""
        return self.arrays.golden, self.arrays.golden_scores

    def graph(self, precision: str) -> Path:
        """The ONNX file of one precision."""
        variants = self.manifest.precisions
        if precision not in variants:
            there = ", ".join(sorted(variants))
            name = f"{self.manifest.name}@{self.manifest.version}"
            advice = f"to add it: podium export --bundle {name} --precision {precision} --run DIR"
            reason = f"has no precision {precision!r}; it has {there}; {advice}"
            raise BundleError(str(self.path / MANIFEST), reason)
        return self.path / variants[precision].file

    def split_graph(self, part: Literal["user", "item", "row"]) -> Path:
        """The ONNX file of one part of the exact split.

        Raises:
            BundleError: the bundle has no split.
        """
        if self.manifest.split is None:
            raise BundleError(str(self.path / MANIFEST), "the bundle has no user/item split")
        return self.path / SPLIT[part]

    def score_hash(self, precision: str) -> str:
        """SHA-256, in hex, over everything of the bundle that makes scores and item pages.

        Two bundles with the same hash answer alike, so they may share cache
        entries: quality figures, dates, golden rows and popularity are left out,
        and the exact split, which only computes the same scores in three steps.
        """
        graph = self.graph(precision).name
        folders = ("catalogue/", "users/", "segments/")
        tables = [f for f in self.manifest.files if f.startswith(folders)]
        digest = hashlib.sha256(precision.encode())
        digest.update(msgspec.json.encode(self.schema, order="sorted"))
        for file in [graph, CANDIDATES, *sorted(tables)]:
            digest.update(f"\n{file}\0{self.manifest.files[file].sha256}".encode())
        return digest.hexdigest()


def read_manifest(path: Path) -> ModelManifest:
    """The manifest of a bundle, verified in itself; the other files are not looked at.

    Raises:
        BundleError: there is none, or it is not what was written.
    """
    file = path / MANIFEST
    try:
        content = file.read_bytes()
    except OSError as error:
        reason = f"cannot be read ({error.strerror}), so {path} is not a complete bundle"
        raise BundleError(str(file), f"{reason}; {_DAMAGED}") from error
    try:
        written_as = msgspec.json.decode(content, type=_Format).format
        if written_as != FORMAT:
            reason = f"the bundle's format is {written_as}, this podium reads {FORMAT}"
            raise BundleError(str(file), f"{reason}; export the run again with this one")
        manifest = decode_manifest(content)
    except msgspec.MsgspecError as error:
        raise BundleError(str(file), f"is not a manifest: {error}; {_DAMAGED}") from error
    except UnicodeDecodeError as error:
        raise BundleError(str(file), f"is not UTF-8; {_DAMAGED}") from error
    if encode_manifest(manifest) != content:
        # The same values spelled in another way: somebody or something was at it.
        raise BundleError(str(file), f"is not spelled as it was written; {_DAMAGED}")
    if sealed(manifest) != manifest:
        raise BundleError(str(file), f"does not match its own version or digest; {_DAMAGED}")
    return manifest


class _Format(msgspec.Struct):
    format: int


def _check_files(path: Path, manifest: ModelManifest) -> None:
    try:
        expected = bundle_files(
            manifest.schema,
            manifest.precisions,
            split=manifest.split,
            segments=manifest.segments,
        )
    except BundleError as error:
        raise BundleError(str(path / error.file), error.reason) from error
    listed = set(manifest.files)
    for file in sorted(expected ^ listed):
        fault = "is not in the manifest" if file in expected else "is not a file of a bundle"
        raise BundleError(str(path / file), f"{fault}; {_DAMAGED}")
    _refuse_unlisted(path, listed | {MANIFEST})
    for file, digest in sorted(manifest.files.items()):
        _check_digest(path / file, digest)


def _refuse_unlisted(path: Path, listed: set[str]) -> None:
    folders = {str(Path(file).parent) for file in listed}
    for entry in sorted(path.rglob("*")):
        name = entry.relative_to(path).as_posix()
        if name not in listed and not (entry.is_dir() and name in folders):
            advice = "a bundle never changes: move it out, side files go beside the bundle"
            raise BundleError(str(entry), f"is not in the manifest; {advice}")


def _check_digest(file: Path, digest: FileDigest) -> None:
    try:
        size = file.stat().st_size
        if size != digest.bytes:
            fault = f"has {size} bytes where the manifest says {digest.bytes}"
            raise BundleError(str(file), f"{fault}; {_DAMAGED}")
        with file.open("rb") as content:
            sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(str(file), f"cannot be read ({error.strerror}); {_DAMAGED}") from error
    if sha256 != digest.sha256:
        raise BundleError(str(file), f"was changed or damaged: its SHA-256 differs; {_DAMAGED}")


def _load(path: Path, schema: FeatureSchema) -> BundleArrays:
    golden = _golden(path / GOLDEN, {"score", *schema.inputs})
    return BundleArrays(
        item_ids=_mapped(path / ITEM_IDS),
        items=_table(path, "catalogue", schema.of("item")),
        user_ids=_mapped(path / USER_IDS),
        users=_table(path, "users", schema.of("user")),
        candidates=_mapped(path / CANDIDATES),
        popularity=_mapped(path / POPULARITY),
        golden_scores=golden.pop("score"),
        golden=FeatureBatch.of_inputs(golden),
    )


def _load_segments(path: Path, manifest: ModelManifest) -> SegmentArrays | None:
    if manifest.segments is None:
        return None
    return SegmentArrays(
        users=_mapped(path / SEGMENT_USERS),
        representatives=_mapped(path / SEGMENT_REPRESENTATIVES),
        scores=_mapped(path / SEGMENT_SCORES),
        figures=manifest.segments,
    )


def _table(path: Path, folder: str, schema: FeatureSchema) -> FeatureBatch:
    files = table_files(folder, schema)
    return FeatureBatch.of_inputs({name: _mapped(path / file) for name, file in files.items()})


def _mapped(file: Path) -> Array:
    """A file as a plain array; ``np.memmap`` itself is slow to index."""
    try:
        return np.asarray(np.lib.format.open_memmap(file, mode="r"))
    except Exception as error:  # of many kinds: numpy's header parser lets them through
        raise _unreadable(file, error) from error


def _golden(file: Path, names: set[str]) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            if set(members) != names:
                raise ValueError(f"it holds {sorted(members)}, the schema asks for {sorted(names)}")
            return {name: _member(archive, member) for name, member in members.items()}
    except Exception as error:  # as above, and those of zip and its decompressors
        raise _unreadable(file, error) from error


def _member(archive: zipfile.ZipFile, member: str) -> Array:
    with archive.open(member) as content:
        return np.asarray(np.lib.format.read_array(content, allow_pickle=False))


def _unreadable(file: Path, error: Exception) -> BundleError:
    reason = " ".join(str(error).split())
    return BundleError(str(file), f"is not an array file of a bundle: {reason}; {_DAMAGED}")
