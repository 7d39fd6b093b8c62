"""Optimisation profiles: for which numbers of rows a plan is built.

TensorRT tunes its kernels for one shape of a profile, and runs any between
its least and its largest. A batch is padded to the next bucket, so there is
one profile per bucket, tuned for the full bucket; their ranges follow each
other without gap or overlap.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from ranking_models.errors import InputError
from ranking_models.tensorrt.border import Border

DEFAULT_BUCKETS = (64, 128, 256, 512, 1024)
"""Rows."""


class RowProfile(Struct, frozen=True, kw_only=True):
    """The rows that one profile runs, and the number it is tuned for."""

    min_rows: int
    opt_rows: int
    max_rows: int


def row_profiles(buckets: Sequence[int]) -> tuple[RowProfile, ...]:
    """One profile per bucket, from the row after the bucket before it.

    Raises:
        InputError: no bucket, one that is not positive, or not in rising order.
    """
    if not buckets:
        raise InputError("a plan needs at least one row bucket, such as 64")
    if list(buckets) != sorted(set(buckets)) or buckets[0] < 1:
        shown = ", ".join(map(str, buckets))
        raise InputError(f"the row buckets {shown} are not positive numbers in rising order")
    starts = [1, *(rows + 1 for rows in buckets[:-1])]
    return tuple(
        RowProfile(min_rows=start, opt_rows=rows, max_rows=rows)
        for start, rows in zip(starts, buckets, strict=True)
    )


def add_profiles(builder: Any, config: Any, border: Border, profiles: Sequence[RowProfile]) -> None:
    """Give the configuration every profile; profile ``i`` of the plan is ``profiles[i]``.

    Raises:
        InputError: there is no profile, or TensorRT does not take one.
    """
    if not profiles:
        raise InputError("a plan needs at least one optimisation profile: name a row bucket")
    for index, rows in enumerate(profiles):
        profile = builder.create_optimization_profile()
        for tensor in border.inputs:
            shapes = [tensor.shape(n) for n in (rows.min_rows, rows.opt_rows, rows.max_rows)]
            profile.set_shape(tensor.name, *shapes)
        # A wrong triple raises nothing: the profile is just not true.
        if not bool(profile) or not _shares_rows(profile, border, rows):
            raise InputError(f"profile {index} ({_shown(rows)}) is not one that TensorRT takes")
        if config.add_optimization_profile(profile) != index:
            raise InputError(f"TensorRT did not add profile {index} ({_shown(rows)})")


def _shares_rows(profile: Any, border: Border, rows: RowProfile) -> bool:
    """Whether all inputs have the same rows; TensorRT builds profiles where they differ."""
    wanted = [rows.min_rows, rows.opt_rows, rows.max_rows]
    kept = (profile.get_shape(tensor.name) for tensor in border.inputs)
    return all([shape[0] for shape in shapes] == wanted for shapes in kept)


def _shown(rows: RowProfile) -> str:
    return f"{rows.min_rows} to {rows.max_rows} rows, tuned for {rows.opt_rows}"
