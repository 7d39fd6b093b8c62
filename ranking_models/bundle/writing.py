"""Writes a bundle: all of it or nothing, and never over an existing one.

A bundle is built in a hidden folder beside its place, every file of it is
synced to the disk, the manifest is written last, and one rename publishes it.
Whatever dies on the way leaves a hidden folder without meaning to any reader;
the next write of the same model removes it. A lock on the model's folder
keeps writers apart.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.architectures import Architecture
from ranking_models.bundle.layout import (
    CANDIDATES,
    GOLDEN,
    ITEM_IDS,
    MANIFEST,
    NAME,
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
from ranking_models.bundle.parts import SegmentArrays, SplitGraphs
from ranking_models.bundle.reading import Bundle
from ranking_models.errors import BundleError
from ranking_models.manifest import (
    FORMAT,
    CandidateFigures,
    DataSource,
    FileDigest,
    Gate,
    Lineage,
    ModelManifest,
    Quality,
    Quantisation,
    Variant,
    decode_manifest,
    encode_manifest,
    sealed,
)
from ranking_models.schema import FeatureSchema

_UNFINISHED = ".unfinished"


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """A ranker as a serialised ONNX model, and how far it is from the reference."""

    onnx: bytes
    tolerance: float
    """Largest absolute score difference on the golden rows that an engine may show."""
    parity: float
    """The difference measured at export."""
    embedding_rows: Literal["fp32", "fp16", "int8"] = "fp32"
    quantisation: Quantisation | None = None
    gate: Gate | None = None
    """None for fp32, the reference itself."""


class BundleContents(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that goes into a bundle."""

    name: str
    created: datetime
    """With a time zone; not part of the version."""
    architecture: Architecture
    schema: FeatureSchema
    graphs: dict[str, Graph]
    """By precision; "fp32" is always among them."""
    arrays: BundleArrays
    max_batch_rows: int
    quality: Quality
    data: DataSource
    tools: dict[str, str]
    lineage: Lineage | None = None
    candidates: CandidateFigures | None = None
    split: SplitGraphs | None = None
    """None writes no folder ``split/``."""
    segments: SegmentArrays | None = None
    """None writes no folder ``segments/``."""


def write_bundle(root: Path, contents: BundleContents) -> Path:
    """Write ``<root>/<name>/<version>/`` and return its path.

    Content that is already there is left as it is: that is a success too.

    Raises:
        BundleError: the contents do not fit together, the folder cannot be
            written (nothing is left behind), or the version that is already
            there is damaged.
    """
    if not NAME.fullmatch(contents.name):
        rule = "use letters, digits, '.', '_' and '-', and start with a letter or digit"
        raise BundleError(str(root), f"{contents.name!r} cannot be a model's name; {rule}")
    arrays = contents.arrays
    check_arrays(contents.schema, arrays)
    if contents.segments:
        users, items = len(arrays.user_ids), len(arrays.item_ids)
        check_segments(contents.segments, users=users, items=items)
    parent = root / contents.name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with _locked(parent):
            return _publish(parent / _UNFINISHED, contents)
    except OSError as error:
        reason = f"the bundle cannot be written: {error.strerror or error}"
        raise BundleError(str(parent), f"{reason}; free space or choose another folder") from error


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _publish(unfinished: Path, contents: BundleContents) -> Path:
    # Only a writer that was killed leaves this folder, for we hold the lock.
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        manifest = _write_all(unfinished, contents)
        target = unfinished.with_name(manifest.version)
        if target.exists():
            _check_existing(target)
        else:
            unfinished.rename(target)
            _sync_folder(target.parent)
        return target
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check_existing(target: Path) -> None:
    try:
        Bundle.open(target)
    except BundleError as error:
        reason = f"this version is already there, but damaged ({error})"
        raise BundleError(str(target), f"{reason}; remove the folder and export again") from error


