"""What a smaller model takes over from the run that it is made from.

The features with their vocabularies and scales, the catalogue and the item
pages stay; so do the rows that were held out and those set apart for
calibration. Parent and child are then measured on the same rows, which
neither has learned from.
"""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.data import Dataset, encode
from ranking_models.errors import InputError
from ranking_models.logs import Logs
from ranking_models.run import TrainedRun
from ranking_models.schema import FeatureBatch
from ranking_models.split import Rows, Split, SplitName, split_logs


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and the log that it was trained on, split as it was then."""

    run: TrainedRun
    logs: Logs
    data: Dataset
    """The log in the run's features."""
    parts: Split
    train: Rows
    """Without those set apart for calibration."""

    @property
    def learned(self) -> Rows:
        """The rows that the run's weights have learned from."""
        return np.concatenate([self.train, self.parts.validation])


def origin_of(run: TrainedRun, logs: Logs) -> Origin:
    """The run with its log, proven to be the one that it was trained on.

    Raises:
        InputError: another log, or the run was released on all rows, so that
            none is left to hold a smaller model against it.
    """
    if run.training.release_on == "all":
        raise InputError(
            f"{run.directory}: was released on all rows, so none is left to compare a smaller "
            "model with it on; train it with --release-on rest"
        )
    _check_shape(run, logs)
    data = encode(logs, run.schema)
    parts = split_logs(logs, msgspec.convert(run.training.split, SplitName))
    _check_rows(run, logs, data, parts)
    train = np.setdiff1d(parts.train, run.calibration_rows)
    return Origin(run=run, logs=logs, data=data, parts=parts, train=train)


def _check_shape(run: TrainedRun, logs: Logs) -> None:
    declared = {(f.name, f.source, f.kind) for f in logs.declared.features}
    for spec in run.schema.features:
        if (spec.name, spec.source, spec.kind) not in declared:
            raise _other(run, logs, f"it declares no {spec.source} {spec.kind} {spec.name!r}")
    for what, there, wanted in (
        ("interactions", len(logs.label), run.data.interactions),
        ("items", len(logs.items.ids), len(run.items.ids)),
        ("users", len(logs.users.ids), len(run.users.ids)),
    ):
        if there != wanted:
            raise _other(run, logs, f"it has {there:,} {what}, the run's has {wanted:,}")
    if logs.items.ids != run.items.ids or logs.users.ids != run.users.ids:
        raise _other(run, logs, "its items or users have other ids")


def _check_rows(run: TrainedRun, logs: Logs, data: Dataset, parts: Split) -> None:
    held_out, calibration = run.held_out_rows, run.calibration_rows
    pairs = ((held_out, parts.test), (calibration, parts.train))
    if not all(np.isin(rows, part).all() for rows, part in pairs):
        raise _other(run, logs, "its last rows by time are others")
    same = (
        np.array_equal(logs.label[held_out], run.held_out_labels)
        and np.array_equal(logs.unit[held_out], run.held_out_units)
        and _same(data.inputs(held_out), run.held_out)
        and _same(data.inputs(calibration), run.calibration)
    )
    if not same:
        raise _other(run, logs, "the rows that the run held out differ")


def _same(left: FeatureBatch, right: FeatureBatch) -> bool:
    ours: dict[str, npt.NDArray[Any]] = left.inputs()
    theirs: dict[str, npt.NDArray[Any]] = right.inputs()
    return all(np.array_equal(array, theirs[name]) for name, array in ours.items())


def _other(run: TrainedRun, logs: Logs, difference: str) -> InputError:
    return InputError(
        f"{logs.file}: is not the log that {run.name} was trained on: {difference}; "
        "name the data that the run was trained with"
    )
