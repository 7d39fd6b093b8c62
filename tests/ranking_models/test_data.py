"""What training learns about features, and that it encodes them as serving will."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from msgspec.structs import replace

from ranking_models.bundle import Bundle
from ranking_models.data import encode, fit_schema
from ranking_models.errors import InputError
from ranking_models.export.to_bundle import export_run
from ranking_models.fitting import tensors
from ranking_models.logs import Logs, read_logs
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.schema import Encoder, FeatureSpec, FeatureValue
from ranking_models.split import split_logs
from ranking_models.train import train_run
from tests.support.logs import SCHEMA, Tables, small_tables, with_cell, write_log
from tests.support.training import NETWORK, OPTIONS, Recorder


@pytest.fixture
def tables() -> Tables:
    tables = small_tables()
    tables["interactions"][0].update(user="", position="")  # a visitor, shown somewhere
    tables["items"][3].update(price="", tags="new|unheard-of|big")
    return tables


@pytest.fixture
def logs(tmp_path: Path, tables: Tables) -> Logs:
    return read_logs(write_log(tmp_path, tables))


def spec_of(
    logs: Logs, rows: "list[int] | np.ndarray[tuple[int], np.dtype[np.intp]]", name: str
) -> FeatureSpec:
    schema = fit_schema(logs, np.asarray(rows, np.intp))
    return next(spec for spec in schema.features if spec.name == name)


def raw_row(tables: Tables, row: int) -> dict[str, FeatureValue]:
    """One impression as a request would carry it."""
    cells = tables["interactions"][row]
    item = next(i for i in tables["items"] if i["item"] == cells["item"])
    user = next((u for u in tables["users"] if u["user"] == cells["user"]), None)
    return {
        "user_id": cells["user"] or None,
        "age": float(user["age"]) if user else None,
        "item_id": cells["item"],
        "category": item["category"],
        "price": float(item["price"]) if item["price"] else None,
        "tags": list(item["tags"].split("|")) if item["tags"] else None,
        "position": cells["position"] or None,
    }


def test_training_encodes_every_row_as_serving_would(logs: Logs, tables: Tables) -> None:
    rows = np.arange(len(logs.label))
    schema = fit_schema(logs, split_logs(logs, "user").train)

    trained_on = encode(logs, schema).inputs(rows)

    served = Encoder(schema).encode_rows([raw_row(tables, int(row)) for row in rows])
    np.testing.assert_array_equal(trained_on.dense, served.dense)
    np.testing.assert_array_equal(trained_on.ids, served.ids)
    np.testing.assert_array_equal(trained_on.multi["tags"], served.multi["tags"])


def test_the_last_row_of_users_and_items_is_somebody_unknown(logs: Logs) -> None:
    schema = fit_schema(logs, np.arange(len(logs.label)))
    data = encode(logs, schema)

    for source in ("user", "item"):
        unknown = Encoder(schema.of(source)).encode_rows([{}])
        table = data.tables[source]
        np.testing.assert_array_equal(table.dense[-1:], unknown.dense)
        np.testing.assert_array_equal(table.ids[-1:], unknown.ids)


def test_nothing_is_learned_from_other_rows_than_the_given_ones(
    tmp_path: Path, tables: Tables, logs: Logs
) -> None:
    train = split_logs(logs, "user").train
    spoilt = tables
    for row in set(range(len(logs.label))) - set(train.tolist()):
        spoilt = with_cell(spoilt, "interactions", row + 1, {"position": "77", "item": "i0"})

    other = read_logs(write_log(tmp_path / "other", spoilt))

    assert fit_schema(other, train) == fit_schema(logs, train)
    assert fit_schema(other, np.arange(len(logs.label))) != fit_schema(logs, train)


def test_values_that_are_rare_in_the_rows_are_left_out_of_the_vocabulary(logs: Logs) -> None:
    rows = np.arange(60)
    seen = [logs.items.ids[i] for i in logs.item[rows]]

    for least in (1, 2, 5):
        declared = SCHEMA.replace('name = "item_id"\n', f'name = "item_id"\nmin_count = {least}\n')
        again = read_logs(write_log(logs.file.parent / str(least), small_tables(), schema=declared))
        expected = sorted(i for i in set(seen) if seen.count(i) >= least)
        assert list(spec_of(again, rows, "item_id").vocabulary) == expected


def test_each_value_of_a_list_counts_once_per_row(logs: Logs) -> None:
    item = int(logs.item[10])
    rows = np.flatnonzero(logs.item == item)[:2]
    tags = logs.items.features["tags"]

    vocabulary = spec_of(logs, rows, "tags").vocabulary

    assert vocabulary == tuple(sorted(map(str, tags.values[tags.codes[item]] or [])))


def test_a_missing_value_with_a_default_counts_as_the_default(logs: Logs) -> None:
    assert spec_of(logs, [0], "position").vocabulary == ()  # one "1" is below min_count 2
    assert spec_of(logs, [0, 3], "position").vocabulary == ("1",)


def test_numbers_are_scaled_by_the_rows_that_have_one(logs: Logs, tables: Tables) -> None:
    rows = np.arange(0, 200, 2)
    prices = [raw_row(tables, int(row))["price"] for row in rows]
    x = np.log1p([price for price in prices if isinstance(price, float)])

    spec = spec_of(logs, rows, "price")

    assert len(x) < len(rows)
    assert spec.mean == pytest.approx(x.mean())
    assert spec.scale == pytest.approx(x.std())


def test_a_number_that_never_varies_has_scale_one(logs: Logs) -> None:
    rows = np.flatnonzero(logs.user == 3)

    spec = spec_of(logs, rows, "age")

    assert (spec.mean, spec.scale) == (23.0, 1.0)
    assert spec_of(logs, [0], "age") == FeatureSpec(name="age", source="user", kind="numeric")


def test_numbers_too_large_for_a_mean_are_refused_by_name(tmp_path: Path) -> None:
    tables = with_cell(small_tables(), "users", 1, {"age": "1e200"})
    logs = read_logs(write_log(tmp_path, tables))

    with pytest.raises(InputError, match=r"feature 'age': .* set log = true"):
        fit_schema(logs, np.arange(len(logs.label)))


def test_a_hashed_feature_gives_every_value_an_id_and_learns_none(
    tmp_path: Path, tables: Tables
) -> None:
    schema = SCHEMA.replace('name = "item_id"', 'name = "item_id"\nhash_buckets = 50').replace(
        'name = "tags"', 'name = "tags"\nhash_buckets = 7'
    )
    hashed = read_logs(write_log(tmp_path / "hashed", tables, schema=schema))

    few = fit_schema(hashed, np.arange(3))
    trained_on = encode(hashed, few).inputs(np.arange(len(hashed.label)))

    by_name = {spec.name: spec for spec in few.features}
    assert (by_name["item_id"].vocabulary, by_name["item_id"].hash_buckets) == ((), 50)
    items = trained_on.ids[:, [spec.name for spec in few.ids].index("item_id")]
    assert items.min() >= 1, "also those of items that the three rows do not show"
    assert items.max() <= 50
    rows = [raw_row(tables, row) for row in range(len(hashed.label))]
    served = Encoder(few).encode_rows(rows)
    np.testing.assert_array_equal(trained_on.ids, served.ids)
    np.testing.assert_array_equal(trained_on.multi["tags"], served.multi["tags"])
    assert (Encoder(few).encode_rows([{"item_id": "brand-new"}]).ids != 0).any()


def test_hashing_is_the_same_from_the_log_to_the_served_graph(
    tmp_path: Path, tables: Tables
) -> None:
    schema = SCHEMA.replace('name = "item_id"', 'name = "item_id"\nhash_buckets = 50').replace(
        'name = "tags"', 'name = "tags"\nhash_buckets = 7'
    )
    logs = read_logs(write_log(tmp_path / "hashed", tables, schema=schema))
    run = train_run(
        logs,
        NETWORK,
        replace(OPTIONS, epochs=1),
        split="user",
        directory=tmp_path / "hashed-run",
        progress=Recorder(),
    )
    bundle = Bundle.open(
        export_run(run, tmp_path / "bundles", name="hashed", created=datetime.now(UTC))
    )

    rows = Encoder(bundle.schema).encode_rows(
        [raw_row(tables, 5), {**raw_row(tables, 5), "item_id": "brand-new", "tags": ["unseen"]}]
    )
    score = onnx_runtime_scorer(bundle.graph("fp32"))(rows)

    with torch.no_grad():
        expected = run.module()(*tensors(run.schema, rows)).numpy()
    np.testing.assert_allclose(score, expected, rtol=0, atol=1e-5)
    assert score[0] != score[1]
