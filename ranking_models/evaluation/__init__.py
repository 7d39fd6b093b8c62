"""How good a model is on rows that it has not seen, with intervals; and whether another is better.

    rows.py      which rows of a log, or of a run, and whose they are
    segments.py  the same rows cut by a feature
    figures.py   every metric with its 95 % interval, and paired differences
    measure.py   from scorers and rows to an `Evaluation`
    notes.py     what a reader must know before believing a figure
    values.py    what an `Evaluation` holds: the JSON
    text.py, html.py, plots.py   the same for people

Knows no engine and no torch: whatever turns rows into scores can be measured.
"""

from ranking_models.evaluation.measure import EvaluationOptions, Subject, evaluate
from ranking_models.evaluation.notes import notes_on_log, notes_on_run
from ranking_models.evaluation.rows import EvaluationRows, encoded_rows, rows_of_log, rows_of_run
from ranking_models.evaluation.segments import SegmentColumn, column_of_batch, column_of_log
from ranking_models.evaluation.values import Evaluation, encode_evaluation
from ranking_models.parity import in_batches

__all__ = [
    "Evaluation",
    "EvaluationOptions",
    "EvaluationRows",
    "SegmentColumn",
    "Subject",
    "column_of_batch",
    "column_of_log",
    "encode_evaluation",
    "encoded_rows",
    "evaluate",
    "in_batches",
    "notes_on_log",
    "notes_on_run",
    "rows_of_log",
    "rows_of_run",
]
