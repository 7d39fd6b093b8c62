"""The same model with another catalogue: kept items keep their places, new ones find theirs."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from ranking_models.bundle import Bundle, find_bundle, write_bundle
from ranking_models.errors import InputError
from ranking_models.joining import NOBODY, Tables
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.schema import UNKNOWN
from ranking_models.with_catalogue import read_encoded, with_catalogue
from service.cli import run
from tests.support.bundles import tiny_contents, with_parts

SCHEMA = """
name = "tiny"
licence = "CC0"
[interactions]
user = "user_id"
item = "item_id"
timestamp = "at"
label = "clicked"
[items]
id = "item_id"
[[features]]
name = "item_id"
source = "item"
kind = "categorical"
[[features]]
name = "price"
source = "item"
kind = "numeric"
log = true
[[features]]
name = "category"
source = "item"
kind = "categorical"
[[features]]
name = "tags"
source = "item"
kind = "multi"
separator = "|"
"""

NEW = "item_id,price,category,tags\nnew,12.5,toys,used|new\ni4,3,books,\ni2,9,unheard of,cheap\n"


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tmp_path_factory.mktemp("bundles")
    return Bundle.open(write_bundle(root, with_parts(tiny_contents())))


@pytest.fixture
def declaration(tmp_path: Path) -> Path:
    file = tmp_path / "schema.toml"
    file.write_text(SCHEMA)
    return file


def refreshed(parent: Bundle, declaration: Path, items: str = NEW) -> Bundle:
    file = declaration.with_name("items.csv")
    file.write_text(items)
    contents = with_catalogue(
        parent,
        read_encoded(file, declaration, parent.schema, "item"),
        onnx_runtime_scorer(parent.graph("fp32")),
        created=datetime(2026, 11, 2, tzinfo=UTC),
    )
    return Bundle.open(write_bundle(declaration.parent / "bundles", contents))


def test_the_catalogue_is_the_file_encoded_by_the_models_schema(parent, declaration):
    bundle = refreshed(parent, declaration)

    assert bundle.item_ids.tolist() == ["new", "i4", "i2"]
    item_id, category = bundle.items.ids.T
    assert item_id.tolist() == [UNKNOWN, 5, 3]
    assert category.tolist() == [4, 1, UNKNOWN]
    assert bundle.items.multi["tags"].tolist() == [[3, 2, 0], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_allclose(
        bundle.items.dense[:, 0], (np.log1p([12.5, 3, 9]) - 3) / 1.5, rtol=1e-6
    )


def test_the_model_stays_and_the_lineage_says_what_changed(parent, declaration):
    bundle = refreshed(parent, declaration)
    old, new = parent.manifest, bundle.manifest

    for precision in old.precisions:
        assert bundle.graph(precision).read_bytes() == parent.graph(precision).read_bytes()
    np.testing.assert_array_equal(bundle.golden[1], parent.golden[1])
    assert (new.precisions, new.quality, new.split) == (old.precisions, old.quality, old.split)
    assert new.version != old.version
    assert new.lineage.method == "with-catalogue"
    assert new.lineage.parent == f"tiny@{old.version}"
    assert new.lineage.options == {"items": 3, "added": 1, "removed": 48, "changed": 2}


def test_segments_keep_their_users_and_score_the_new_items(parent, declaration):
    bundle = refreshed(parent, declaration)

    np.testing.assert_array_equal(bundle.segments.users, parent.segments.users)
    assert bundle.segments.figures == parent.segments.figures
    tables = Tables(schema=bundle.schema, users=bundle.users, items=bundle.items)
    exact = onnx_runtime_scorer(bundle.graph("fp32"))(tables.join(np.full(3, NOBODY), np.arange(3)))
    np.testing.assert_allclose(bundle.segments.scores[:, 0], exact, atol=1e-6)


def _same_items(parent: Bundle) -> str:
    """The parent's catalogue, as if read from a file: ids alone matter here."""
    lines = [f"{item},20,books," for item in parent.item_ids.tolist() if item != "i7"]
    return "\n".join(["item_id,price,category,tags", "new,20,books,", *lines]) + "\n"


def test_kept_items_keep_their_order_and_their_candidates(parent, declaration):
    bundle = refreshed(parent, declaration, _same_items(parent))
    old_ids, ids = parent.item_ids, bundle.item_ids

    def known(positions) -> list[str]:
        return [item for item in ids[positions].tolist() if item != "new"]

    popular = [item for item in old_ids[parent.popularity].tolist() if item != "i7"]
    assert known(bundle.popularity) == popular
    for position, item in enumerate(ids.tolist()):
        if item == "new":
            assert (bundle.candidates[position] >= 0).all()
            continue
        was = parent.candidates[old_ids.tolist().index(item)]
        kept = [other for other in old_ids[was].tolist() if other != "i7"]
        assert ids[bundle.candidates[position]].tolist()[: len(kept)] == kept


def test_a_new_item_stands_where_the_model_puts_it(parent, declaration):
    bundle = refreshed(parent, declaration, _same_items(parent))
    tables = Tables(schema=bundle.schema, users=bundle.users, items=bundle.items)
    scores = onnx_runtime_scorer(bundle.graph("fp32"))(
        tables.join(np.full(len(bundle.item_ids), NOBODY), np.arange(len(bundle.item_ids)))
    )

    place = bundle.item_ids[bundle.popularity].tolist().index("new")
    assert place == np.count_nonzero(scores[1:] > scores[0])


def test_features_that_the_model_does_not_have_are_refused(parent, declaration):
    declaration.write_text(SCHEMA.replace('"category"', '"brand"'))

    with pytest.raises(
        InputError, match=r"feature '(brand|category)' .*schema\.toml that the model"
    ):
        refreshed(parent, declaration)


def test_a_feature_of_another_kind_is_refused(parent, declaration):
    declaration.write_text(
        SCHEMA.replace(
            'name = "category"\nsource = "item"\nkind = "categorical"',
            'name = "category"\nsource = "item"\nkind = "multi"',
        )
    )

    with pytest.raises(InputError, match="'category' is multi here and categorical in the model"):
        refreshed(parent, declaration)


def test_an_item_without_an_id_is_refused_by_its_row(parent, declaration):
    with pytest.raises(InputError, match="data row 2: the id is missing"):
        refreshed(parent, declaration, NEW.replace("i4", ""))


def test_the_command_writes_the_new_version_beside_the_old_one(parent, declaration, capsys):
    items = declaration.with_name("items.csv")
    items.write_text(NEW)
    root = declaration.parent / "bundles"
    arguments = ["bundle", "with-catalogue", "--bundle", str(parent.path), "--items", str(items)]

    assert run([*arguments, "--schema", str(declaration), "--bundles", str(root)]) == 0

    assert "3 items, 1 added, 48 removed, 2 changed" in capsys.readouterr().out
    assert Bundle.open(find_bundle(root, "tiny")).item_ids.tolist() == ["new", "i4", "i2"]
