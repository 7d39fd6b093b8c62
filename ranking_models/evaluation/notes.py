"""What a reader must know before believing a figure."""

from collections.abc import Iterator

from ranking_models.evaluation.rows import RowsName
from ranking_models.manifest import ModelManifest

SEEN_IN_LAST_ROUND = "before a last round on all rows"
"""How `Quality.split` ends where the released weights have seen the test rows."""


def notes_on_log(
    manifest: ModelManifest, *, data: str, rows: RowsName, evidence: str
) -> Iterator[str]:
    """Where a bundle may have learnt from the very rows of a log.

    Args:
        manifest: Of the bundle.
        data: The log's name.
        rows: Which part of it is measured on.
        evidence: The part in words, as `EvaluationRows` has it.
    """
    who = f"{manifest.name}@{manifest.version}"
    if data != manifest.data.name:
        yield f"{who} was trained on {manifest.data.name}, these rows are of {data}"
    elif rows == "all":
        yield f"{who} was trained on most of these rows: its figures are too good"
    elif SEEN_IN_LAST_ROUND in manifest.quality.split:
        yield f"{who} learnt from these rows in its last round: its figures are too good"
    elif not evidence.endswith(manifest.quality.split):
        yield (
            f"{who} held out the {manifest.quality.split}; of these rows it may have "
            "learnt from some"
        )


def notes_on_run(manifest: ModelManifest) -> Iterator[str]:
    """The same for the rows that a run held out."""
    if SEEN_IN_LAST_ROUND in manifest.quality.split:
        yield (
            f"{manifest.name}@{manifest.version} learnt from these rows in its last round: "
            "its figures are too good"
        )
