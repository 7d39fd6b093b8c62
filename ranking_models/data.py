"""From raw logs to model input rows: vocabularies, means and scales, encoded tables.

What is learned from data here (`fit_schema`) sees the rows it is given and
nothing else; a value that only held-out rows have stays unknown, or has the id
that it hashes to where the log's owner asked for hashing.
"""

from collections import Counter
from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.columns import Factor, Float64
from ranking_models.errors import InputError
from ranking_models.log_schema import DeclaredFeature
from ranking_models.logs import Logs
from ranking_models.schema import (
    Encoder,
    FeatureBatch,
    FeatureSchema,
    FeatureSpec,
    FeatureValue,
    Float32,
    Int32,
    Scalar,
    Source,
    as_text,
)
from ranking_models.split import Rows

Positions = npt.NDArray[np.integer]

MIN_COUNT = 2
MAX_LENGTH = 8


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A log as model input: one encoded table per source, joined per row on demand.

    ``tables["user"]`` and ``tables["item"]`` have one row per entity and a
    last one for an unknown entity; ``tables["context"]`` has one per impression.
    """

    schema: FeatureSchema
    tables: Mapping[Source, FeatureBatch]
    columns: Mapping[str, int]
    """Of each numeric and categorical feature: its column in its source's table."""
    user: Int32
    item: Int32
    label: Float32

    def inputs(self, rows: Rows) -> FeatureBatch:
        """The model input of some impressions."""
        return self.join(self.user[rows], self.item[rows], rows)

    def join(self, user: Positions, item: Positions, rows: Rows) -> FeatureBatch:
        """The model input of these users and items in the contexts of these impressions."""
        at: dict[Source, Positions] = {"user": user, "item": item, "context": rows}
        schema = self.schema
        dense = np.empty((len(rows), len(schema.dense)), np.float32)
        ids = np.empty((len(rows), len(schema.ids)), np.int32)
        for position, spec in enumerate(schema.dense):
            numbers = self.tables[spec.source].dense
            dense[:, position] = numbers[at[spec.source], self.columns[spec.name]]
        for position, spec in enumerate(schema.ids):
            values = self.tables[spec.source].ids
            ids[:, position] = values[at[spec.source], self.columns[spec.name]]
        multi = {
            spec.name: self.tables[spec.source].multi[spec.name][at[spec.source]]
            for spec in schema.multi
        }
        return FeatureBatch(dense=dense, ids=ids, multi=multi)


def fit_schema(logs: Logs, rows: Rows) -> FeatureSchema:
    """Learn vocabularies, means and scales from some rows (the training rows).

    Every row counts once, so an item shown a thousand times weighs a thousand
    times as much in the mean price as one shown once: as training sees it.
    """
    return FeatureSchema(
        features=tuple(_fit(f, *_values_and_weights(logs, f, rows)) for f in logs.declared.features)
    )


def encode(logs: Logs, schema: FeatureSchema) -> Dataset:
    """Encode all users, items and contexts of a log with a schema learned from it."""
    raw: dict[Source, Mapping[str, Factor]] = {
        "user": logs.users.features,
        "item": logs.items.features,
        "context": logs.context,
    }
    sizes = {"user": len(logs.users.ids) + 1, "item": len(logs.items.ids) + 1}
    columns = {}
    tables: dict[Source, FeatureBatch] = {}
    for source, factors in raw.items():
        part = schema.of(source)
        tables[source] = encode_table(part, factors, sizes.get(source, len(logs.label)))
        columns.update({spec.name: column for column, spec in enumerate(part.dense)})
        columns.update({spec.name: column for column, spec in enumerate(part.ids)})
    return Dataset(
        schema=schema,
        tables=tables,
        columns=columns,
        user=logs.user,
        item=logs.item,
        label=logs.label,
    )


