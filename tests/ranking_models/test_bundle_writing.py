"""A bundle is written whole or not at all, under a version that its content decides."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ranking_models.bundle import Bundle, BundleContents, id_array, list_bundles, write_bundle
from ranking_models.errors import BundleError
from ranking_models.manifest import content_version
from ranking_models.schema import FeatureSchema, FeatureSpec
from tests.support.bundles import overwrite, tiny_contents, with_parts, write_tiny_bundle

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def contents() -> BundleContents:
    return tiny_contents()


def everything_under(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_same_content_is_the_same_bundle(contents, tmp_path):
    first = write_bundle(tmp_path / "a", contents)
    second = write_bundle(tmp_path / "b", contents)

    assert first.name == second.name
    assert everything_under(first) == everything_under(second)


def test_when_and_with_what_it_was_made_is_not_part_of_the_version(contents, tmp_path):
    later = msgspec.structs.replace(
        contents, created=datetime(2027, 1, 1, tzinfo=UTC), tools={"torch": "9"}
    )

    assert write_bundle(tmp_path, later).name == write_bundle(tmp_path / "b", contents).name


@pytest.mark.parametrize(
    "change",
    [
        lambda c: {"name": "other"},
        lambda c: {"max_batch_rows": 17},
        lambda c: {"quality": msgspec.structs.replace(c.quality, auc=0.51)},
        lambda c: {"data": msgspec.structs.replace(c.data, licence="CC0")},
        lambda c: {
            "arrays": msgspec.structs.replace(
                c.arrays, popularity=np.ascontiguousarray(c.arrays.popularity[::-1])
            )
        },
    ],
)
def test_other_content_is_another_version(contents, tmp_path, change):
    changed = msgspec.structs.replace(contents, **change(contents))

    assert write_bundle(tmp_path, changed).name != write_bundle(tmp_path, contents).name


def test_the_version_is_the_documented_digest(contents, tmp_path):
    """The first 8 hex digits, so that another program can check them."""
    path = write_bundle(tmp_path, contents)
    manifest = Bundle.open(path).manifest

    assert path.name == manifest.version == content_version(manifest)
    assert len(path.name) == 8
    assert path == tmp_path / "tiny" / manifest.version


def test_writing_again_changes_nothing(contents, tmp_path):
    path = write_bundle(tmp_path, contents)
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}

    assert write_bundle(tmp_path, contents) == path
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_damaged_bundle_in_the_way_is_not_taken_for_success(contents, tmp_path):
    path = write_bundle(tmp_path, contents)
    overwrite(path / "popularity.npy", b"")

    with pytest.raises(BundleError, match=r"already there, but damaged .*remove the folder"):
        write_bundle(tmp_path, contents)


KILLED_AT_EVERY_STEP = """
import os, signal, sys
from pathlib import Path
from ranking_models.bundle import write_bundle
from tests.support.bundles import tiny_contents, with_parts

contents = with_parts(tiny_contents())
root = Path(sys.argv[1])

def write_and_die_at(step):
    calls = 0
    def dying(function):
        def call(*args, **kwargs):
            nonlocal calls
            if calls == step:
                os.kill(os.getpid(), signal.SIGKILL)
            calls += 1
            return function(*args, **kwargs)
        return call
    for name in ("fsync", "rename", "mkdir", "chmod"):
        setattr(os, name, dying(getattr(os, name)))
    write_bundle(root / str(step), contents)
    os._exit(0)

step = 0
while True:
    child = os.fork()
    if child == 0:
        write_and_die_at(step)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        break
    step += 1
print(step)
"""


def test_a_writer_that_is_killed_leaves_no_bundle_or_a_whole_one(contents, tmp_path):
    """SIGKILL before every folder, every sync, every mode, and the rename."""
    finished = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_STEP, str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    steps = int(finished.stdout)
    whole = 0
    for step in range(steps):
        root = tmp_path / str(step)
        for found in list_bundles(root):
            Bundle.open(found.path)
            whole += 1
        rewritten = write_bundle(root, with_parts(contents))
        assert [p.name for p in rewritten.parent.iterdir()] == [rewritten.name], "debris is left"
        Bundle.open(rewritten)

    assert steps > 30
    assert whole == 1  # killed after the rename, before its folder was synced


WRITTEN_ON_A_SMALL_DISK = """
import resource, sys
from pathlib import Path
from ranking_models.bundle import write_bundle
from ranking_models.errors import BundleError
from tests.support.bundles import tiny_contents, with_parts