def _write_all(folder: Path, contents: BundleContents) -> ModelManifest:
    graphs = _graph_files(contents)
    arrays = _array_files(contents)
    folders = sorted({folder, *((folder / file).parent for file in (*graphs, *arrays))})
    for sub in folders:
        sub.mkdir()
    for file, graph in graphs.items():
        _write(folder / file, graph)
    for file, array in arrays.items():
        _write_array(folder / file, array)
    _write_golden(folder / GOLDEN, contents.arrays)
    manifest = _manifest(folder, contents)
    _write(folder / MANIFEST, encode_manifest(manifest))
    for sub in reversed(folders):
        _sync_folder(sub)
    return manifest


def _manifest(folder: Path, contents: BundleContents) -> ModelManifest:
    variants = {
        precision: Variant(
            file=_graph_file(precision),
            tolerance=graph.tolerance,
            parity=graph.parity,
            embedding_rows=graph.embedding_rows,
            quantisation=graph.quantisation,
            gate=graph.gate,
        )
        for precision, graph in contents.graphs.items()
    }
    split = contents.split.figures if contents.split else None
    segments = contents.segments.figures if contents.segments else None
    files = bundle_files(contents.schema, variants, split=split, segments=segments)
    manifest = sealed(
        ModelManifest(
            format=FORMAT,
            name=contents.name,
            version="",
            created=contents.created,
            architecture=contents.architecture,
            schema=contents.schema,
            precisions=variants,
            max_batch_rows=contents.max_batch_rows,
            quality=contents.quality,
            data=contents.data,
            lineage=contents.lineage,
            split=split,
            segments=segments,
            candidates=contents.candidates,
            files={file: _digest(folder / file) for file in sorted(files)},
            tools=contents.tools,
            sha256="",
        )
    )
    try:
        if decode_manifest(encode_manifest(manifest)) == manifest:
            return manifest
        fault = "a value changes when it is written as JSON"
    except msgspec.MsgspecError as error:  # NaN is written as null and then refused
        fault = str(error)
    raise BundleError(MANIFEST, f"cannot be written faithfully: {fault}; correct the run's figures")


def _graph_file(precision: str) -> str:
    """bf16 is how an engine computes the fp32 graph, and has no file of its own."""
    return f"ranker.{'fp32' if precision == 'bf16' else precision}.onnx"


def _graph_files(contents: BundleContents) -> dict[str, bytes]:
    graphs = {_graph_file(precision): graph.onnx for precision, graph in contents.graphs.items()}
    if contents.split is None:
        return graphs
    split = contents.split
    return {
        **graphs,
        SPLIT["user"]: split.user,
        SPLIT["item"]: split.item,
        SPLIT["row"]: split.row,
    }


def _array_files(contents: BundleContents) -> dict[str, npt.NDArray[np.generic]]:
    schema, arrays, segments = contents.schema, contents.arrays, contents.segments
    catalogue, users = arrays.items.inputs(), arrays.users.inputs()
    files: dict[str, npt.NDArray[np.generic]] = {
        ITEM_IDS: arrays.item_ids,
        USER_IDS: arrays.user_ids,
        CANDIDATES: arrays.candidates,
        POPULARITY: arrays.popularity,
        **{f: catalogue[i] for i, f in table_files("catalogue", schema.of("item")).items()},
        **{f: users[i] for i, f in table_files("users", schema.of("user")).items()},
    }
    if segments:
        files |= {
            SEGMENT_USERS: segments.users,
            SEGMENT_REPRESENTATIVES: segments.representatives,
            SEGMENT_SCORES: segments.scores,
        }
    return files


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o444)


def _write_array(path: Path, array: npt.NDArray[np.generic]) -> None:
    with path.open("xb") as file:
        np.lib.format.write_array(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o444)


def _write_golden(path: Path, arrays: BundleArrays) -> None:
    # numpy dates every member 1980-01-01, so equal rows make equal bytes.
    with path.open("xb") as file:
        np.savez(file, allow_pickle=False, score=arrays.golden_scores, **arrays.golden.inputs())
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o444)


def _digest(path: Path) -> FileDigest:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return FileDigest(sha256=sha256, bytes=path.stat().st_size)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
