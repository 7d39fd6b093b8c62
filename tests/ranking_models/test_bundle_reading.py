"""A bundle that is not exactly what was written is refused, and the refusal names the file."""

import io
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranking_models.bundle import Bundle
from ranking_models.errors import BundleError
from ranking_models.manifest import decode_manifest, encode_manifest
from tests.support.bundles import (
    overwrite,
    reseal,
    rewrite_manifest,
    run_graph,
    write_tiny_bundle,
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that no test changes for good."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles"))


@pytest.fixture
def bundle(sound: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(sound, tmp_path / "copy"))


def files_of(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file())


def refused(path: Path, file: str) -> str:
    """The reason for which a bundle is refused; the error must name `file`."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    assert caught.value.file == str(path / file)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_a_sound_bundle_opens_as_it_was_written(sound):
    bundle = Bundle.open(sound)

    assert bundle.path == sound
    assert bundle.item_ids[[0, 49]].tolist() == ["i0", "i49"]
    assert bundle.user_ids[[0, 19]].tolist() == ["u0", "u19"]
    assert bundle.items.dense.shape == (50, 1)
    assert bundle.users.ids.shape == (20, 2)
    assert bundle.items.multi["tags"].shape == (50, 3)
    assert bundle.candidates.shape == (50, 30)
    rows, scores = bundle.golden
    np.testing.assert_array_equal(run_graph(bundle.graph("fp32").read_bytes(), rows), scores)


def test_nobody_can_write_into_an_open_bundle(sound):
    bundle = Bundle.open(sound)

    for array in (*bundle.items.inputs().values(), bundle.candidates, bundle.item_ids):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = array
    for file in files_of(sound):
        assert file.stat().st_mode & 0o222 == 0


def test_features_are_mapped_and_not_copied_into_memory(sound):
    base = Bundle.open(sound).items.dense.base

    assert isinstance(base, np.memmap)


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_one_changed_byte_anywhere_is_noticed(sound, data):
    file = data.draw(st.sampled_from(files_of(sound)))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))

    with restored(file):
        overwrite(file, bytes(content))
        refused(sound, file.relative_to(sound).as_posix())


@contextmanager
def restored(*files: Path) -> Iterator[None]:
    """Undo, when the block ends, what it did to the files."""
    before = {file: file.read_bytes() for file in files}
    try:
        yield
    finally:
        for file, content in before.items():
            overwrite(file, content)
            file.chmod(0o444)


def test_every_file_is_needed(sound, bundle):
    for file in files_of(sound):
        name = file.relative_to(sound).as_posix()
        (bundle / name).unlink()
        refused(bundle, name)
        shutil.copy(file, bundle / name)
    Bundle.open(bundle)


def test_every_file_must_have_its_full_length(sound):
    for file in files_of(sound):
        content = file.read_bytes()
        for shorter in (content[:-1], content[: len(content) // 2], b""):
            with restored(file):
                overwrite(file, shorter)
                refused(sound, file.relative_to(sound).as_posix())


@pytest.mark.parametrize("extra", ["note.txt", "catalogue/more.npy", "plans/a.plan", ".hidden"])
def test_a_file_that_the_manifest_does_not_list_is_refused(bundle, extra):
    (bundle / extra).parent.mkdir(exist_ok=True)
    (bundle / extra).write_text("")

    first = extra.split("/")[0] if extra.startswith("plans") else extra
    assert "beside the bundle" in refused(bundle, first)


def test_an_extra_folder_is_refused(bundle):
    (bundle / "empty").mkdir()

    refused(bundle, "empty")


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    assert "not a complete bundle" in refused(tmp_path, "manifest.json")
    assert "not a complete bundle" in refused(tmp_path / "absent", "manifest.json")


def test_a_manifest_spelled_in_another_way_is_refused(bundle):
    manifest = decode_manifest((bundle / "manifest.json").read_bytes())
    overwrite(bundle / "manifest.json", msgspec.json.encode(manifest))

    assert "not spelled as it was written" in refused(bundle, "manifest.json")


def test_a_manifest_of_another_format_says_which(bundle):
    manifest = decode_manifest((bundle / "manifest.json").read_bytes())
    rewrite_manifest(bundle, msgspec.structs.replace(manifest, format=1))

    assert "format is 1, this podium reads 2" in refused(bundle, "manifest.json")


def test_a_manifest_with_an_invented_version_is_refused(bundle):
    manifest = decode_manifest((bundle / "manifest.json").read_bytes())
    invented = msgspec.structs.replace(manifest, version="00000000")
    overwrite(bundle / "manifest.json", encode_manifest(invented))

    assert "version" in refused(bundle, "manifest.json")


@pytest.mark.parametrize("tampered", ["../../secret.onnx", "/etc/passwd", "ranker.fp32.onnx/../x"])
def test_a_manifest_cannot_point_outside_of_its_bundle(bundle, tampered):
    manifest = decode_manifest((bundle / "manifest.json").read_bytes())
    fp32 = msgspec.structs.replace(manifest.precisions["fp32"], file=tampered)
    files = {**manifest.files, tampered: manifest.files["ranker.fp32.onnx"]}
    rewrite_manifest(
        bundle, msgspec.structs.replace(manifest, precisions={"fp32": fp32}, files=files)
    )

    assert "not of the form" in refused(bundle, "manifest.json")


def test_a_bundle_without_the_reference_graph_is_refused(bundle):
    manifest = decode_manifest((bundle / "manifest.json").read_bytes())
    rewrite_manifest(bundle, msgspec.structs.replace(manifest, precisions={}))

    assert "fp32" in refused(bundle, "manifest.json")


def test_a_schema_that_the_arrays_do_not_fit_is_refused(bundle):
    manifest = decode_manifest((bundle / "manifest.json").read_bytes())
    without_price = msgspec.structs.replace(
        manifest.schema, features=tuple(f for f in manifest.schema.features if f.name != "price")
    )
    rewrite_manifest(bundle, msgspec.structs.replace(manifest, schema=without_price))

    reason = refused(bundle, "catalogue/dense.npy")
    assert "float32 [50, 1]" in reason
    assert "float32 [50, 0]" in reason


def test_a_schema_with_a_feature_more_asks_for_its_file(bundle):
    manifest = decode_manifest((bundle / "manifest.json").read_bytes())
    tags = next(f for f in manifest.schema.features if f.name == "tags")
    more = (*manifest.schema.features, msgspec.structs.replace(tags, name="colours"))
    schema = msgspec.structs.replace(manifest.schema, features=more)
    rewrite_manifest(bundle, msgspec.structs.replace(manifest, schema=schema))

    refused(bundle, "catalogue/multi_colours.npy")


@pytest.mark.parametrize(
    ("file", "change", "reason"),
    [
        ("catalogue/item_ids.npy", lambda a: np.where(a == "i3", "i4", a), "an id twice"),
        ("catalogue/item_ids.npy", lambda a: a.astype("S8"), "not one text per row"),
        ("catalogue/item_ids.npy", lambda a: a[:0], "no item"),
        ("catalogue/dense.npy", lambda a: a.astype(np.float64), "float64"),
        ("catalogue/dense.npy", lambda a: a.astype(">f4"), ">f4"),
        ("catalogue/dense.npy", lambda a: a * np.float32(np.nan), "NaN"),
        ("catalogue/ids.npy", lambda a: a + np.int32(60), "'item_id' has ids outside 0..50"),
        ("catalogue/ids.npy", lambda a: a - np.int32(1) - a, "outside 0..50"),
        ("catalogue/ids.npy", np.asfortranarray, "C order"),
        ("catalogue/multi_tags.npy", lambda a: a[:, :2].copy(), "[50, 2]"),
        ("catalogue/multi_tags.npy", lambda a: a + np.int32(3), "'tags' has ids outside 0..4"),
        ("users/dense.npy", lambda a: a[:-1], "[20, 1]"),
        ("popularity.npy", lambda a: a[:-1], "[49]"),
        ("popularity.npy", np.zeros_like, "every item once"),
        ("candidates.npy", lambda a: a[:-1], "[49, 30]"),
        ("candidates.npy", lambda a: a.ravel(), "[1500]"),
        ("candidates.npy", lambda a: np.where(a == 7, np.int32(50), a), "outside -1..49"),
        ("candidates.npy", lambda a: np.repeat(a[:, :1], 30, axis=1), "a candidate twice"),
        ("candidates.npy", lambda a: np.arange(50, dtype=np.int32)[:, None] + a * 0, "its own"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(bundle, file, change, reason):
    changed = change(np.load(bundle / file))
    overwrite(bundle / file, npy(changed))
    reseal(bundle)

    assert reason in refused(bundle, file)


@pytest.mark.parametrize(
    ("ids", "table"), [("catalogue/item_ids", "catalogue/dense"), ("users/user_ids", "users/dense")]
)
def test_a_table_must_have_one_row_per_id(bundle, ids, table):
    overwrite(bundle / f"{ids}.npy", npy(np.load(bundle / f"{ids}.npy")[:-1]))
    reseal(bundle)

    assert "where the schema and the catalogue ask for" in refused(bundle, f"{table}.npy")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("score", np.full(32, 1.5, np.float32), "outside 0..1"),
        ("score", np.full(32, np.nan, np.float32), "outside 0..1"),
        ("score", np.zeros(31, np.float32), "[31]"),
        ("dense", np.zeros((32, 1), np.float32), "[32, 3]"),
        ("ids", np.full((32, 5), 99, np.int32), "outside"),
        ("multi_tags", np.zeros((32, 9), np.int32), "[32, 9]"),
        ("extra", np.zeros(3, np.float32), "extra"),
        ("multi_tags", None, "multi_tags"),
    ],
)
def test_golden_rows_that_do_not_fit_are_refused(bundle, name, value, reason):
    golden = dict(np.load(bundle / "golden.npz"))
    golden |= {name: value}
    written = io.BytesIO()
    np.savez(written, **{k: v for k, v in golden.items() if v is not None})
    overwrite(bundle / "golden.npz", written.getvalue())
    reseal(bundle)

    assert reason in refused(bundle, "golden.npz")


class Exploit:
    """What must never run: unpickling it would create a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("file", ["catalogue/dense.npy", "catalogue/item_ids.npy", "golden.npz"])