contents = with_parts(tiny_contents(items=3000))
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write_bundle(Path(sys.argv[1]), contents)
except BundleError as error:
    print(error)
"""


@pytest.mark.parametrize("limit_bytes", [0, 1000, 20_000, 100_000])
def test_a_disk_that_takes_no_more_is_one_clear_error(tmp_path, limit_bytes):
    """A limit on the size of a file stands for a full disk: both fail the write."""
    finished = subprocess.run(
        [sys.executable, "-c", WRITTEN_ON_A_SMALL_DISK, str(tmp_path), str(limit_bytes)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert finished.stdout.count("\n") == 1
    assert "cannot be written" in finished.stdout
    assert str(tmp_path / "tiny") in finished.stdout
    assert everything_under(tmp_path) == {}
    assert list((tmp_path / "tiny").iterdir()) == []


def test_a_folder_that_is_a_file_is_one_clear_error(contents, tmp_path):
    (tmp_path / "bundles").write_text("")

    with pytest.raises(BundleError, match="cannot be written: Not a directory"):
        write_bundle(tmp_path / "bundles", contents)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a@b", ".hidden", "-v", "x" * 65, "ü"])
def test_a_name_that_could_not_be_referred_to_is_refused(contents, tmp_path, name):
    with pytest.raises(BundleError, match="cannot be a model's name"):
        write_bundle(tmp_path, msgspec.structs.replace(contents, name=name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a\nb", "\0", "ä" * 120])
def test_a_feature_that_cannot_be_a_file_is_refused(contents, tmp_path, name):
    tags = FeatureSpec(name=name, source="context", kind="multi", vocabulary=("x",), max_length=2)
    rows = contents.arrays.golden.rows
    golden = msgspec.structs.replace(
        contents.arrays.golden,
        multi={**contents.arrays.golden.multi, name: np.zeros((rows, 2), np.int32)},
    )
    changed = msgspec.structs.replace(
        contents,
        schema=FeatureSchema(features=(*contents.schema.features, tags)),
        arrays=msgspec.structs.replace(contents.arrays, golden=golden),
    )

    with pytest.raises(BundleError, match="cannot be a file name; rename it"):
        write_bundle(tmp_path, changed)
    assert list((tmp_path / "tiny").iterdir()) == []


def test_contents_that_no_reader_would_take_are_not_written(contents, tmp_path):
    short = msgspec.structs.replace(contents.arrays, popularity=contents.arrays.popularity[:-1])

    with pytest.raises(BundleError, match=r"popularity.npy: holds int32 \[49\]"):
        write_bundle(tmp_path, msgspec.structs.replace(contents, arrays=short))
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_is_not_a_number_is_refused(contents, tmp_path):
    quality = msgspec.structs.replace(contents.quality, gauc=float("nan"))

    with pytest.raises(BundleError, match=r"quality\.gauc"):
        write_bundle(tmp_path, msgspec.structs.replace(contents, quality=quality))
    assert list((tmp_path / "tiny").iterdir()) == []


@pytest.mark.parametrize("bad", ["", "a\0", "x" * 257])
def test_an_id_that_no_request_could_name_is_refused(bad):
    with pytest.raises(BundleError, match=r"items\.csv: the id .* cannot be kept"):
        id_array(["fine", bad], "items.csv")


@pytest.mark.parametrize(("items", "users"), [(1, 0), (1, 1), (5, 0), (200, 3)])
def test_catalogues_of_any_size_are_written_and_read(tmp_path, items, users):
    bundle = Bundle.open(write_tiny_bundle(tmp_path, items=items, users=users))

    assert (len(bundle.item_ids), len(bundle.user_ids)) == (items, users)
    assert bundle.users.rows == users
