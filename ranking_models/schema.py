"""What a model takes in: feature names, kinds, vocabularies, and the rows built from them.

One rule encodes a value for training and for serving (`encode_value`), so the
two cannot drift apart. Everything here needs numpy and msgspec only: the
service imports it without the training stack.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from math import isfinite, log1p
from typing import Annotated, Any, Literal

import mmh3
import msgspec
import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]

Scalar = str | int | float | bool
FeatureValue = Scalar | list[Scalar] | None
"""A raw feature value as logs and requests carry it; None means missing."""

Source = Literal["user", "item", "context"]
Kind = Literal["numeric", "categorical", "multi"]

UNKNOWN = 0
"""The id of every value that the vocabulary does not hold, and the padding."""

USER_ID = "user_id"
ITEM_ID = "item_id"


_NUMBERS = (int, float)


class FeatureMismatch(ValueError):
    """A value does not fit the declared kind of its feature."""

    def __init__(self, feature: str, value: object, expected: str) -> None:
        self.feature, self.value, self.expected = feature, value, expected
        super().__init__(f"feature {feature!r} takes {expected}, got {value!r}")


class FeatureSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One feature: where its value comes from and how it becomes a model input.

    * ``numeric``: ``clip((f(x) - mean) / scale, -clip, clip)`` with ``f`` the
      identity or ``sign(x) * log1p(|x|)``; one float32 column of ``dense``.
    * ``categorical``: ``1 + index`` in the vocabulary, else 0; with
      ``hash_buckets`` instead ``1 + murmur3(text) % hash_buckets`` for every
      value, so that none is unknown and some share an id. One int32 column of
      ``ids``.
    * ``multi``: up to ``max_length`` known values, padded with 0; the int32
      input ``multi_<name>``.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    source: Source
    kind: Kind
    vocabulary: tuple[str, ...] = ()
    """Known values; the position plus one is the id. Numbers are held as text."""
    hash_buckets: int = 0
    """Ids to hash values into, in place of a vocabulary; 0 is off. See `hashed`."""
    default: Scalar | None = None
    """The raw value a missing one stands for. Without it: id 0, or the mean."""
    mean: float = 0.0
    scale: float = 1.0
    log: bool = False
    clip: float = 8.0
    max_length: int = 1
    """Longest list of a ``multi`` feature; what follows is cut off."""

    def __post_init__(self) -> None:
        if not isfinite(self.mean) or not isfinite(self.scale) or self.scale <= 0:
            raise ValueError(f"feature {self.name!r}: mean and scale must be finite, scale > 0")
        if self.max_length < 1:
            raise ValueError(f"feature {self.name!r}: max_length must be at least 1")
        if len(set(self.vocabulary)) != len(self.vocabulary):
            raise ValueError(f"feature {self.name!r}: the vocabulary names a value twice")
        if self.hash_buckets < 0 or (self.hash_buckets and self.vocabulary):
            raise ValueError(f"feature {self.name!r}: either a vocabulary or hash_buckets > 0")

    @property
    def last_id(self) -> int:
        """The largest id of a known value; 0 stands for every unknown one."""
        return self.hash_buckets or len(self.vocabulary)


class FeatureSchema(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True
):
    """All features of a model, in the order of its input columns."""

    features: tuple[FeatureSpec, ...]

    def __post_init__(self) -> None:
        names = [spec.name for spec in self.features]
        if len(set(names)) != len(names):
            raise ValueError(f"feature names must be distinct: {sorted(names)}")

    @cached_property
    def dense(self) -> tuple[FeatureSpec, ...]:
        """The numeric features: the columns of ``dense``."""
        return tuple(spec for spec in self.features if spec.kind == "numeric")

    @cached_property
    def ids(self) -> tuple[FeatureSpec, ...]:
        """The categorical features: the columns of ``ids``."""
        return tuple(spec for spec in self.features if spec.kind == "categorical")

    @cached_property
    def multi(self) -> tuple[FeatureSpec, ...]:
        """The multi-valued features: one input each."""
        return tuple(spec for spec in self.features if spec.kind == "multi")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the arrays of `FeatureBatch.inputs`."""
        return ("dense", "ids", *(f"multi_{spec.name}" for spec in self.multi))

    def of(self, *sources: Source) -> "FeatureSchema":
        """The features of one or more sources, in the same order."""
        return FeatureSchema(features=tuple(s for s in self.features if s.source in sources))


