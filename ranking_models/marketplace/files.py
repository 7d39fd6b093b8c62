"""Writes a marketplace and its log as the files that ``podium train --data`` reads."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ranking_models.errors import InputError
from ranking_models.marketplace.exact import Int64
from ranking_models.marketplace.log import ClickLog
from ranking_models.marketplace.names import item_id, seller_id, user_id
from ranking_models.marketplace.population import TAGS_PER_ITEM, Items, Population, Users
from ranking_models.marketplace.spec import (
    AGE_GROUPS,
    CATEGORIES,
    COUNTRIES,
    DEVICES,
    SEGMENTS,
    SURFACES,
    TAGS,
)

if TYPE_CHECKING:
    import pyarrow

TRUTH_COLUMN = "true_click_probability"

SCHEMA = f"""\
name = "simulated marketplace"
licence = "Apache-2.0"

[interactions]
user = "user_id"
item = "item_id"
timestamp = "timestamp"
label = "clicked"
session = "session_id"

[items]
id = "item_id"

[users]
id = "user_id"

# Rare ids share the embedding of unknown ones: it is trained on them, not left to chance.
[[features]]
name = "user_id"
source = "user"
kind = "categorical"
min_count = 20

[[features]]
name = "segment"
source = "user"
kind = "categorical"

[[features]]
name = "age_group"
source = "user"
kind = "categorical"

[[features]]
name = "price_preference"
source = "user"
kind = "numeric"

[[features]]
name = "item_id"
source = "item"
kind = "categorical"
min_count = 20

[[features]]
name = "seller"
source = "item"
kind = "categorical"

[[features]]
name = "category"
source = "item"
kind = "categorical"

[[features]]
name = "price"
source = "item"
kind = "numeric"
log = true

[[features]]
name = "rating"
source = "item"
kind = "numeric"

[[features]]
name = "age_days"
source = "item"
kind = "numeric"
log = true

[[features]]
name = "tags"
source = "item"
kind = "multi"
max_length = {TAGS_PER_ITEM}

[[features]]
name = "device"
source = "context"
kind = "categorical"

[[features]]
name = "country"
source = "context"
kind = "categorical"

[[features]]
name = "hour"
source = "context"
kind = "categorical"

[[features]]
name = "surface"
source = "context"
kind = "categorical"

# Where an item stood explains part of its clicks. Training sees the position; serving asks
# what every item would get in the first one.
[[features]]
name = "position"
source = "context"
kind = "categorical"
default = 1
"""


def write_files(
    population: Population, log: ClickLog, directory: Path, *, with_truth: bool = False
) -> list[Path]:
    """Write interactions.parquet, items.parquet, users.parquet and schema.toml.

    Args:
        population: The marketplace's items and users.
        log: Its impressions and clicks.
        directory: Made if it does not exist; files of these names are replaced.
        with_truth: Add the true click probability to the interactions. The
            schema does not name the column, so a model is not trained on it.

    Returns:
        The files written.

    Raises:
        InputError: pyarrow is not installed, or the directory cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError(
            "writing Parquet needs pyarrow: install podium with its train extra"
        ) from None
    tables = {
        "interactions": _interactions(log, with_truth=with_truth),
        "items": _items(population.items),
        "users": _users(population.users),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        schema = directory / "schema.toml"
        schema.write_text(SCHEMA, encoding="utf-8")
        written = [schema]
        for name, columns in tables.items():
            written.append(directory / f"{name}.parquet")
            parquet.write_table(pyarrow.table(columns), written[-1])
    except OSError as error:
        raise InputError(f"{directory}: cannot be written: {error.strerror}") from None
    return written


def _interactions(log: ClickLog, *, with_truth: bool) -> "dict[str, pyarrow.Array[Any]]":
    import pyarrow

    users = [user_id(at) for at in range(int(log.user.max()) + 1)]
    items = [item_id(at) for at in range(int(log.item.max()) + 1)]
    columns: dict[str, pyarrow.Array[Any]] = {
        "user_id": _named(log.user, users),
        "item_id": _named(log.item, items),
        "timestamp": pyarrow.array(log.second),
        "clicked": pyarrow.array(log.clicked.astype("int8")),
        "session_id": pyarrow.array(log.session).cast(pyarrow.string()),
        "position": pyarrow.array(log.position.astype("int8")),
        "device": _named(log.context.device, DEVICES),
        "country": _named(log.context.country, COUNTRIES),
        "hour": pyarrow.array(log.context.hour.astype("int8")),
        "surface": _named(log.context.surface, SURFACES),
    }
    if with_truth:
        columns[TRUTH_COLUMN] = pyarrow.array(log.click_probability)
    return columns


def _named(indices: Int64, names: Sequence[str | None]) -> "pyarrow.Array[Any]":
    """Indices as their names; null where negative."""
    import pyarrow

    positions = pyarrow.array(indices, pyarrow.int64(), mask=indices < 0)
    dictionary = pyarrow.array(names, pyarrow.string())
    return pyarrow.DictionaryArray.from_arrays(positions, dictionary).cast(pyarrow.string())


def _items(items: Items) -> "dict[str, pyarrow.Array[Any]]":
    import pyarrow

    return {
        "item_id": pyarrow.array([item_id(at) for at in range(len(items.seller))]),
        "seller": pyarrow.array([seller_id(at) for at in items.seller.tolist()]),
        "category": _named(items.category, CATEGORIES),
        "price": pyarrow.array(items.price / 100.0),
        "rating": pyarrow.array(items.rating),
        "age_days": pyarrow.array(items.age_days),
        "tags": pyarrow.array([[TAGS[t] for t in tags if t >= 0] for tags in items.tags.tolist()]),
    }


def _users(users: Users) -> "dict[str, pyarrow.Array[Any]]":
    import pyarrow

    return {
        "user_id": pyarrow.array([user_id(at) for at in range(len(users.segment))]),
        "segment": _named(users.segment, SEGMENTS),
        "age_group": _named(users.age_group, AGE_GROUPS),
        "price_preference": pyarrow.array(users.price_preference),
    }
