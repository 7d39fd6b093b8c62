"""What ``podium simulate --out`` writes is what ``podium train --data`` reads."""

import builtins
import tomllib

import numpy as np
import pytest
from pyarrow import parquet

from ranking_models.errors import InputError
from ranking_models.marketplace import ANONYMOUS
from ranking_models.marketplace.files import TRUTH_COLUMN, write_files
from ranking_models.marketplace.names import item_id, item_indices, user_id


@pytest.fixture(scope="module")
def directory(marketplace, log, tmp_path_factory):
    target = tmp_path_factory.mktemp("market") / "new" / "folder"
    write_files(marketplace.population, log, target)
    return target


def test_four_files_are_written(directory):
    assert sorted(path.name for path in directory.iterdir()) == [
        "interactions.parquet",
        "items.parquet",
        "schema.toml",
        "users.parquet",
    ]


def test_the_schema_names_only_columns_that_are_there(directory):
    schema = tomllib.loads((directory / "schema.toml").read_text())
    columns = {
        name: set(parquet.read_schema(directory / f"{name}.parquet").names)
        for name in ("interactions", "items", "users")
    }

    assert set(schema) == {"name", "licence", "interactions", "items", "users", "features"}
    assert set(schema["interactions"].values()) <= columns["interactions"]
    assert schema["items"]["id"] in columns["items"]
    assert schema["users"]["id"] in columns["users"]
    table = {"user": "users", "item": "items", "context": "interactions"}
    for feature in schema["features"]:
        assert feature["name"] in columns[table[feature["source"]]]
        assert set(feature) <= {
            "name", "source", "kind", "default", "log", "max_length", "min_count"
        }  # fmt: skip


def test_serving_asks_for_the_first_position(directory):
    schema = tomllib.loads((directory / "schema.toml").read_text())
    (position,) = (f for f in schema["features"] if f["name"] == "position")

    assert position == {
        "name": "position", "source": "context", "kind": "categorical", "default": 1
    }  # fmt: skip


def test_the_interactions_are_the_log(directory, log):
    rows = parquet.read_table(directory / "interactions.parquet").to_pydict()

    assert rows["item_id"] == [item_id(at) for at in log.item.tolist()]
    assert rows["user_id"] == [user_id(at) for at in log.user.tolist()]
    assert rows["clicked"] == log.clicked.astype(int).tolist()
    assert rows["timestamp"] == log.second.tolist()
    assert rows["position"] == log.position.tolist()
    assert rows["hour"] == log.context.hour.tolist()
    assert None in rows["user_id"]  # anonymous


def test_the_truth_is_written_only_on_request(directory, marketplace, log, tmp_path):
    assert TRUTH_COLUMN not in parquet.read_schema(directory / "interactions.parquet").names

    write_files(marketplace.population, log, tmp_path, with_truth=True)

    rows = parquet.read_table(tmp_path / "interactions.parquet")
    assert rows.column(TRUTH_COLUMN).to_pylist() == log.click_probability.tolist()
    assert (tmp_path / "schema.toml").read_text() == (directory / "schema.toml").read_text()


def test_hidden_qualities_and_tastes_are_not_written(directory):
    assert parquet.read_schema(directory / "items.parquet").names == [
        "item_id", "seller", "category", "price", "rating", "age_days", "tags"
    ]  # fmt: skip
    assert parquet.read_schema(directory / "users.parquet").names == [
        "user_id", "segment", "age_group", "price_preference"
    ]  # fmt: skip


def test_items_have_one_to_three_tags_and_a_price_in_cents(directory):
    rows = parquet.read_table(directory / "items.parquet").to_pydict()

    assert {len(set(tags)) for tags in rows["tags"]} == {1, 2, 3}
    assert {len(tags) for tags in rows["tags"]} == {1, 2, 3}
    assert all(price > 0 and round(price, 2) == price for price in rows["price"])
    assert all(1.0 <= rating <= 5.0 for rating in rows["rating"])


def test_without_pyarrow_one_line_says_what_to_install(marketplace, log, tmp_path, monkeypatch):
    real = builtins.__import__

    def without_pyarrow(name, *args):
        if name.split(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)

    with pytest.raises(InputError, match=r"^writing Parquet needs pyarrow: .*train extra$"):
        write_files(marketplace.population, log, tmp_path)


def test_a_file_in_the_way_of_the_directory_is_named(marketplace, log, tmp_path):
    (tmp_path / "out").write_text("mine")

    with pytest.raises(InputError, match="out: cannot be written: "):
        write_files(marketplace.population, log, tmp_path / "out")

    assert (tmp_path / "out").read_text() == "mine"


def test_ids_and_indices_are_the_same_thing():
    indices = np.array([0, 7, 299])

    assert (item_indices([item_id(at) for at in indices], 300) == indices).all()
    assert user_id(ANONYMOUS) is None


@pytest.mark.parametrize("foreign", ["i00300", "i7", "u00007", "302", "", "i٠٠٠٠٧", "i-0001"])
def test_an_item_of_another_marketplace_is_named(foreign):
    with pytest.raises(InputError, match="not in this marketplace of 300 items"):
        item_indices(["i00001", foreign], 300)


def test_a_log_of_anonymous_visitors_alone_has_a_column_of_missing_users(marketplace, tmp_path):
    shoppers = (marketplace.log(sessions=1, seed=seed) for seed in range(1000))
    log = next(log for log in shoppers if (log.user == ANONYMOUS).all())

    write_files(marketplace.population, log, tmp_path)

    rows = parquet.read_table(tmp_path / "interactions.parquet")
    assert str(rows.schema.field("user_id").type) == "string"
    assert rows.column("user_id").null_count == 10
