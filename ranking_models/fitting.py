"""The training loop: weights that explain the rows, without learning them by heart."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ranking_models import metrics
from ranking_models.architectures import Architecture
from ranking_models.data import Dataset
from ranking_models.errors import InputError
from ranking_models.nn import RankingNetwork, build
from ranking_models.schema import ITEM_ID, UNKNOWN, USER_ID, FeatureBatch, FeatureSchema, Float32
from ranking_models.split import Rows

Weights = dict[str, npt.NDArray[Any]]

EVALUATED_ROWS = 8_192
"""Rows scored in one call; bounds memory."""

SMALLEST_GAIN = 1e-5
"""A validation log loss must fall by this much to count as better."""


class FitOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to fit; the defaults were chosen on validation rows of MovieLens-100K."""

    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    """Decoupled (AdamW). Rare ids, which few gradients hold up, shrink towards zero."""
    batch_size: int = 256
    epochs: int = 40
    """At most, while there are validation rows to stop by."""
    patience: int = 3
    """Epochs without a better validation log loss before training stops."""
    hidden_share: float = 0.02
    """Share of rows that train with an unknown user; likewise with an unknown item."""
    seed: int = 1
    double: bool = False
    """Train in double precision. It takes up to twice as long, and scores then agree to 1e-6
    between kinds of CPU; in single precision rounding grows to differences of 0.01."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the validation rows say: train for so many epochs."""

    epochs: int
    log_loss: float
    """On the validation rows after that epoch, the best one."""


class TrainingProgress(Protocol):
    """Hears how training goes, and may draw it."""

    def begin(self, phase: str, epochs: int, steps: int) -> None:
        """A round begins, of at most so many epochs of so many steps."""

    def step(self, epoch: int, loss: float) -> None:
        """One batch is done; ``loss`` is the mean over the epoch so far."""

    def validated(self, epoch: int, log_loss: float, auc: float) -> None:
        """An epoch ended with these figures on the validation rows."""


def search_epochs(
    data: Dataset,
    architecture: Architecture,
    options: FitOptions,
    progress: TrainingProgress,
    *,
    rows: Rows,
    validation: Rows,
) -> Found:
    """Train on some rows until others stop getting better, to learn when to stop.

    Raises:
        InputError: the loss is not finite any more.
    """
    label = data.label[validation]
    best: Found | None = None
    with _deterministic(options):
        fitting = _Fitting(data, architecture, options, rows, progress)
        progress.begin("best epoch", options.epochs, fitting.steps)
        for epoch in range(1, options.epochs + 1):
            fitting.train_epoch(epoch)
            found = scores(fitting.network, data, validation)
            loss = metrics.log_loss(found, label)
            progress.validated(epoch, loss, metrics.auc(found, label))
            if best is None or loss < best.log_loss - SMALLEST_GAIN:
                best = Found(epochs=epoch, log_loss=loss)
            elif epoch - best.epochs >= options.patience:
                break
    assert best is not None
    return best


def fit(
    data: Dataset,
    architecture: Architecture,
    options: FitOptions,
    progress: TrainingProgress,
    *,
    rows: Rows,
    epochs: int,
    phase: str,
) -> Weights:
    """Train a fresh network on some rows for so many epochs; its weights by name.

    ``phase`` is what the progress calls this round.

    Runs on one thread with deterministic kernels: the same input gives the
    same weights, bit for bit, on the same machine and versions. They are
    float32, also where they were trained in double precision.

    Raises:
        InputError: the loss is not finite any more.
    """
    with _deterministic(options):
        fitting = _Fitting(data, architecture, options, rows, progress)
        progress.begin(phase, epochs, fitting.steps)
        for epoch in range(1, epochs + 1):
            fitting.train_epoch(epoch)
        state = fitting.network.state_dict()
        return {name: value.float().numpy().copy() for name, value in state.items()}


