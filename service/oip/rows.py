"""Tensors of a request as rows of a model, once they are what its graph takes."""

from collections.abc import Mapping

import numpy as np

from ranking_models.schema import FeatureBatch, FeatureSchema, FeatureSpec, Float32, Int32
from ranking_models.triton.border import InputTensor, inputs_of
from service.errors import InvalidInference
from service.oip.tensors import Array

_DTYPES = {"FP32": np.dtype(np.float32), "INT32": np.dtype(np.int32)}


def rows_of(inputs: Mapping[str, Array], schema: FeatureSchema, most_rows: int) -> FeatureBatch:
    """The rows.

    Args:
        inputs: By name.
        schema: Of the model.
        most_rows: More are refused.

    Raises:
        InvalidInference: an input is missing, too much, of another shape or type, or holds what
            the model has not learnt; names the input, and the row.
    """
    wanted = inputs_of(schema)
    unknown = sorted({*inputs} - {tensor.name for tensor in wanted})
    if unknown:
        raise InvalidInference(f"the model has no input {unknown[0][:80]!r}: {_listed(wanted)}")
    rows = _count(inputs, wanted, most_rows)
    for tensor in wanted:
        _check(inputs[tensor.name], tensor, rows)
    batch = FeatureBatch(
        dense=inputs["dense"] if "dense" in inputs else np.zeros((rows, 0), np.float32),
        ids=inputs["ids"] if "ids" in inputs else np.zeros((rows, 0), np.int32),
        multi={spec.name: inputs[f"multi_{spec.name}"] for spec in schema.multi},
    )
    _check_finite(batch.dense, schema)
    for column, spec in enumerate(schema.ids):
        _check_known(batch.ids[:, column], spec, "ids")
    for spec in schema.multi:
        _check_known(batch.multi[spec.name], spec, f"multi_{spec.name}")
    return batch


def _count(inputs: Mapping[str, Array], wanted: tuple[InputTensor, ...], most_rows: int) -> int:
    """How many rows there are: as the first input says."""
    for tensor in wanted:
        if tensor.name not in inputs:
            raise InvalidInference(f"input {tensor.name!r} is missing: {_listed(wanted)}")
    rows = len(inputs[wanted[0].name])
    if not 1 <= rows <= most_rows:
        raise InvalidInference(f"{rows} rows: a request has 1 to {most_rows}")
    return rows


def _check(array: Array, tensor: InputTensor, rows: int) -> None:
    if array.dtype != _DTYPES[tensor.datatype]:
        raise InvalidInference(f"input {tensor.name!r} is not {tensor.datatype}, as it has to be")
    if array.shape != (rows, tensor.width):
        raise InvalidInference(
            f"input {tensor.name!r} is {list(array.shape)}, not {[rows, tensor.width]}"
        )


def _check_finite(dense: Float32, schema: FeatureSchema) -> None:
    finite = np.isfinite(dense)
    if not finite.all():
        row, column = (int(at) for at in np.argwhere(~finite)[0])
        name = schema.dense[column].name
        raise InvalidInference(
            f"input 'dense', row {row}, column {column} ({name}): {dense[row, column]} is not a "
            "finite number of 32 bits"
        )


def _check_known(ids: Int32, spec: FeatureSpec, name: str) -> None:
    """Ids beyond a table would be read from somewhere else, or end the engine."""
    outside = (ids < 0) | (ids > spec.last_id)
    if outside.any():
        at = tuple(int(n) for n in np.argwhere(outside)[0])
        raise InvalidInference(
            f"input {name!r}, row {at[0]}: {int(ids[at])} is not an id of {spec.name}, "
            f"which has 0 to {spec.last_id}"
        )


def _listed(wanted: tuple[InputTensor, ...]) -> str:
    named = ", ".join(f"{t.name} {t.datatype}[rows, {t.width}]" for t in wanted)
    return f"it takes {named}"
