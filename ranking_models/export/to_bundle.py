"""A trained run as a bundle, or an error: nothing that disagrees with PyTorch is written."""

from datetime import datetime
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from ranking_models.bundle import BundleArrays, BundleContents, Graph, id_array, write_bundle
from ranking_models.export.to_onnx import export_graph
from ranking_models.fitting import tensors
from ranking_models.golden import GOLDEN_ROWS, golden_rows
from ranking_models.onnx_runtime import onnx_runtime_scorer
from ranking_models.parity import Scorer, check_batches
from ranking_models.run import TrainedRun
from ranking_models.schema import FeatureBatch, FeatureSchema, Float32

TOLERANCE = 1e-5
"""Largest difference between the scores of PyTorch and of an fp32 engine."""

MAX_BATCH_ROWS = 4096
"""Largest single call that is checked: four requests of the most candidates."""

_BATCH_SIZES = (1, 7, GOLDEN_ROWS, MAX_BATCH_ROWS)


def export_run(run: TrainedRun, root: Path, *, name: str, created: datetime) -> Path:
    """Write the bundle ``<root>/<name>/<version>/`` of a run and return its path.

    Args:
        run: What ``podium train`` left.
        root: Folder of all bundles; made if it is not there.
        name: The model's name.
        created: Now, with a time zone.

    Raises:
        ParityFailed: ONNX Runtime and PyTorch differ by more than `TOLERANCE`
            on a golden row, in batches of 1, 7, 256 or 4,096 rows.
        InputError: the network cannot be exported.
        BundleError: the bundle cannot be written.
    """
    module = run.module().eval()
    golden = golden_rows(run.schema, run.held_out)
    reference = torch_scorer(module, run.schema)(golden)
    graph = exported(module, run.schema, golden, reference)
    contents = BundleContents(
        name=name,
        created=created,
        architecture=run.architecture,
        schema=run.schema,
        graphs={"fp32": graph},
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
    )
    return write_bundle(root, contents)


def exported(
    module: nn.Module, schema: FeatureSchema, golden: FeatureBatch, reference: Float32
) -> Graph:
    """The module's fp32 graph, proven on the golden rows.

    Raises:
        ParityFailed: the graph does not compute `reference`.
        InputError: the module cannot be exported.
    """
    serialised = export_graph(module, schema)
    parity = check_batches(
        onnx_runtime_scorer(serialised),
        golden,
        reference,
        sizes=_BATCH_SIZES,
        tolerance=TOLERANCE,
        what="ONNX Runtime against PyTorch (fp32)",
    )
    return Graph(onnx=serialised, tolerance=TOLERANCE, parity=parity)


def torch_scorer(module: nn.Module, schema: FeatureSchema) -> Scorer:
    """The reference: the network itself, which must be in evaluation mode."""

    def score(batch: FeatureBatch) -> Float32:
        with torch.inference_mode():
            scores: Float32 = module(*tensors(schema, batch)).numpy()
        return scores

    return score
