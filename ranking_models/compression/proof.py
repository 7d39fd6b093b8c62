"""A smaller model held against its parent, and against logistic regression."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from msgspec.structs import replace
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ranking_models import metrics
from ranking_models.architectures import LogisticRegression
from ranking_models.compression.origin import Origin
from ranking_models.fitting import (
    FitOptions,
    TrainingProgress,
    fit,
    search_epochs,
    tensors,
)
from ranking_models.gates import Progress, evidence_of_run, gate, measure, thresholds_for
from ranking_models.nn import RankingNetwork, restore
from ranking_models.run import TrainedRun
from ranking_models.schema import FeatureBatch, FeatureSchema
from ranking_models.torch_scorer import torch_scorer

BLOCK_ROWS = 4096


def proven(
    origin: Origin,
    run: TrainedRun,
    *,
    baseline: float,
    progress: Progress | None = None,
) -> TrainedRun:
    """The smaller run with the verdict of its gate in its lineage, passed or failed.

    Args:
        origin: What it was made from.
        run: From `prune_run` or `distil_run`.
        baseline: From `baseline_auc`.
        progress: Hears of every block of rows that is scored.
    """
    assert run.lineage is not None
    evidence = evidence_of_run(run)
    network = origin.run.module()
    figures = measure(
        torch_scorer(network, run.schema),
        torch_scorer(run.module(), run.schema),
        evidence,
        max_activation=largest_value(network, run.schema, run.held_out),
        baseline_auc=baseline,
        progress=progress,
    )
    verdict = gate(figures, thresholds_for("smaller"), reference=origin.run.name, evidence=evidence)
    return replace(run, lineage=replace(run.lineage, gate=verdict))


def baseline_auc(origin: Origin, progress: TrainingProgress) -> float:
    """AUC on the held-out rows of a logistic regression that learns from the same rows.

    It is trained like the parent, for as many epochs as the validation rows say.

    Raises:
        InputError: the training diverges.
    """
    network, data = LogisticRegression(), origin.data
    options = origin.run.training.options
    options = replace(options, epochs=max(options.epochs, FitOptions().epochs))
    found = search_epochs(
        data, network, options, progress, rows=origin.train, validation=origin.parts.validation
    )
    weights = fit(
        data,
        network,
        options,
        progress,
        rows=origin.learned,
        epochs=found.epochs,
        phase="logistic regression",
    )
    run = origin.run
    score = torch_scorer(restore(network, data.schema, weights), data.schema)
    return metrics.auc(score(run.held_out), run.held_out_labels)


def largest_value(network: RankingNetwork, schema: FeatureSchema, rows: FeatureBatch) -> float:
    """The largest absolute number that any operation of the network gives for the rows.

    As `ranking_models.gates.largest_activation` says of a graph, without exporting one.
    """
    mode = _Largest()
    with torch.inference_mode():
        for first in range(0, rows.rows, BLOCK_ROWS):
            inputs = tensors(schema, rows.take(slice(first, first + BLOCK_ROWS)))
            with mode:
                network(*inputs)
    return mode.largest


class _Largest(TorchFunctionMode):
    """Looks at the result of every operation."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 0.0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.is_floating_point() and result.numel():
            self.largest = max(self.largest, float(result.abs().max()))
        return result
