"""Segments: values by their rows, numbers in ranges, lists in each of their values."""

from pathlib import Path

import numpy as np
import pytest

from ranking_models.data import encode, fit_schema
from ranking_models.errors import InputError
from ranking_models.evaluation.segments import (
    SegmentColumn,
    column_of_batch,
    column_of_log,
    overlapping,
    segments_of,
)
from ranking_models.logs import Logs, read_logs
from ranking_models.schema import FeatureBatch, FeatureSchema, FeatureSpec
from tests.support.logs import small_tables, with_cell, write_log


@pytest.fixture
def logs(tmp_path: Path) -> Logs:
    tables = with_cell(small_tables(), "users", 1, {"age": ""})
    return read_logs(write_log(tmp_path, with_cell(tables, "items", 3, {"category": ""})))


def counts(column: SegmentColumn) -> dict[str, int]:
    return {segment.value: int(segment.inside.sum()) for segment in segments_of(column)}


def raw(logs: Logs, feature: str, rows: np.ndarray) -> list[object]:
    """A feature's value in each row, looked up one by one."""
    spec = next(f for f in logs.declared.features if f.name == feature)
    factor, at = {
        "user": (logs.users.features.get(feature), logs.user),
        "item": (logs.items.features.get(feature), logs.item),
        "context": (logs.context.get(feature), np.arange(len(logs.label))),
    }[spec.source]
    assert factor is not None
    return [factor.values[factor.codes[at[row]]] for row in rows]


@pytest.mark.parametrize("feature", ["category", "position", "item_id"])
def test_a_segment_holds_the_rows_with_its_value(logs: Logs, feature: str) -> None:
    rows = np.arange(0, 240, 2)
    texts = ["(missing)" if v is None else str(v) for v in raw(logs, feature, rows)]

    found = counts(column_of_log(logs, feature, rows))

    assert found == {text: texts.count(text) for text in set(texts)}
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_numbers_are_cut_into_ranges_of_as_many_rows(logs: Logs) -> None:
    column = column_of_log(logs, "age", np.arange(240))

    assert counts(column) == {
        "21 to 23": 60, "24 to 25": 40, "26 to 27": 40, "28 to 29": 40, "30 to 31": 40,
        "(missing)": 20,
    }  # fmt: skip
    assert not overlapping(column)


def test_a_number_that_most_rows_share_is_one_segment() -> None:
    values = (1.0, 2.0, 3.0)
    column = SegmentColumn("n", True, values, np.array([0] * 90 + [1] * 5 + [2] * 5))

    assert counts(column) == {"1": 90, "2 to 3": 10}


def test_a_row_counts_in_each_value_of_its_list(logs: Logs) -> None:
    rows = np.arange(240)
    lists = raw(logs, "tags", rows)

    column = column_of_log(logs, "tags", rows)

    assert overlapping(column)
    assert counts(column) == {
        "red": sum(1 for v in lists if v and "red" in v),
        "big": sum(1 for v in lists if v and "big" in v),
        "new": sum(1 for v in lists if v and "new" in v),
        "(missing)": sum(1 for v in lists if not v),
    }


def test_many_values_are_the_twenty_largest_and_the_rest() -> None:
    codes = np.repeat(np.arange(30), np.arange(30, 0, -1))
    column = SegmentColumn("c", False, [f"v{i}" for i in range(30)], codes)

    found = counts(column)

    assert len(found) == 21
    assert next(iter(found)) == "v0"
    assert found["(10 other values)"] == sum(range(1, 11))
    assert sum(found.values()) == len(codes)


def test_encoded_rows_have_the_segments_of_the_log_they_came_from(tmp_path: Path) -> None:
    logs = read_logs(write_log(tmp_path, small_tables()))
    rows = np.arange(len(logs.label))
    schema = fit_schema(logs, rows)
    batch = encode(logs, schema).inputs(rows)

    for feature in ("age", "price", "category", "position", "user_id"):
        assert counts(column_of_batch(schema, feature, batch)) == counts(
            column_of_log(logs, feature, rows)
        )


def test_encoded_rows_say_what_the_encoding_lost() -> None:
    schema = FeatureSchema(
        features=(
            FeatureSpec(name="known", source="item", kind="categorical", vocabulary=("a",)),
            FeatureSpec(name="hashed", source="item", kind="categorical", hash_buckets=9),
            FeatureSpec(
                name="tags", source="item", kind="multi", vocabulary=("x", "y"), max_length=2
            ),
        )
    )
    batch = FeatureBatch(
        dense=np.zeros((3, 0), np.float32),
        ids=np.array([[1, 4], [0, 4], [1, 9]], np.int32),
        multi={"tags": np.array([[1, 2], [2, 0], [0, 0]], np.int32)},
    )

    found = {
        name: counts(column_of_batch(schema, name, batch)) for name in ("known", "hashed", "tags")
    }

    assert found == {
        "known": {"a": 2, "(not in the vocabulary)": 1},
        "hashed": {"bucket 4": 2, "bucket 9": 1},
        "tags": {"y": 2, "(missing)": 1, "x": 1},
    }


def test_an_unknown_feature_is_refused_with_those_there_are(logs: Logs) -> None:
    with pytest.raises(InputError, match=r"no feature 'colour' to cut by; there are user_id, age"):
        column_of_log(logs, "colour", np.arange(3))

    schema = fit_schema(logs, np.arange(240))
    with pytest.raises(InputError, match=r"the run: there is no feature 'colour'"):
        column_of_batch(schema, "colour", encode(logs, schema).inputs(np.arange(3)))