@pytest.mark.parametrize("form", ["object array", "bare pickle", "object member"])
def test_nothing_is_ever_unpickled(bundle, tmp_path, file, form):
    trap = tmp_path / "executed"
    payload = np.array([Exploit(trap)], dtype=object)
    archive = io.BytesIO()
    np.savez(archive, score=payload, dense=payload, ids=payload, multi_tags=payload)
    content = {
        "object array": npy(payload),
        "bare pickle": pickle.dumps(Exploit(trap)),
        "object member": archive.getvalue(),
    }[form]
    overwrite(bundle / file, content)
    reseal(bundle)

    assert "not an array file" in refused(bundle, file)
    assert not trap.exists()


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_a_malformed_array_file_is_refused_and_never_crashes(sound, data):
    """Even when the manifest vouches for it, as after a careless repair."""
    names = ["catalogue/dense.npy", "catalogue/item_ids.npy", "candidates.npy", "golden.npz"]
    file = sound / data.draw(st.sampled_from(names))
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, min(200, len(content) - 1)))] = data.draw(
            st.integers(0, 255)
        )

    with restored(file, sound / "manifest.json"):
        overwrite(file, bytes(content))
        reseal(sound)
        with suppress(BundleError):  # or it opens: not every byte of a header matters
            Bundle.open(sound)


