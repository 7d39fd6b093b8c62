"""``schema.toml`` is read strictly, and what is wrong in it is said with its place."""

from pathlib import Path

import pytest

from ranking_models.errors import InputError
from ranking_models.log_schema import DeclaredFeature, LogSchema, read_log_schema
from tests.support.logs import SCHEMA


def schema_file(folder: Path, text: str) -> Path:
    file = folder / "schema.toml"
    file.write_text(text, "utf-8")
    return file


def feature(text: str) -> str:
    """The schema with one more feature; it is the eighth."""
    return f"{SCHEMA}\n[[features]]\n{text}"


def test_a_schema_keeps_the_order_of_its_features(tmp_path: Path) -> None:
    declared = read_log_schema(schema_file(tmp_path, SCHEMA))

    assert [f.name for f in declared.features] == [
        "user_id", "age", "item_id", "category", "price", "tags", "position",
    ]  # fmt: skip
    assert [f.name for f in declared.columns_of("item")] == ["category", "price", "tags"]


def error_of(file: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_log_schema(file)
    return str(caught.value).removeprefix(f"{file}: ")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name = ", "Invalid value (at end of document)"),
        (f"colour = 1\n{SCHEMA}", "Object contains unknown field `colour`"),
        (SCHEMA.replace("licence", "license"), "Object contains unknown field `license`"),
        (
            SCHEMA.replace('label = "clicked"\n', ""),
            "Object missing required field `label` - at `$.interactions`",
        ),
        (SCHEMA[: SCHEMA.index("[[features]]")], "Object missing required field `features`"),
        (
            SCHEMA.replace(
                'source = "user"\nkind = "categorical"', 'source = "item"\nkind = "multi"'
            ),
            "feature 'user_id' must be categorical, with source 'user' - at `$.features[0]`",
        ),
        (
            feature('name = "age"\nsource = "user"\nkind = "numeric"'),
            "feature 'age' is declared twice",
        ),
        (
            feature('name = "clicked"\nsource = "context"\nkind = "numeric"'),
            "feature 'clicked' is the label; a model would only repeat it",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, reason: str) -> None:
    assert error_of(schema_file(tmp_path, text)) == reason


@pytest.mark.parametrize(
    ("kind", "key", "reason"),
    [
        ("numeric", "min_count = 2", "min_count is for categorical and multi features"),
        ("numeric", "hash_buckets = 9", "hash_buckets is for categorical and multi features"),
        (
            "multi",
            "hash_buckets = 9\nmin_count = 3",
            "min_count makes a vocabulary and hash_buckets takes its place; leave one out",
        ),
        ("multi", "log = true", "log is for numeric features"),
        ("categorical", 'separator = "|"', "separator is for multi features"),
        ("categorical", "max_length = 3", "max_length is for multi features"),
        ("numeric", 'default = "1"', "the default must be a number"),
        ("numeric", "default = true", "the default must be a number"),
        ("numeric", "default = nan", "the default must be finite"),
    ],
)
def test_a_key_that_a_kind_would_ignore_is_refused(
    tmp_path: Path, kind: str, key: str, reason: str
) -> None:
    file = schema_file(tmp_path, feature(f'name = "x"\nsource = "item"\nkind = "{kind}"\n{key}'))

    assert error_of(file) == f"feature 'x': {reason} - at `$.features[7]`"


def test_a_multi_feature_must_be_able_to_name_a_file(tmp_path: Path) -> None:
    file = schema_file(tmp_path, feature('name = "a/b"\nsource = "item"\nkind = "multi"'))

    assert error_of(file).startswith("feature 'a/b': a multi feature's name is a file's")


def test_a_file_that_is_missing_or_not_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file or directory"):
        read_log_schema(tmp_path / "schema.toml")
    (tmp_path / "schema.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_log_schema(tmp_path / "schema.toml")


def test_the_schema_of_the_readme_is_valid_and_shows_every_key(tmp_path: Path) -> None:
    readme = Path(__file__).parents[2] / "ranking_models" / "README.md"
    text = readme.read_text("utf-8").split("```toml\n")[1].split("```")[0]

    declared = read_log_schema(schema_file(tmp_path, text))

    assert {f.kind for f in declared.features} == {"categorical", "numeric", "multi"}
    assert {f.source for f in declared.features} == {"user", "item", "context"}
    for key in (*DeclaredFeature.__struct_fields__, *LogSchema.__struct_fields__):
        assert key in text
