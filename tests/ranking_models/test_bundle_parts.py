"""The optional files of a bundle are checked like the others."""

import re
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ranking_models.bundle import Bundle, BundleContents, write_bundle
from ranking_models.bundle.layout import SEGMENT_USERS, segment_version
from ranking_models.errors import BundleError
from ranking_models.manifest import decode_manifest
from tests.support.bundles import (
    overwrite,
    reseal,
    rewrite_manifest,
    tiny_contents,
    with_parts,
)

PARTS = [
    "segments/representatives.npy",
    "segments/scores.npy",
    "segments/users.npy",
    "split/item.onnx",
    "split/row.onnx",
    "split/user.onnx",
]


@pytest.fixture(scope="module")
def contents() -> BundleContents:
    return with_parts(tiny_contents())


@pytest.fixture(scope="module")
def sound(contents, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles"), contents)


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def refused(path: Path, file: str) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert caught.value.file == str(path / file)
    return caught.value.reason


def test_the_parts_come_back_as_they_were_written(contents, sound):
    opened = Bundle.open(sound)

    assert [f for f in opened.manifest.files if f.startswith(("segments/", "split/"))] == PARTS
    assert opened.segments is not None
    for name in ("users", "representatives", "scores"):
        written, read = getattr(contents.segments, name), getattr(opened.segments, name)
        np.testing.assert_array_equal(read, written)
        assert not read.flags.writeable
    assert opened.segments.figures == opened.manifest.segments == contents.segments.figures
    assert opened.manifest.split == contents.split.figures
    for part in ("user", "item", "row"):
        assert opened.split_graph(part).read_bytes() == part.encode()


def test_a_bundle_without_parts_has_none_of_their_files(tmp_path):
    opened = Bundle.open(write_bundle(tmp_path, tiny_contents()))

    assert opened.segments is None
    with pytest.raises(BundleError, match="has no user/item split"):
        opened.split_graph("row")
    assert not (opened.path / "split").exists()
    assert not (opened.path / "segments").exists()


@pytest.mark.parametrize("file", PARTS)
def test_a_changed_part_is_refused(bundle, file):
    content = bytearray((bundle / file).read_bytes())
    content[-1] ^= 1
    overwrite(bundle / file, bytes(content))

    assert "was changed or damaged" in refused(bundle, file)


@pytest.mark.parametrize("file", PARTS)
def test_a_missing_part_is_refused(bundle, file):
    (bundle / file).unlink()

    assert "cannot be read" in refused(bundle, file)


@pytest.mark.parametrize("file", ["split/extra.onnx", "segments/extra.npy"])
def test_a_file_beside_the_parts_is_refused(bundle, file):
    (bundle / file).write_bytes(b"")

    assert "is not in the manifest" in refused(bundle, file)


def test_parts_that_the_manifest_says_nothing_of_are_refused(bundle):
    manifest = decode_manifest((bundle / "manifest.json").read_bytes())
    rewrite_manifest(bundle, msgspec.structs.replace(manifest, segments=None))

    assert "is not a file of a bundle" in refused(bundle, "segments/representatives.npy")


def _array(bundle: Path, file: str, change) -> None:
    array = np.load(bundle / file)
    overwrite(bundle / file, b"")
    np.save(bundle / file, change(array))
    reseal(bundle)


def _first(value):
    def change(array):
        array.flat[0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("segments/users.npy", lambda a: a[:-1], r"holds int32 \[19\]"),
        ("segments/users.npy", lambda a: a.astype(np.int64), "holds int64"),
        ("segments/users.npy", _first(5), "outside 0..4"),
        ("segments/users.npy", _first(-1), "outside 0..4"),
        ("segments/users.npy", lambda a: (a % 4 + 1).astype(np.int32), "segment version"),
        ("segments/representatives.npy", lambda a: a[1:], r"holds int32 \[4, 8\]"),
        ("segments/representatives.npy", lambda a: a[:, :0], r"int32 \[5, 1\]"),
        ("segments/representatives.npy", _first(20), "outside -1..19"),
        ("segments/representatives.npy", _first(0), "a user of another segment"),
        ("segments/scores.npy", lambda a: a[:, 1:], r"float32 \[50, 4\]"),
        ("segments/scores.npy", _first(np.nan), "outside 0..1"),
        ("segments/scores.npy", _first(1.5), "outside 0..1"),
    ],
)
def test_segments_that_do_not_fit_are_refused(bundle, file, change, reason):
    _array(bundle, file, change)

    assert re.search(reason, refused(bundle, file))


def test_segments_that_no_reader_would_take_are_not_written(contents, tmp_path):
    short = msgspec.structs.replace(contents.segments, users=contents.segments.users[:-1])

    with pytest.raises(BundleError, match=SEGMENT_USERS):
        write_bundle(tmp_path, msgspec.structs.replace(contents, segments=short))
    assert list(tmp_path.iterdir()) == []


def test_cached_scores_depend_on_the_segments_and_not_on_the_split(contents, tmp_path):
    def score_hash(changed: BundleContents) -> str:
        return Bundle.open(write_bundle(tmp_path, changed)).score_hash("fp32")

    users = contents.segments.users.copy()
    other = msgspec.structs.replace(
        contents.segments,
        users=users,
        representatives=np.full_like(contents.segments.representatives, -1),
        figures=msgspec.structs.replace(
            contents.segments.figures, version=segment_version(users), count=5
        ),
    )

    assert score_hash(contents) == score_hash(msgspec.structs.replace(contents, split=None))
    assert score_hash(contents) != score_hash(msgspec.structs.replace(contents, segments=other))
    assert score_hash(contents) != score_hash(msgspec.structs.replace(contents, segments=None))
