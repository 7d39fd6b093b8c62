"""A reader is told when a bundle may have learnt from the rows it is measured on."""

from msgspec import structs

from ranking_models.bundle import read_manifest
from ranking_models.evaluation import notes_on_log, notes_on_run
from ranking_models.manifest import ModelManifest
from tests.support.bundles import write_tiny_bundle

TENTH = "last tenth of each user's rows by time"


def trained(tmp_path, split: str = TENTH) -> ModelManifest:
    manifest = read_manifest(write_tiny_bundle(tmp_path))
    return structs.replace(
        manifest,
        version="1234abcd",
        quality=structs.replace(manifest.quality, split=split),
        data=structs.replace(manifest.data, name="shop"),
    )


def test_the_rows_that_were_held_out_need_no_note(tmp_path) -> None:
    manifest = trained(tmp_path)

    found = notes_on_log(manifest, data="shop", rows="test", evidence=f"shop: {TENTH}")

    assert list(found) == []
    assert list(notes_on_run(manifest)) == []


def test_rows_that_were_trained_on_are_named(tmp_path) -> None:
    manifest = trained(tmp_path)

    (everything,) = notes_on_log(manifest, data="shop", rows="all", evidence="shop: all rows")
    (other,) = notes_on_log(
        manifest, data="shop", rows="test", evidence="shop: last tenth of all rows by time"
    )

    assert everything == "tiny@1234abcd was trained on most of these rows: its figures are too good"
    assert (
        other == f"tiny@1234abcd held out the {TENTH}; of these rows it may have learnt from some"
    )


def test_a_last_round_on_all_rows_is_named(tmp_path) -> None:
    manifest = trained(tmp_path, f"{TENTH}, before a last round on all rows")

    (on_log,) = notes_on_log(manifest, data="shop", rows="test", evidence=f"shop: {TENTH}")
    (on_run,) = notes_on_run(manifest)

    assert on_log == on_run
    assert "learnt from these rows in its last round" in on_run


def test_another_log_is_named(tmp_path) -> None:
    (found,) = notes_on_log(trained(tmp_path), data="fair", rows="all", evidence="fair: all rows")

    assert found == "tiny@1234abcd was trained on shop, these rows are of fair"
