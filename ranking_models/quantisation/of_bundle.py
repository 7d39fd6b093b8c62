"""More precisions for a bundle that is already there: measured on what its model has not seen."""

from datetime import datetime

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from ranking_models.bundle import Bundle, BundleContents
from ranking_models.bundle.rewriting import contents_of
from ranking_models.errors import InputError
from ranking_models.evaluation import encoded_rows
from ranking_models.export.half_graph import half_of_graph
from ranking_models.export.variants import (
    TOLERANCE,
    ExportProgress,
    Precision,
    Proof,
    build_variants,
    enforce_gates,
)
from ranking_models.gates import Evidence, evidence_of
from ranking_models.logs import Logs
from ranking_models.quantisation.rows import calibration_of_run
from ranking_models.run import TrainedRun
from ranking_models.schema import FeatureBatch
from ranking_models.split import Rows
from ranking_models.torch_scorer import torch_scorer

CALIBRATION_SHARE = 5
"""One row of so many of an unseen log calibrates, the others are for the gate."""

MAX_CALIBRATION = 2048
MAX_GATE_ROWS = 20_000


class Material(Struct, frozen=True, kw_only=True):
    """Rows that the model was not trained on, in two parts that share none."""

    calibration: FeatureBatch
    evidence: Evidence


def material_of_run(run: TrainedRun, bundle: Bundle) -> Material:
    """The calibration and held-out rows of the run that a bundle was exported from.

    Raises:
        InputError: the run is of another model, or its rows overlap.
    """
    reference = f"{bundle.manifest.name}@{bundle.manifest.version}"
    what = f"{run.directory}: is not the run of {reference}"
    if run.schema != bundle.schema:
        raise InputError(f"{what}: its features are others; name the run that was exported")
    golden, scores = bundle.golden
    difference = float(np.abs(torch_scorer(run.module(), run.schema)(golden) - scores).max())
    if not difference <= TOLERANCE:
        raise InputError(
            f"{what}: its scores of the golden rows differ by up to {difference:.3g}; "
            "name the run that was exported"
        )
    evidence = evidence_of(
        bundle.schema,
        bundle.items,
        run.held_out,
        run.held_out_labels,
        run.held_out_units,
        source=run.quality.split,
    )
    return Material(calibration=calibration_of_run(run), evidence=evidence)


def material_of_log(logs: Logs, bundle: Bundle) -> Material:
    """A log that the model was not trained on: a fifth of it, at most, calibrates.

    Raises:
        InputError: the log lacks a feature of the model, or has no clicks or
            nothing but clicks.
    """
    rows = np.arange(len(logs.label))
    count = min(MAX_CALIBRATION, len(rows) // CALIBRATION_SHARE)
    calibration = _spread(rows, count)
    held_out = np.setdiff1d(rows, calibration)
    held_out = _spread(held_out, min(MAX_GATE_ROWS, len(held_out)))
    evidence = evidence_of(
        bundle.schema,
        bundle.items,
        encoded_rows(logs, bundle.schema, held_out),
        logs.label[held_out].astype(np.float32),
        logs.unit[held_out],
        source=f"{logs.declared.name}, which the model was not trained on",
    )
    return Material(calibration=encoded_rows(logs, bundle.schema, calibration), evidence=evidence)


def with_variants(
    bundle: Bundle,
    material: Material,
    precisions: tuple[Precision, ...],
    *,
    created: datetime,
    force: bool = False,
    progress: ExportProgress | None = None,
) -> BundleContents:
    """What the bundle holds, and the graphs asked for besides; older ones are replaced.

    Args:
        bundle: Any that has an fp32 graph.
        material: What to calibrate and measure on.
        precisions: Any; fp32 stays as it is.
        created: Now, with a time zone.
        force: Whether a graph that fails its gate is published, marked as such.
        progress: Hears of every precision.

    Raises:
        VariantsRefused: a graph failed its gate and is not forced.
        InputError: a graph cannot be built.
    """
    golden, scores = bundle.golden
    fp32 = bundle.graph("fp32").read_bytes()

    def half() -> bytes:
        if "fp16" in bundle.manifest.precisions:
            return bundle.graph("fp16").read_bytes()
        return half_of_graph(fp32, bundle.schema)

    graphs = build_variants(
        precisions,
        Proof(fp32=fp32, golden=golden, golden_scores=scores, evidence=material.evidence),
        half=half,
        schema=bundle.schema,
        calibration=material.calibration,
        progress=progress,
    )
    contents = contents_of(bundle)
    added = enforce_gates(graphs, force=force)
    return replace(contents, graphs={**contents.graphs, **added}, created=created)


def _spread(rows: Rows, count: int) -> Rows:
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.intp)] if count else rows[:0]
