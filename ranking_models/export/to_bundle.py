"""A trained run as a bundle, or an error: nothing that disagrees with PyTorch is written."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from msgspec.structs import replace
from torch import nn

from ranking_models.bundle import BundleArrays, BundleContents, Graph, id_array, write_bundle
from ranking_models.bundle.parts import SegmentArrays, SplitGraphs
from ranking_models.cache_evaluation.lists import CacheEvidence
from ranking_models.cache_evaluation.measure import CacheOptions, evaluate_modes
from ranking_models.cache_evaluation.text import measured_on
from ranking_models.errors import InputError
from ranking_models.export.exact_split import split_network
from ranking_models.export.half import export_half
from ranking_models.export.to_onnx import export_graph
from ranking_models.export.variants import (
    MAX_BATCH_ROWS,
    TOLERANCE,
    ExportProgress,
    Proof,
    build_variants,
    enforce_gates,
    golden_difference,
    precisions_of,
)
from ranking_models.gates import enforce, evidence_of_run
from ranking_models.golden import golden_rows
from ranking_models.manifest import Lineage
from ranking_models.nn import RankingNetwork
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.parity import in_batches
from ranking_models.quantisation import calibration_of_run
from ranking_models.run import TrainedRun
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32
from ranking_models.segments import segments_of
from ranking_models.torch_scorer import torch_scorer


def export_run(
    run: TrainedRun,
    root: Path,
    *,
    name: str,
    created: datetime,
    precisions: Sequence[str] = ("fp32",),
    embedding_rows: Sequence[str] = (),
    split: bool = False,
    cache_modes: bool = False,
    force: bool = False,
    progress: ExportProgress | None = None,
) -> Path:
    """Write the bundle ``<root>/<name>/<version>/`` of a run and return its path.

    Args:
        run: What ``podium train`` left.
        root: Folder of all bundles; made if it is not there.
        name: The model's name.
        created: Now, with a time zone.
        precisions: As `precisions_of`; fp32 is always among them.
        embedding_rows: fp32 graphs with smaller embedding rows, besides.
        split: Whether to write the exact user/item split too.
        cache_modes: Whether to measure on the held-out rows what ranking by segment costs.
        force: Whether what fails its gate is published all the same, marked as such.
        progress: Hears of every precision.

    Raises:
        ParityFailed: ONNX Runtime and PyTorch differ by more than `TOLERANCE`
            on a golden row, in batches of 1, 7, 256 or 4,096 rows.
        VariantsRefused: a precision failed its gate; nothing was written.
        GateFailed: the run itself failed the gate against its parent.
        InputError: the network cannot be exported.
        BundleError: the bundle cannot be written.
    """
    wanted = precisions_of(precisions, embedding_rows)
    lineage = _publishable(run, force=force)
    module = run.module().eval()
    golden = golden_rows(run.schema, run.held_out)
    reference = torch_scorer(module, run.schema)(golden)
    fp32 = exported(module, run.schema, golden, reference)
    graphs = {"fp32": fp32}
    if len(wanted) > 1:
        proof = Proof(
            fp32=fp32.onnx,
            golden=golden,
            golden_scores=reference,
            evidence=evidence_of_run(run),
        )
        graphs |= build_variants(
            wanted,
            proof,
            half=lambda: export_half(module, run.schema),
            schema=run.schema,
            calibration=calibration_of_run(run),
            progress=progress,
        )
    segments = segments_of(
        torch_scorer(module, run.schema),
        run.schema,
        run.users.features,
        run.items.features,
        popularity=run.popularity,
    )
    contents = BundleContents(
        name=name,
        created=created,
        architecture=run.architecture,
        schema=run.schema,
        graphs=enforce_gates(graphs, force=force),
        arrays=BundleArrays(
            item_ids=id_array(run.items.ids, "the items"),
            items=run.items.features,
            user_ids=id_array(run.users.ids, "the users"),
            users=run.users.features,
            candidates=run.anchors,
            popularity=run.popularity,
            golden=golden,
            golden_scores=reference,
        ),
        max_batch_rows=MAX_BATCH_ROWS,
        quality=run.quality,
        data=run.data,
        tools={m.__name__: str(m.__version__) for m in (np, onnx, onnxruntime, torch)},
        lineage=lineage,
        split=_split(module, run, fp32, golden) if split else None,
        candidates=run.candidates,
        segments=_measured(segments, run, fp32, name) if cache_modes else segments,
    )
    return write_bundle(root, contents)


def _split(
    module: RankingNetwork, run: TrainedRun, fp32: Graph, golden: FeatureBatch
) -> SplitGraphs:
    return split_network(module, run.schema, golden, onnx_runtime_scorer(fp32.onnx)(golden))


def _measured(segments: SegmentArrays, run: TrainedRun, fp32: Graph, name: str) -> SegmentArrays:
    """With what ranking by these segments costs.

    Raises:
        InputError: the run holds out nothing to measure on.
    """
    if not run.held_out.rows:
        raise InputError(f"{run.directory}: holds out no rows to measure the cache's modes on")
    evidence = CacheEvidence(
        schema=run.schema,
        users=run.users.features,
        items=run.items.features,
        rows=run.held_out,
        labels=run.held_out_labels.astype(np.float64),
        units=run.held_out_units.astype(np.intp),
        words=f"held out by the training: {run.quality.split}",
    )
    options = CacheOptions(candidates=min(CacheOptions().candidates, run.items.features.rows))
    scorer = in_batches(onnx_runtime_scorer(fp32.onnx), MAX_BATCH_ROWS)
    found = evaluate_modes(
        scorer, evidence, [segments], model=name, precision="fp32", options=options
    )
    figures = replace(segments.figures, modes=found.modes, modes_on="; ".join(measured_on(found)))
    return replace(segments, figures=figures)


def _publishable(run: TrainedRun, *, force: bool) -> Lineage | None:
    """Where the run comes from, unless it does not rank like its parent."""
    lineage = run.lineage
    if lineage is None or lineage.gate is None:
        return lineage
    what = f"{run.name}, {lineage.method} from {lineage.parent},"
    return replace(lineage, gate=enforce(lineage.gate, what=what, force=force))


def exported(
    module: nn.Module, schema: FeatureSchema, golden: FeatureBatch, reference: Float32
) -> Graph:
    """The module's fp32 graph, proven on the golden rows.

    Raises:
        ParityFailed: the graph does not compute `reference`.
        InputError: the module cannot be exported.
    """
    serialised = export_graph(module, schema)
    parity = golden_difference(
        onnx_runtime_scorer(serialised),
        golden,
        reference,
        tolerance=TOLERANCE,
        what="ONNX Runtime against PyTorch (fp32)",
    )
    return Graph(onnx=serialised, tolerance=TOLERANCE, parity=parity)