def test_an_unreadable_file_is_an_error_of_the_bundle(bundle):
    (bundle / "popularity.npy").unlink()
    os.mkfifo(bundle / "popularity.npy")

    refused(bundle, "popularity.npy")


def test_an_unknown_precision_says_which_there_are(sound):
    with pytest.raises(BundleError, match="no precision 'fp16'; it has fp32"):
        Bundle.open(sound).graph("fp16")


def test_the_score_hash_names_what_makes_the_scores(sound, tmp_path):
    same = Bundle.open(write_tiny_bundle(tmp_path / "again"))
    renamed = Bundle.open(write_tiny_bundle(tmp_path / "renamed", name="other"))
    other = Bundle.open(write_tiny_bundle(tmp_path / "other", seed=1))
    first = Bundle.open(sound)

    assert first.score_hash("fp32") == same.score_hash("fp32") == renamed.score_hash("fp32")
    assert first.score_hash("fp32") != other.score_hash("fp32")


@pytest.mark.parametrize("file", ["catalogue/dense.npy", "users/ids.npy", "candidates.npy"])
def test_the_score_hash_covers_tables_and_candidates(sound, bundle, file):
    changed = np.load(bundle / file)
    changed[0] = changed[1] if file != "candidates.npy" else changed[0][::-1]
    overwrite(bundle / file, npy(changed))
    reseal(bundle)

    assert Bundle.open(bundle).score_hash("fp32") != Bundle.open(sound).score_hash("fp32")


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()
