"""Rows to calibrate on: enough of them, and none that a gate measures on."""

from typing import TYPE_CHECKING

import numpy as np

from ranking_models.errors import InputError
from ranking_models.schema import FeatureBatch

if TYPE_CHECKING:  # it brings torch, which nothing else here needs
    from ranking_models.run import TrainedRun

MIN_CALIBRATION_ROWS = 256
"""Fewer do not show the ends of what a tensor can hold."""

MAX_CALIBRATION_ROWS = 4096
"""More change no range by much and make every measurement longer."""


def calibration_of_run(run: "TrainedRun") -> FeatureBatch:
    """The rows that a run set apart for calibration.

    Raises:
        InputError: some of them are held out to measure on.
    """
    shared = np.intersect1d(run.calibration_rows, run.held_out_rows)
    if len(shared):
        raise InputError(
            f"{run.directory}: {len(shared):,} of {run.calibration.rows:,} calibration rows are "
            f"held-out rows too (the first is row {shared[0]} of the log), so a gate would "
            "measure on what the ranges were chosen for; train the run again"
        )
    return run.calibration


def enough_rows(calibration: FeatureBatch) -> FeatureBatch:
    """At most `MAX_CALIBRATION_ROWS` of the rows, evenly spread.

    Raises:
        InputError: there are fewer than `MIN_CALIBRATION_ROWS`.
    """
    rows = calibration.rows
    if rows < MIN_CALIBRATION_ROWS:
        raise InputError(
            f"int8 needs at least {MIN_CALIBRATION_ROWS} calibration rows, there are {rows}; "
            "calibrate on a longer log, or leave int8 out"
        )
    if rows <= MAX_CALIBRATION_ROWS:
        return calibration
    return calibration.take(np.linspace(0, rows - 1, MAX_CALIBRATION_ROWS).astype(np.intp))
