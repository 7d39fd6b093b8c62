"""A log is read as it was declared, and a wrong one is named by file, column and row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from ranking_models.errors import InputError
from ranking_models.logs import LogFiles, log_files_in, read_logs
from ranking_models.tables import Cells
from tests.support.logs import (
    ROWS_PER_USER,
    SCHEMA,
    USERS,
    Tables,
    log_files,
    small_tables,
    with_cell,
    write_csv,
    write_log,
)


@pytest.fixture
def tables() -> Tables:
    return small_tables()


def error_of(files: LogFiles) -> str:
    with pytest.raises(InputError) as caught:
        read_logs(files)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_log_is_read_as_its_cells_say(tmp_path: Path, tables: Tables) -> None:
    logs = read_logs(write_log(tmp_path, tables))

    assert logs.users.ids == tuple(row["user"] for row in tables["users"])
    assert logs.items.ids == tuple(row["item"] for row in tables["items"])
    for row, cells in enumerate(tables["interactions"]):
        assert logs.users.ids[logs.user[row]] == cells["user"]
        assert logs.items.ids[logs.item[row]] == cells["item"]
        assert logs.seconds[row] == float(cells["at"])
        assert logs.label[row] == float(cells["clicked"])
    tags = logs.items.features["tags"]
    assert tags.values[tags.codes[2]] == ["red", "big"]
    assert tags.values[tags.codes[0]] is None  # the cell is empty
    price = logs.items.features["price"]
    assert price.values[price.codes[3]] == 4.5


def test_the_same_log_as_parquet_is_the_same_log(tmp_path: Path, tables: Tables) -> None:
    from_csv = read_logs(write_log(tmp_path / "csv", tables))
    folder = tmp_path / "parquet"
    folder.mkdir()
    typed = {
        "interactions": {
            "user": pa.array([r["user"] for r in tables["interactions"]]).dictionary_encode(),
            "item": pa.array([r["item"] for r in tables["interactions"]]),
            "at": pa.array(
                [int(r["at"]) * 1000 for r in tables["interactions"]], pa.timestamp("ms", "UTC")
            ),
            "clicked": pa.array([r["clicked"] == "1" for r in tables["interactions"]]),
            "session": pa.array([r["session"] for r in tables["interactions"]]),
            "position": pa.array([int(r["position"]) for r in tables["interactions"]], pa.int8()),
        },
        "items": {
            "item": pa.array([r["item"] for r in tables["items"]]),
            "category": pa.array([r["category"] for r in tables["items"]]),
            "price": pa.array([r["price"] for r in tables["items"]]).cast(pa.decimal128(10, 2)),
            "tags": pa.array(
                [r["tags"].split("|") if r["tags"] else None for r in tables["items"]]
            ),
        },
        "users": {
            "user": pa.array([r["user"] for r in tables["users"]]),
            "age": pa.array([int(r["age"]) for r in tables["users"]]),
        },
    }
    for name, columns in typed.items():
        parquet.write_table(pa.table(columns), folder / f"{name}.parquet")
    (folder / "schema.toml").write_text(SCHEMA, "utf-8")

    from_parquet = read_logs(log_files_in(folder))

    for name in ("user", "item", "unit", "seconds", "label"):
        np.testing.assert_array_equal(getattr(from_parquet, name), getattr(from_csv, name))
    for feature, factor in from_csv.items.features.items():
        other = from_parquet.items.features[feature]
        assert [other.values[c] for c in other.codes] == [factor.values[c] for c in factor.codes]


@pytest.mark.parametrize(
    ("table", "row", "change", "reason"),
    [
        ("interactions", 7, {"clicked": "maybe"}, "'maybe' is not 0 or 1"),
        ("interactions", 7, {"clicked": "2"}, "'2' is not 0 or 1"),
        ("interactions", 7, {"clicked": ""}, "the label is missing"),
        ("interactions", 9, {"item": ""}, "the item id is missing"),
        (
            "interactions",
            9,
            {"user": "", "session": ""},
            "there is neither a user nor a session id",
        ),
        ("interactions", 9, {"item": "i99"}, "'i99' is not in items.csv"),
        ("interactions", 9, {"user": "u99"}, "'u99' is not in users.csv"),
        ("interactions", 5, {"at": ""}, "the timestamp is missing"),
        ("interactions", 5, {"at": "noon"}, "'noon' is not a number"),
        ("interactions", 5, {"at": "-1"}, "-1 is not a time in unix seconds"),
        ("interactions", 5, {"at": "nan"}, "nan is not a time in unix seconds"),
        (
            "interactions",
            5,
            {"at": "1767225600000"},
            "1767225600000 is not a time in unix seconds (milliseconds?)",
        ),
        ("items", 4, {"price": "cheap"}, "'cheap' is not a number"),
        ("items", 4, {"price": "1,50"}, "'1,50' is not a number"),
        ("items", 4, {"price": "NaN"}, "nan is not a finite number"),
        ("items", 4, {"price": "-inf"}, "-inf is not a finite number"),
        ("items", 4, {"item": ""}, "the id is missing"),
        ("items", 4, {"item": "i1"}, "'i1' is already in data row 2"),
        ("items", 4, {"item": "x" * 257}, f"the id {'x' * 40!r}... is longer than 256 characters"),
        ("users", 2, {"age": "old"}, "'old' is not a number"),
        ("users", 2, {"user": "u0"}, "'u0' is already in data row 1"),
    ],
)
def test_a_bad_cell_is_named_by_file_column_and_data_row(
    tmp_path: Path, tables: Tables, table: str, row: int, change: dict[str, str], reason: str
) -> None:
    files = write_log(tmp_path, with_cell(tables, table, row, change))

    said = error_of(files).replace(f" in {tmp_path}/", " in ")

    column = next(iter(change))
    assert said == f"{tmp_path / table}.csv: column {column!r}, data row {row}: {reason}"


def test_times_may_be_rfc_3339_text_with_any_offset(tmp_path: Path, tables: Tables) -> None:
    for cells in tables["interactions"]:
        second = int(cells["at"]) - 1_767_225_600
        cells["at"] = f"2026-01-01T01:{second // 60:02}:{second % 60:02}.5+01:00"
    tables["interactions"][0]["at"] = "2026-01-01T00:00:00.5Z"

    logs = read_logs(write_log(tmp_path, tables))

    assert logs.seconds[0] == 1_767_225_600.5
    assert logs.seconds[1] == 1_767_225_660.5
    tables["interactions"][4]["at"] = "2026-01-01T01:00:00"  # whose noon?
    assert error_of(write_log(tmp_path, tables)).startswith(
        f"{tmp_path}/interactions.csv: column 'at', data row 5: '2026-01-01T01:00:00' is not a time"
    )


def test_a_missing_column_is_named_with_what_asks_for_it_and_what_is_there(
    tmp_path: Path, tables: Tables
) -> None:
    asked = SCHEMA.replace('name = "category"', 'name = "colour"')

    said = error_of(write_log(tmp_path, tables, schema=asked))

    assert said == (
        f"{tmp_path}/items.csv: there is no column 'colour' (feature 'colour' of the schema); "
        "it has item, category, price, tags"
    )


def test_a_csv_column_that_is_there_twice_is_refused(tmp_path: Path, tables: Tables) -> None:
    files = write_log(tmp_path, tables)
    write_csv(tmp_path / "users.csv", ["user", "age", "age"], [["u0", "1", "2"]])

    assert error_of(files) == f"{tmp_path}/users.csv: there are 2 columns named 'age'"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty; its first line must name the columns"),
        (b"user,age\n", "the file has no data rows"),
        (b"user,age\nu0,1\nu1\n", "data row 2 has 1 cells, the header names 2 columns"),
        (
            b'user,age\nu0,1\n"u\n1",2\nu2,3,4\n',
            "data row 3 has 3 cells, the header names 2 columns",
        ),
        (b'user,age\nu0,1\nu1,"2\nu2,3\nu3,4\n', "data row 2: a quote is opened and not closed"),
        (b"user,age\nu0,1\n\xe9va,2\n", "column 'user', data row 2: the cell is not UTF-8 text"),
        (b"us\xe9r,age\nu0,1\n", "the header is not UTF-8 text"),
    ],
)
def test_a_csv_file_that_cannot_be_read_says_where(
    tmp_path: Path, tables: Tables, content: bytes, reason: str
) -> None:
    files = write_log(tmp_path, tables)
    (tmp_path / "users.csv").write_bytes(content)

    assert error_of(files) == f"{tmp_path}/users.csv: {reason}"


def test_a_byte_order_mark_and_quoted_line_breaks_are_fine(tmp_path: Path, tables: Tables) -> None:
    tables["items"][2]["category"] = 'two\nlines, and a "quote"'
    files = write_log(tmp_path, tables)
    text = (tmp_path / "items.csv").read_bytes()
    (tmp_path / "items.csv").write_bytes(b"\xef\xbb\xbf" + text)

    category = read_logs(files).items.features["category"]

    assert category.values[category.codes[2]] == 'two\nlines, and a "quote"'


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("users.parquet", b"PAR1 or so", "not a readable Parquet file: "),
        ("users.parquet", b"", "not a readable Parquet file: "),
        ("users.json", b"[]", "the name must end in .parquet or .csv"),
        ("nowhere.csv", None, "there is no such file"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, tables: Tables, name: str, content: bytes | None, reason: str
) -> None:
    files = write_log(tmp_path, tables)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    chosen = LogFiles(
        interactions=files.interactions,
        items=files.items,
        users=tmp_path / name,
        schema=files.schema,
    )

    assert error_of(chosen).startswith(f"{tmp_path / name}: {reason}")


def test_a_log_of_one_class_teaches_nothing_and_is_refused(tmp_path: Path, tables: Tables) -> None:
    for cells in tables["interactions"]:
        cells["clicked"] = "0"

    assert error_of(write_log(tmp_path, tables)) == (
        f"{tmp_path}/interactions.csv: column 'clicked' is 0 in every row; "
        "a model needs clicks and non-clicks"
    )


def test_an_impression_with_two_rows_is_refused(tmp_path: Path, tables: Tables) -> None:
    again = {**tables["interactions"][4], "clicked": "1"}
    tables["interactions"].insert(11, again)

    assert error_of(write_log(tmp_path, tables)) == (
        f"{tmp_path}/interactions.csv: data row 12 repeats data row 5 (same user, item and time): "
        "keep one row per impression, with its click in the label"
    )


@pytest.mark.parametrize("difference", [{"position": "9"}, {"session": "other"}, {"at": "1"}])
def test_two_impressions_of_an_item_in_one_second_differ_by_session_or_context(
    tmp_path: Path, tables: Tables, difference: dict[str, str]
) -> None:
    tables["interactions"].append({**tables["interactions"][4], **difference})

    logs = read_logs(write_log(tmp_path, tables))

    assert len(logs.label) == USERS * ROWS_PER_USER + 1


def test_a_visitor_without_an_id_is_known_by_the_session_alone(
    tmp_path: Path, tables: Tables
) -> None:
    for row in (0, 1, 5):  # sessions s0-0, s0-0, s0-1
        tables["interactions"][row]["user"] = ""

    logs = read_logs(write_log(tmp_path, tables))

    assert logs.user[0] == logs.user[1] == logs.user[5] == USERS
    assert logs.unit[0] == logs.unit[1] != logs.unit[5]
    assert logs.unit[0] >= USERS
    np.testing.assert_array_equal(logs.unit[6:], logs.user[6:])
    for factor in logs.users.features.values():
        assert factor.values[factor.codes[USERS]] is None


def test_without_a_session_column_every_row_needs_a_user(tmp_path: Path, tables: Tables) -> None:
    spoilt = with_cell(tables, "interactions", 3, {"user": ""})
    schema = SCHEMA.replace('session = "session"\n', "")

    assert "column 'user', data row 3: the user id is missing; a visitor without one needs" in (
        error_of(write_log(tmp_path, spoilt, schema=schema))
    )


def test_files_may_be_left_out_when_ids_are_the_only_features(
    tmp_path: Path, tables: Tables
) -> None:
    schema = SCHEMA[: SCHEMA.index("[items]")] + "".join(
        f'[[features]]\nname = "{name}_id"\nsource = "{name}"\nkind = "categorical"\n'
        for name in ("user", "item")
    )
    files = write_log(tmp_path, tables, schema=schema)

    logs = read_logs(LogFiles(interactions=files.interactions, schema=files.schema))

    seen = [row["item"] for row in tables["interactions"]]
    assert logs.items.ids == tuple(dict.fromkeys(seen))
    assert [logs.items.ids[i] for i in logs.item] == seen


@pytest.mark.parametrize(("left_out", "feature"), [("items", "category"), ("users", "age")])
def test_a_feature_of_a_file_that_was_not_given_is_an_error(
    tmp_path: Path, tables: Tables, left_out: str, feature: str
) -> None:
    files = write_log(tmp_path, tables)
    chosen = LogFiles(
        interactions=files.interactions,
        schema=files.schema,
        items=None if left_out == "items" else files.items,
        users=None if left_out == "users" else files.users,
    )

    assert error_of(chosen) == (
        f"{tmp_path}/schema.toml: feature {feature!r} is a column of the {left_out} file; "
        f"name that file with --{left_out}"
    )


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("category", pa.array([0] * 15, pa.date32()), " holds date32[day]: "),
        ("category", pa.array([[1]] * 15), " holds list<"),
        ("category", pa.array([float("nan")] * 15), ", data row 1: nan is not a finite number"),
        ("price", pa.array([True] * 15), " holds true/false: declare the feature categorical"),
        (
            "price",
            pa.array([1.0] * 14 + [float("inf")]),
            ", data row 15: inf is not a finite number",
        ),
        (
            "tags",
            pa.array([[1.0], [float("nan")]] + [[]] * 13),
            ", data row 2: nan is not a finite number",
        ),
        ("tags", pa.array([[b"x"]] * 15), " holds binary: "),
        ("tags", pa.array([1] * 15), " holds int64: a multi feature takes lists"),
        ("item", pa.array(["", *"bcdefghijklmno"]), ", data row 1: the id is empty text"),
        ("item", pa.array([*"abcdefghijklmn", "o\0"]), ", data row 15: the id 'o\\x00' has a NUL"),
    ],
)
def test_a_parquet_column_of_the_wrong_type_is_refused(
    tmp_path: Path, tables: Tables, column: str, values: Cells, reason: str
) -> None:
    files = write_log(tmp_path, tables)
    names = list(tables["items"][0])
    columns = {name: pa.array([row[name] for row in tables["items"]]) for name in names}
    parquet.write_table(pa.table({**columns, column: values}), tmp_path / "items.parquet")
    chosen = LogFiles(
        interactions=files.interactions,
        items=tmp_path / "items.parquet",
        users=files.users,
        schema=files.schema,
    )

    assert error_of(chosen).startswith(f"{tmp_path}/items.parquet: column {column!r}{reason}")


def test_text_cells_of_a_multi_feature_need_a_separator(tmp_path: Path, tables: Tables) -> None:
    files = write_log(tmp_path, tables, schema=SCHEMA.replace('separator = "|"\n', ""))

    assert error_of(files) == (
        f"{tmp_path}/items.csv: column 'tags' holds text: "
        "give the multi feature a separator in the schema"
    )


def test_a_column_without_any_value_is_missing_everywhere(tmp_path: Path, tables: Tables) -> None:
    for cells in tables["items"]:
        cells.update(price="", category="", tags="")

    features = read_logs(write_log(tmp_path, tables)).items.features

    for name in ("price", "category", "tags"):
        assert {features[name].values[code] for code in features[name].codes} == {None}


def test_a_folder_is_a_log_when_it_has_interactions(tmp_path: Path, tables: Tables) -> None:
    files = write_log(tmp_path, tables)

    assert log_files_in(tmp_path) == files == log_files(tmp_path)
    (tmp_path / "users.csv").unlink()
    assert log_files_in(tmp_path).users is None
    (tmp_path / "items.parquet").touch()
    with pytest.raises(InputError, match=r"has both items\.parquet and items\.csv"):
        log_files_in(tmp_path)
    with pytest.raises(InputError, match=r"has no interactions\.parquet"):
        log_files_in(tmp_path.parent)
    with pytest.raises(InputError, match="there is no such folder"):
        log_files_in(tmp_path / "nowhere")


@pytest.mark.parametrize("kind", [pa.float16(), pa.int8(), pa.uint64(), pa.decimal128(24, 2)])
def test_numbers_of_any_width_are_numbers(
    tmp_path: Path, tables: Tables, kind: pa.DataType
) -> None:
    files = write_log(tmp_path, tables)
    ages = pa.array([int(row["age"]) for row in tables["users"]], pa.int64()).cast(kind)
    names = pa.array([row["user"] for row in tables["users"]], pa.string_view())
    parquet.write_table(pa.table({"user": names, "age": ages}), tmp_path / "users.parquet")
    chosen = LogFiles(
        interactions=files.interactions,
        items=files.items,
        users=tmp_path / "users.parquet",
        schema=files.schema,
    )

    age = read_logs(chosen).users.features["age"]

    assert [age.values[code] for code in age.codes[:3]] == [20.0, 21.0, 22.0]
