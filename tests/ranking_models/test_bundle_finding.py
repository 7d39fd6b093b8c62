"""A deployment names a model; what it gets is one bundle, or an error that says what there is."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from ranking_models.bundle import find_bundle, list_bundles, write_bundle
from ranking_models.errors import BundleError
from tests.support.bundles import overwrite, tiny_contents, write_tiny_bundle


def test_a_name_alone_is_its_only_version(tmp_path):
    path = write_tiny_bundle(tmp_path)

    assert find_bundle(tmp_path, "tiny") == path


@pytest.mark.parametrize("newest", [0, 1, 2])
def test_a_name_alone_is_its_newest_version(tmp_path, newest):
    """By the instant it was made, whatever the zone; not by the version, which is a digest."""
    instants = [
        datetime(2026, 11, 9, 1, tzinfo=timezone(timedelta(hours=5))),
        datetime(2026, 11, 8, 22, tzinfo=UTC),
        datetime(2026, 11, 9, 0, 30, tzinfo=timezone(timedelta(hours=2))),
    ]  # oldest first, though not as text
    order = [(newest + 1) % 3, (newest + 2) % 3, newest]
    paths = [
        write_bundle(
            tmp_path, msgspec.structs.replace(tiny_contents(seed=seed, items=5), created=instant)
        )
        for seed, instant in zip(order, instants, strict=True)
    ]

    assert find_bundle(tmp_path, "tiny") == paths[-1]
    assert [ref.path for ref in list_bundles(tmp_path)] == paths


def test_a_version_can_be_named(tmp_path):
    paths = [write_tiny_bundle(tmp_path, seed=seed) for seed in range(3)]

    assert [find_bundle(tmp_path, f"tiny@{path.name}") for path in paths] == paths


def test_a_version_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    there = [write_tiny_bundle(tmp_path, name=name).name for name in ("one", "two")]

    with pytest.raises(BundleError) as caught:
        find_bundle(tmp_path, "one@00000000")

    expected = f"there is no bundle one@00000000; there are: one@{there[0]}, two@{there[1]}"
    assert str(caught.value) == f"{tmp_path}: {expected}"


def test_a_model_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    version = write_tiny_bundle(tmp_path, name="one").name

    with pytest.raises(BundleError, match=f"there is no model two; there are: one@{version}"):
        find_bundle(tmp_path, "two")


def test_an_empty_or_absent_folder_holds_no_bundles(tmp_path):
    for root in (tmp_path, tmp_path / "absent"):
        assert list_bundles(root) == ()
        with pytest.raises(BundleError, match="holds no bundles"):
            find_bundle(root, "tiny")


@pytest.mark.parametrize("reference", ["", "@", "tiny@", "@12", "../tiny", "tiny@../x", "a@b@c"])
def test_a_reference_is_a_name_and_perhaps_a_version(tmp_path, reference):
    write_tiny_bundle(tmp_path)

    with pytest.raises(BundleError, match="not of the form name or name@version"):
        find_bundle(tmp_path, reference)


def test_a_folder_that_was_renamed_is_refused(tmp_path):
    """Otherwise a deployment would get another model than the one it names."""
    path = write_tiny_bundle(tmp_path)
    path.rename(path.with_name("12345678"))

    with pytest.raises(BundleError, match=f"says that the bundle is tiny/{path.name}"):
        find_bundle(tmp_path, "tiny@12345678")


def test_what_a_writer_left_unfinished_is_not_found(tmp_path):
    path = write_tiny_bundle(tmp_path)
    (path.parent / ".unfinished").mkdir()

    assert find_bundle(tmp_path, "tiny") == path


def test_a_broken_version_is_named_and_not_passed_over(tmp_path):
    """An older model must not take over in silence."""
    write_tiny_bundle(tmp_path)
    broken = write_tiny_bundle(tmp_path, seed=1)
    overwrite(broken / "manifest.json", b"{")

    with pytest.raises(BundleError) as caught:
        find_bundle(tmp_path, "tiny")
    assert caught.value.file == str(broken / "manifest.json")