class _Fitting:
    """One network being fitted to some rows, by binary cross entropy."""

    def __init__(
        self,
        data: Dataset,
        architecture: Architecture,
        options: FitOptions,
        rows: Rows,
        progress: TrainingProgress,
    ) -> None:
        self._data, self._options, self._rows, self._progress = data, options, rows, progress
        self._rng = np.random.default_rng(options.seed)
        self.network = build(architecture, data.schema)
        self._optimiser = _optimiser(self.network, options)
        self.steps = -(-len(rows) // options.batch_size)
        """Per epoch."""

    def train_epoch(self, epoch: int) -> None:
        """See every row once, in random order."""
        self.network.train()
        total, seen = 0.0, 0
        for chosen in np.array_split(self._rng.permutation(self._rows), self.steps):
            total += self._step(chosen) * len(chosen)
            seen += len(chosen)
            self._progress.step(epoch, total / seen)
        if not np.isfinite(total):
            raise InputError(
                f"training diverged: the loss is not finite in epoch {epoch}; "
                "use a smaller --learning-rate"
            )

    def _step(self, rows: Rows) -> float:
        batch = _some_unknown(self._data, rows, self._options.hidden_share, self._rng)
        label = torch.from_numpy(self._data.label[rows])
        logits = self.network.logits(*_inputs(self.network, self._data.schema, batch))
        loss = binary_cross_entropy_with_logits(logits, label.to(logits.dtype))
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return loss.item()


def _some_unknown(
    data: Dataset, rows: Rows, share: float, rng: np.random.Generator
) -> FeatureBatch:
    """Model input in which some users and items are unknown.

    The log names everybody, so without this the vectors for the unknown would
    never be trained, and strangers would be ranked by noise. Half of the
    hidden rows lose the id alone (new, but with features), half everything.
    """
    nobody, nothing, new_user, new_item = rng.random((4, len(rows))) < share / 2
    tables = data.tables
    user = np.where(nobody, tables["user"].rows - 1, data.user[rows])
    item = np.where(nothing, tables["item"].rows - 1, data.item[rows])
    batch = data.join(user, item, rows)
    for column, spec in enumerate(data.schema.ids):
        if spec.name == USER_ID:
            batch.ids[new_user, column] = UNKNOWN
        if spec.name == ITEM_ID:
            batch.ids[new_item, column] = UNKNOWN
    return batch


def scores(network: RankingNetwork, data: Dataset, rows: Rows) -> Float32:
    """Click probabilities of some impressions, in evaluation mode."""
    network.eval()
    parts = []
    with torch.no_grad():
        for start in range(0, len(rows), EVALUATED_ROWS):
            batch = data.inputs(rows[start : start + EVALUATED_ROWS])
            parts.append(network(*_inputs(network, data.schema, batch)).float().numpy())
    return np.concatenate(parts)


def tensors(schema: FeatureSchema, batch: FeatureBatch) -> list[Tensor]:
    """The network's inputs in their order: dense, ids, then the multi-valued ones."""
    arrays = [batch.dense, batch.ids, *(batch.multi[spec.name] for spec in schema.multi)]
    # Torch warns of arrays that it cannot write to, such as those of a bundle: they are copied.
    return [torch.from_numpy(np.require(array, requirements="W")) for array in arrays]


def _inputs(network: RankingNetwork, schema: FeatureSchema, batch: FeatureBatch) -> list[Tensor]:
    """The network's inputs in its own precision."""
    dense, *ids = tensors(schema, batch)
    return [dense.to(next(network.parameters()).dtype), *ids]


def _optimiser(network: RankingNetwork, options: FitOptions) -> torch.optim.Optimizer:
    matrices = [p for p in network.parameters() if p.ndim >= 2]
    biases = [p for p in network.parameters() if p.ndim < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": options.weight_decay},
            {"params": biases, "weight_decay": 0.0},
        ],
        lr=options.learning_rate,
    )


@contextmanager
def _deterministic(options: FitOptions) -> Iterator[None]:
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    strict = torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)  # sums are then always added up in the same order
    torch.use_deterministic_algorithms(True)
    torch.set_default_dtype(torch.float64 if options.double else torch.float32)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            yield
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)
        torch.use_deterministic_algorithms(strict)