def _values_and_weights(
    logs: Logs, feature: DeclaredFeature, rows: Rows
) -> tuple[tuple[FeatureValue, ...], Float64]:
    """The distinct values of a feature, and in how many of the rows each occurs."""
    if feature.source == "context":
        factor = logs.context[feature.name]
        return factor.values, _counts(factor.codes[rows], len(factor.values))
    entities, of_row = (
        (logs.users, logs.user) if feature.source == "user" else (logs.items, logs.item)
    )
    factor = entities.features[feature.name]
    rows_of_entity = _counts(of_row[rows], len(factor.codes))
    weights = np.bincount(factor.codes, weights=rows_of_entity, minlength=len(factor.values))
    return factor.values, weights.astype(np.float64)


def _counts(codes: Int32, size: int) -> Float64:
    return np.bincount(codes, minlength=size).astype(np.float64)


def _fit(
    feature: DeclaredFeature, values: tuple[FeatureValue, ...], weights: Float64
) -> FeatureSpec:
    mean, scale = 0.0, 1.0
    vocabulary: tuple[str, ...] = ()
    if feature.kind == "numeric":
        mean, scale = _mean_and_scale(feature, values, weights)
    elif not feature.hash_buckets:
        vocabulary = _vocabulary(feature, values, weights)
    return FeatureSpec(
        name=feature.name,
        source=feature.source,
        kind=feature.kind,
        vocabulary=vocabulary,
        hash_buckets=feature.hash_buckets or 0,
        default=feature.default,
        mean=mean,
        scale=scale,
        log=feature.log,
        max_length=(feature.max_length or MAX_LENGTH) if feature.kind == "multi" else 1,
    )


def _vocabulary(
    feature: DeclaredFeature, values: tuple[FeatureValue, ...], weights: Float64
) -> tuple[str, ...]:
    counts: Counter[str] = Counter()
    for value, weight in zip(values, weights.tolist(), strict=True):
        for single in _singles(feature.default if value is None else value):
            counts[as_text(single)] += weight
    least = feature.min_count or MIN_COUNT
    return tuple(sorted(text for text, count in counts.items() if count >= least))


def _singles(value: FeatureValue) -> list[Scalar]:
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


def _mean_and_scale(
    feature: DeclaredFeature, values: tuple[FeatureValue, ...], weights: Float64
) -> tuple[float, float]:
    """Over the rows with a value; 0 and 1 where there is nothing to scale."""
    raw = [feature.default if value is None else value for value in values]
    numbers = np.array([np.nan if value is None else value for value in raw], np.float64)
    counted = ~np.isnan(numbers) & (weights > 0)
    x, w = numbers[counted], weights[counted]
    if not len(x):
        return 0.0, 1.0
    if feature.log:
        x = np.sign(x) * np.log1p(np.abs(x))
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(np.average(x, weights=w))
        scale = float(np.sqrt(np.average((x - mean) ** 2, weights=w)))
    if not np.isfinite(scale):
        raise InputError(
            f"feature {feature.name!r}: its numbers are too large for a mean and a scale; "
            "set log = true in the schema"
        )
    # A spread of rounding errors is none.
    return mean, scale if scale > 1e-9 * max(1.0, abs(mean)) else 1.0


def encode_table(schema: FeatureSchema, factors: Mapping[str, Factor], rows: int) -> FeatureBatch:
    """Encode a table of one source, each distinct value once, by the same rule as in serving."""
    encoder = Encoder(schema)

    def column(spec: FeatureSpec) -> npt.NDArray[np.float64]:
        factor = factors[spec.name]
        encoded = [encoder.encode_value(spec, value) for value in factor.values]
        return np.array(encoded, np.float64)[factor.codes]

    dense = np.zeros((rows, len(schema.dense)), np.float32)
    ids = np.zeros((rows, len(schema.ids)), np.int32)
    for position, spec in enumerate(schema.dense):
        dense[:, position] = column(spec)
    for position, spec in enumerate(schema.ids):
        ids[:, position] = column(spec)
    multi = {spec.name: column(spec).astype(np.int32) for spec in schema.multi}
    return FeatureBatch(dense=dense, ids=ids, multi=multi)