class FeatureBatch(msgspec.Struct, frozen=True, kw_only=True):
    """Model input rows.

    Shapes:
        ``dense`` float32 ``[rows, D]``, ``ids`` int32 ``[rows, F]``, each
        ``multi[name]`` int32 ``[rows, L]`` padded with 0. All C-contiguous.
    """

    dense: Float32
    ids: Int32
    multi: dict[str, Int32] = {}

    @property
    def rows(self) -> int:
        return int(self.dense.shape[0])

    def inputs(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays by the name of the graph input that takes them."""
        return {
            "dense": self.dense,
            "ids": self.ids,
            **{f"multi_{name}": values for name, values in self.multi.items()},
        }

    @staticmethod
    def of_inputs(inputs: Mapping[str, npt.NDArray[Any]]) -> "FeatureBatch":
        """The batch whose `inputs` these are."""
        return FeatureBatch(
            dense=inputs["dense"],
            ids=inputs["ids"],
            multi={
                name.removeprefix("multi_"): values
                for name, values in inputs.items()
                if name.startswith("multi_")
            },
        )

    def take(self, rows: slice | Int32 | npt.NDArray[np.intp]) -> "FeatureBatch":
        """A batch of some of the rows."""
        return FeatureBatch(
            dense=self.dense[rows],
            ids=self.ids[rows],
            multi={name: values[rows] for name, values in self.multi.items()},
        )

    @staticmethod
    def concatenate(batches: Sequence["FeatureBatch"]) -> "FeatureBatch":
        """The rows of several batches of one schema, one after the other."""
        if len(batches) == 1:
            return batches[0]
        return FeatureBatch(
            dense=np.concatenate([b.dense for b in batches]),
            ids=np.concatenate([b.ids for b in batches]),
            multi={
                name: np.concatenate([b.multi[name] for b in batches]) for name in batches[0].multi
            },
        )


class Encoder:
    """Turns raw values of one schema into model inputs. Safe to share: never changes."""

    def __init__(self, schema: FeatureSchema) -> None:
        self.schema = schema
        self._dense = tuple((spec.name, _number_of(spec)) for spec in schema.dense)
        self._ids = tuple((spec.name, _id_of(spec)) for spec in schema.ids)
        self._multi = tuple((spec.name, _list_of(spec)) for spec in schema.multi)
        self._encode: dict[str, Callable[[FeatureValue], float | int | list[int]]] = {
            **dict(self._dense),
            **dict(self._ids),
            **dict(self._multi),
        }

    def encode_value(self, spec: FeatureSpec, value: FeatureValue) -> float | int | list[int]:
        """One raw value as the model takes it.

        Raises:
            FeatureMismatch: a list for a single value, text or a boolean for a
                number, or a number that is not finite.
        """
        return self._encode[spec.name](value)

    def encode_rows(self, rows: Sequence[Mapping[str, FeatureValue]]) -> FeatureBatch:
        """Encode mappings from feature name to raw value; absent names are missing values."""
        schema, n = self.schema, len(rows)
        dense = np.zeros((n, len(schema.dense)), np.float32)
        ids = np.zeros((n, len(schema.ids)), np.int32)
        multi = {s.name: np.zeros((n, s.max_length), np.int32) for s in schema.multi}
        for r, row in enumerate(rows):
            for c, (name, number) in enumerate(self._dense):
                dense[r, c] = number(row.get(name))
            for c, (name, id_of) in enumerate(self._ids):
                ids[r, c] = id_of(row.get(name))
            for name, listed in self._multi:
                multi[name][r] = listed(row.get(name))
        return FeatureBatch(dense=dense, ids=ids, multi=multi)

    def encode_row(self, row: Mapping[str, FeatureValue]) -> FeatureBatch:
        """`encode_rows` of one, which every request pays for: in half the time."""
        return self.together([self.values(row)])

    def values(self, row: Mapping[str, FeatureValue]) -> "EncodedRow":
        """One row as the model takes it, for `together`; absent names are missing values.

        Raises:
            FeatureMismatch: as `encode_value`.
        """
        get = row.get
        return (
            [number(get(name)) for name, number in self._dense],
            [id_of(get(name)) for name, id_of in self._ids],
            [listed(get(name)) for name, listed in self._multi],
        )

    def together(self, rows: Sequence["EncodedRow"]) -> FeatureBatch:
        """The batch of one or more rows: arrays cost the same for one as for many."""
        return FeatureBatch(
            dense=np.array([dense for dense, _, _ in rows], np.float32),
            ids=np.array([ids for _, ids, _ in rows], np.int32),
            multi={
                name: np.array([lists[at] for _, _, lists in rows], np.int32)
                for at, (name, _) in enumerate(self._multi)
            },
        )


EncodedRow = tuple[list[float], list[int], list[list[int]]]
"""The numbers, ids and lists of ids of one row, each in schema order."""


def hashed(text: str, buckets: int) -> int:
    """The id of a hashed value, ``1..buckets``.

    MurmurHash3 x86 32 bits with seed 0 over the UTF-8 bytes, modulo
    ``buckets``, plus one (Weinberger et al. 2009, arXiv:0902.2206).
    """
    return 1 + mmh3.hash(text.encode("utf-8", "surrogatepass"), 0, signed=False) % buckets


def _id_of(spec: FeatureSpec) -> Callable[[FeatureValue], int]:
    """The rule of a categorical feature."""
    known = _id_of_text(spec)

    def id_of(value: FeatureValue) -> int:
        if value is None:
            value = spec.default
            if value is None:
                return UNKNOWN
        if isinstance(value, list):
            raise FeatureMismatch(spec.name, value, "a single value")
        return known(value if type(value) is str else as_text(value))

    return id_of


def _list_of(spec: FeatureSpec) -> Callable[[FeatureValue], list[int]]:
    """The rule of a multi-valued feature."""
    known = _id_of_text(spec)

    def list_of(value: FeatureValue) -> list[int]:
        if value is None:
            value = spec.default
            if value is None:
                return [UNKNOWN] * spec.max_length
        values: Iterable[Scalar] = value if isinstance(value, list) else [value]
        ids = [i for i in (known(as_text(v)) for v in values) if i != UNKNOWN]
        ids = ids[: spec.max_length]
        return ids + [UNKNOWN] * (spec.max_length - len(ids))

    return list_of


def _id_of_text(spec: FeatureSpec) -> Callable[[str], int]:
    if spec.hash_buckets:
        return lambda text: hashed(text, spec.hash_buckets)
    ids = {value: index + 1 for index, value in enumerate(spec.vocabulary)}
    return lambda text: ids.get(text, UNKNOWN)


def as_text(value: Scalar) -> str:
    """The vocabulary's spelling of a value: 3, 3.0 and "3" are one category."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _number_of(spec: FeatureSpec) -> Callable[[FeatureValue], float]:
    """The rule of a numeric feature."""
    mean, scale, clip, log = spec.mean, spec.scale, spec.clip, spec.log

    def standardised(value: FeatureValue) -> float:
        if value is None:
            value = spec.default
            if value is None:
                return 0.0  # the mean, after standardisation
        number = value if type(value) is float else _float(spec, value)
        if not isfinite(number):
            raise FeatureMismatch(spec.name, value, "a finite number")
        if log:
            number = log1p(number) if number >= 0 else -log1p(-number)
        standard = (number - mean) / scale
        # Compared rather than by min and max: every request pays this for every number it brings.
        return standard if -clip <= standard <= clip else clip if standard > 0 else -clip

    return standardised


def _float(spec: FeatureSpec, value: FeatureValue) -> float:
    if isinstance(value, bool) or not isinstance(value, _NUMBERS):
        raise FeatureMismatch(spec.name, value, "a number")
    try:
        return float(value)
    except OverflowError:
        raise FeatureMismatch(spec.name, value, "a number that a float can hold") from None
