"""Click logs: interactions, items and users, read and checked against their declaration."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from ranking_models import columns
from ranking_models.columns import Factor, Float64
from ranking_models.errors import InputError
from ranking_models.log_schema import DeclaredFeature, LogSchema, read_log_schema
from ranking_models.schema import ITEM_ID, USER_ID, Float32, Int32, Source
from ranking_models.tables import Column, read_columns


class LogFiles(msgspec.Struct, frozen=True, kw_only=True):
    """Where a log is. Items and users may be left out when only their ids are features."""

    interactions: Path
    schema: Path
    items: Path | None = None
    users: Path | None = None


class Entities(msgspec.Struct, frozen=True, kw_only=True):
    """All items, or all users, and the raw values of their features.

    Each feature has one row per id, and one more at the end for an entity
    that nothing is known of: every value missing.
    """

    ids: tuple[str, ...]
    features: Mapping[str, Factor]


class Logs(msgspec.Struct, frozen=True, kw_only=True):
    """A click log; the arrays have one entry per impression, in the order of the file."""

    declared: LogSchema
    file: Path
    """The interactions, for messages."""
    users: Entities
    items: Entities
    context: Mapping[str, Factor]
    user: Int32
    """Position in ``users``; ``len(users.ids)`` for a visitor without an id."""
    item: Int32
    unit: Int32
    """Who it was: the user, else the session (numbered behind the users)."""
    seconds: Float64
    """Unix time."""
    label: Float32
    """1.0 for a click, else 0.0."""


def log_files_in(directory: Path) -> LogFiles:
    """The log of a folder: ``interactions``, ``items``, ``users`` and ``schema.toml``.

    Each of the three ends in ``.parquet`` or ``.csv``; items and users may be absent.

    Raises:
        InputError: no such folder, no interactions, or one table as both.
    """
    if not directory.is_dir():
        raise InputError(f"{directory}: there is no such folder")
    found: dict[str, Path] = {}
    for table in ("interactions", "items", "users"):
        files = [directory / f"{table}{suffix}" for suffix in (".parquet", ".csv")]
        there = [file for file in files if file.exists()]
        if len(there) == 2:
            raise InputError(f"{directory}: has both {files[0].name} and {files[1].name}")
        if there:
            found[table] = there[0]
    if "interactions" not in found:
        raise InputError(f"{directory}: has no interactions.parquet and no interactions.csv")
    return LogFiles(
        interactions=found["interactions"],
        items=found.get("items"),
        users=found.get("users"),
        schema=directory / "schema.toml",
    )


def read_logs(files: LogFiles) -> Logs:
    """Read a log and check every cell that will be used.

    Raises:
        InputError: names the file, the column and the data row (from 1) of the
            first thing that is wrong, and says what it is.
    """
    declared = read_log_schema(files.schema)
    names = declared.interactions
    cells = read_columns(files.interactions, _interaction_columns(declared))
    user_ids = columns.identifiers(cells[names.user])
    item_ids = columns.identifiers(cells[names.item])
    session_ids = columns.identifiers(cells[names.session]) if names.session else None

    users = _entities(files, declared, "user", user_ids)
    items = _entities(files, declared, "item", item_ids)
    user = _positions(cells[names.user], user_ids, users, files.users)
    item = _positions(cells[names.item], item_ids, items, files.items)
    if item.min() < 0:
        raise cells[names.item].bad_cell(int(np.argmin(item)), "the item id is missing")
    logs = Logs(
        declared=declared,
        file=files.interactions,
        users=users,
        items=items,
        context={f.name: _values(f, cells[f.name]) for f in declared.columns_of("context")},
        user=np.where(user < 0, len(users.ids), user).astype(np.int32),
        item=item,
        unit=_units(cells[names.user], user, len(users.ids), session_ids),
        seconds=columns.seconds(cells[names.timestamp]),
        label=columns.labels(cells[names.label]),
    )
    _check_both_classes(cells[names.label], logs.label)
    _check_no_repeats(logs, session_ids)
    return logs


def _interaction_columns(declared: LogSchema) -> dict[str, str]:
    """Column name to what asks for it."""
    features = {f.name: f"feature {f.name!r} of the schema" for f in declared.columns_of("context")}
    roles = msgspec.structs.asdict(declared.interactions)
    return features | {
        name: f"interactions.{role} of the schema" for role, name in roles.items() if name
    }


def _entities(files: LogFiles, declared: LogSchema, source: Source, in_log: Factor) -> Entities:
    """The items or users of their file, else those of the log in order of appearance."""
    path = files.items if source == "item" else files.users
    if path is not None:
        return read_entities(path, declared, source)
    features = declared.columns_of(source)
    if features:
        raise InputError(
            f"{files.schema}: feature {features[0].name!r} is a column of the {source}s file; "
            f"name that file with --{source}s"
        )
    ids = tuple(str(value) for value in in_log.values if value is not None)
    return _with_ids(ids, {}, source)


def read_entities(path: Path, declared: LogSchema, source: Source) -> Entities:
    """The items or users of a file.

    Raises:
        InputError: as `read_logs`.
    """
    names = declared.interactions
    section, of_log = (
        (declared.items, names.item) if source == "item" else (declared.users, names.user)
    )
    id_column = section.id if section else of_log
    features = declared.columns_of(source)
    wanted = {f.name: f"feature {f.name!r} of the schema" for f in features}
    cells = read_columns(path, wanted | {id_column: f"the id of each {source}"})
    ids = _distinct_ids(cells[id_column])
    return _with_ids(ids, {f.name: _values(f, cells[f.name]) for f in features}, source)


def _with_ids(ids: tuple[str, ...], values: dict[str, Factor], source: Source) -> Entities:
    """Entities with their id as a feature, and the unknown one at the end."""
    of_id = Factor(values=ids, codes=np.arange(len(ids), dtype=np.int32))
    values = {**values, ITEM_ID if source == "item" else USER_ID: of_id}
    return Entities(ids=ids, features={name: _and_unknown(f) for name, f in values.items()})


def _distinct_ids(column: Column) -> tuple[str, ...]:
    factor = columns.identifiers(column)
    first_rows = np.unique(factor.codes, return_index=True)[1]
    if None in factor.values:
        raise column.bad_cell(factor.first_row(factor.values.index(None)), "the id is missing")
    if len(first_rows) < len(factor.codes):
        again = int(np.setdiff1d(np.arange(len(factor.codes)), first_rows)[0])
        code = int(factor.codes[again])
        raise column.bad_cell(
            again, f"{factor.values[code]!r} is already in data row {first_rows[code] + 1}"
        )
    return tuple(str(value) for value in factor.values)


def _values(feature: DeclaredFeature, column: Column) -> Factor:
    match feature.kind:
        case "numeric":
            return columns.numbers(column)
        case "categorical":
            return columns.categories(column)
        case "multi":
            return columns.lists(column, feature.separator)


def _and_unknown(factor: Factor) -> Factor:
    codes = np.append(factor.codes, len(factor.values)).astype(np.int32)
    return Factor(values=(*factor.values, None), codes=codes)


def _positions(column: Column, ids: Factor, entities: Entities, path: Path | None) -> Int32:
    """Per row the position of its id among the entities, -1 where it has none."""
    position_of = {known: position for position, known in enumerate(entities.ids)}
    positions = np.full(len(ids.values), -1, np.int32)
    for code, value in enumerate(ids.values):
        if value is None:
            continue
        if value not in position_of:
            raise column.bad_cell(ids.first_row(code), f"{value!r} is not in {path}")
        positions[code] = position_of[str(value)]
    return positions[ids.codes]


def _units(column: Column, user: Int32, users: int, sessions: Factor | None) -> Int32:
    anonymous = user < 0
    if not anonymous.any():
        return user
    if sessions is None:
        raise column.bad_cell(
            int(np.argmax(anonymous)),
            "the user id is missing; a visitor without one needs a session "
            "(interactions.session of the schema)",
        )
    nobody = np.array([value is None for value in sessions.values])[sessions.codes] & anonymous
    if nobody.any():
        raise column.bad_cell(int(np.argmax(nobody)), "there is neither a user nor a session id")
    return np.where(anonymous, users + sessions.codes, user).astype(np.int32)


def _check_both_classes(column: Column, label: Float32) -> None:
    if label.min() == label.max():
        raise column.unfit(f"is {label[0]:.0f} in every row; a model needs clicks and non-clicks")


def _check_no_repeats(logs: Logs, sessions: Factor | None) -> None:
    """Refuse a log in which an impression has two rows.

    Such a log was delivered twice or its clicks were never joined to their
    impressions; one copy may then be trained on and the other held out.
    """
    keys: list[Int32 | Float64] = [factor.codes for factor in logs.context.values()]
    keys += [] if sessions is None else [sessions.codes]
    keys += [logs.item, logs.unit, logs.seconds]
    order = np.lexsort(tuple(keys))
    same = np.ones(len(order) - 1, bool)
    for key in keys:
        same &= key[order[1:]] == key[order[:-1]]
    if same.any():
        earlier, later = order[:-1][same], order[1:][same]
        first = int(np.argmin(later))
        raise InputError(
            f"{logs.file}: data row {later[first] + 1} repeats data row {earlier[first] + 1} "
            "(same user, item and time): keep one row per impression, with its click in the label"
        )
