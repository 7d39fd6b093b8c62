"""Which rows a model is measured on: part of a log, or what a run held out."""

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models import columns
from ranking_models.data import encode
from ranking_models.errors import InputError
from ranking_models.logs import Logs
from ranking_models.metrics.inputs import Float64
from ranking_models.schema import FeatureBatch, FeatureSchema
from ranking_models.split import Rows, SplitName, split_logs
from ranking_models.tables import read_columns

if TYPE_CHECKING:  # a run brings torch
    from ranking_models.run import TrainedRun

RowsName = Literal["test", "all"]
ListKind = Literal["user", "session"]


class EvaluationRows(msgspec.Struct, frozen=True, kw_only=True):
    """Impressions to measure on, without their features: those depend on the model."""

    rows: Rows
    """Row numbers in the log."""
    labels: Float64
    """1.0 for a click, else 0.0."""
    units: npt.NDArray[np.intp]
    """Who saw each: the user, else the session."""
    lists: npt.NDArray[np.intp]
    """The list of each for NDCG and hit rate; never of two units."""
    list_kind: ListKind
    evidence: str
    """In words."""


def rows_of_log(
    logs: Logs, *, rows: RowsName, split: SplitName, lists: ListKind = "user"
) -> EvaluationRows:
    """The test rows of a log, split as training splits it, or all rows.

    Raises:
        InputError: no row can be held out, the test rows are of one class, or
            lists are to be sessions and the log has none.
    """
    if rows == "all":
        chosen, words = np.arange(len(logs.label)), "all rows"
    else:
        parts = split_logs(logs, split)
        chosen, words = parts.test, parts.description
    units = logs.unit[chosen].astype(np.intp)
    return EvaluationRows(
        rows=chosen,
        labels=logs.label[chosen].astype(np.float64),
        units=units,
        lists=_session_lists(logs, chosen, units) if lists == "session" else units,
        list_kind=lists,
        evidence=f"{logs.declared.name}: {words}",
    )


def rows_of_run(run: "TrainedRun") -> EvaluationRows:
    """The rows that a run held out, at most 20,000.

    Raises:
        InputError: there are none.
    """
    if not run.held_out.rows:
        raise InputError(f"{run.directory}: the run holds out no rows; evaluate with --data")
    units = run.held_out_units.astype(np.intp)
    return EvaluationRows(
        rows=run.held_out_rows,
        labels=run.held_out_labels.astype(np.float64),
        units=units,
        lists=units,
        list_kind="user",
        evidence=f"held-out rows of the run {run.name} ({run.quality.split})",
    )


def encoded_rows(logs: Logs, schema: FeatureSchema, rows: Rows) -> FeatureBatch:
    """Rows of a log as a model with this schema takes them.

    Raises:
        InputError: the log has a feature of the model not, or of another kind.
    """
    declared = {spec.name: (spec.source, spec.kind) for spec in logs.declared.features}
    for spec in schema.features:
        wanted = (spec.source, spec.kind)
        if declared.get(spec.name) != wanted:
            has = "{} {}".format(*declared[spec.name]) if spec.name in declared else "none"
            raise InputError(
                f"{logs.file}: the model takes the {spec.source} {spec.kind} feature "
                f"{spec.name!r}, the log's schema declares {has}; "
                "evaluate on a log that declares what the model was trained with"
            )
    return encode(logs, schema).inputs(rows)


def _session_lists(logs: Logs, rows: Rows, units: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """A list per unit and session; a unit's rows without a session id are one more."""
    name = logs.declared.interactions.session
    if name is None:
        raise InputError(
            f"{logs.file}: --lists session needs sessions, and the log's schema names none "
            "(interactions.session); leave it out for one list per user"
        )
    cells = read_columns(logs.file, {name: "interactions.session of the schema"})
    session: npt.NDArray[np.intp] = columns.identifiers(cells[name]).codes[rows].astype(np.intp)
    return units * (int(session.max()) + 1) + session
