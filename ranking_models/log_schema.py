"""``schema.toml``: what the columns of a click log mean. Strict: unknown keys are refused."""

import re
import tomllib
from math import isfinite
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from ranking_models.errors import InputError
from ranking_models.schema import ITEM_ID, USER_ID, Kind, Scalar, Source

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Count = Annotated[int, Meta(ge=1)]


class InteractionColumns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Column names of the interactions file."""

    user: Name
    item: Name
    timestamp: Name
    label: Name
    session: Name | None = None
    """Tells impressions of the same second apart, and stands in for a missing user."""


class IdColumn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Column name of the ids in an items or users file."""

    id: Name


class DeclaredFeature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A feature as the log's owner declares it; training adds vocabulary, mean and scale."""

    name: Name
    source: Source
    kind: Kind
    min_count: Count | None = None
    """Of categorical and multi features: rarer values in training rows become id 0. Default 2."""
    hash_buckets: Annotated[int, Meta(ge=1, le=50_000_000)] | None = None
    """Of categorical and multi features: hash values into so many ids, in place of a vocabulary.
    No value is unknown then, also one that training never saw; some share an id."""
    log: bool = False
    separator: Name | None = None
    max_length: Annotated[int, Meta(ge=1, le=256)] | None = None
    """Of multi features: how many values count. Default 8."""
    default: Scalar | None = None

    def __post_init__(self) -> None:
        self._only("log", self.log, "numeric")
        self._only("min_count", self.min_count is not None, "categorical", "multi")
        self._only("hash_buckets", self.hash_buckets is not None, "categorical", "multi")
        if self.hash_buckets and self.min_count:
            raise ValueError(
                f"feature {self.name!r}: min_count makes a vocabulary and hash_buckets takes its "
                "place; leave one out"
            )
        self._only("separator", self.separator is not None, "multi")
        self._only("max_length", self.max_length is not None, "multi")
        number = isinstance(self.default, int | float) and not isinstance(self.default, bool)
        if self.kind == "numeric" and self.default is not None and not number:
            raise ValueError(f"feature {self.name!r}: the default must be a number")
        if isinstance(self.default, float) and not isfinite(self.default):
            raise ValueError(f"feature {self.name!r}: the default must be finite")
        if self.kind == "multi" and re.search(r"[/\\\x00-\x1f]", self.name):
            raise ValueError(
                f"feature {self.name!r}: a multi feature's name is a file's; use no slash"
            )
        id_of = {USER_ID: "user", ITEM_ID: "item"}.get(self.name)
        if id_of and (self.source, self.kind) != (id_of, "categorical"):
            raise ValueError(f"feature {self.name!r} must be categorical, with source {id_of!r}")

    def _only(self, key: str, given: bool, *kinds: Kind) -> None:
        if given and self.kind not in kinds:
            raise ValueError(f"feature {self.name!r}: {key} is for {' and '.join(kinds)} features")


class LogSchema(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of ``schema.toml``."""

    name: Name
    licence: Annotated[str, Meta(min_length=1)]
    interactions: InteractionColumns
    items: IdColumn | None = None
    users: IdColumn | None = None
    features: Annotated[tuple[DeclaredFeature, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"feature {name!r} is declared twice")
        if self.interactions.label in [feature.name for feature in self.columns_of("context")]:
            raise ValueError(
                f"feature {self.interactions.label!r} is the label; a model would only repeat it"
            )

    def columns_of(self, source: Source) -> list[DeclaredFeature]:
        """The features of a source that are columns of its file: all but the ids."""
        return [f for f in self.features if f.source == source and f.name not in (USER_ID, ITEM_ID)]


def read_log_schema(path: Path) -> LogSchema:
    """Read ``schema.toml``.

    Raises:
        InputError: no such file, not TOML (with line and column), or not a
            valid schema (with the path of the value, such as ``$.features[2].kind``).
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), LogSchema)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InputError(f"{path}: {error}") from None
