"""The training loop: weights that explain the rows, without learning them by heart."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from msgspec.structs import replace
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ranking_models import metrics
from ranking_models.architectures import Architecture
from ranking_models.data import Dataset
from ranking_models.errors import InputError
from ranking_models.fit_options import FitOptions as FitOptions  # noqa: PLC0414 - and exported
from ranking_models.nn import RankingNetwork, build, inherit
from ranking_models.schema import ITEM_ID, UNKNOWN, USER_ID, FeatureBatch, FeatureSchema, Float32
from ranking_models.split import Rows

Weights = dict[str, npt.NDArray[Any]]

EVALUATED_ROWS = 8_192
"""Rows scored in one call; bounds memory."""

SMALLEST_GAIN = 1e-5
"""A validation log loss must fall by this much to count as better."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What the validation rows say: train for so many epochs."""

    epochs: int
    log_loss: float
    """On the validation rows after that epoch, the best one."""


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a round of training has come."""

    epoch: int
    """The one under way, from 1."""
    steps: int
    """Done of that epoch."""
    loss_sum: float
    """Over the rows of those steps."""
    rows_seen: int
    shuffled_with: str
    """State of the random numbers that drew this epoch's order."""
    random: str
    """Their state now."""
    best: Found | None = None
    """The best of the earlier epochs, in a search."""


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All that a round needs to go on as if it had never stopped."""

    place: Place
    arrays: Mapping[str, npt.NDArray[Any]]
    """Weights, the optimiser's moments and torch's random numbers."""


class Keeper(Protocol):
    """Keeps one round of training safe from a kill."""

    def start(self) -> Kept | None:
        """What an earlier process kept of this round."""

    def due(self) -> bool:
        """Whether the last keeping is long enough ago."""

    def keep(self, kept: Kept) -> None:
        """Put it where it survives."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Weights to train further; see `ranking_models.nn.inherit`."""

    schema: FeatureSchema
    weights: Weights


Objective = Callable[[Tensor, Tensor, Sequence[Tensor]], Tensor]
"""What training makes small: the network's logits ``[n]``, the labels ``[n]`` and the network's
inputs in, the mean loss of the rows out."""


def label_loss(logits: Tensor, label: Tensor, inputs: Sequence[Tensor]) -> Tensor:
    """Binary cross entropy with the labels."""
    return binary_cross_entropy_with_logits(logits, label)


class TrainingProgress(Protocol):
    """Hears how training goes, and may draw it."""

    def begin(self, phase: str, epochs: int, steps: int, done: int = 0) -> None:
        """A round begins, of at most so many epochs of so many steps; some may be done."""

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
    start: Start | None = None,
    keeper: Keeper | None = None,
    objective: Objective = label_loss,
) -> Found:
    """Train on some rows until others stop getting better, to learn when to stop.

    Raises:
        InputError: the loss is not finite any more.
    """
    label = data.label[validation]
    with deterministic(options):
        fitting = _Fitting(data, architecture, options, rows, progress, start, keeper, objective)
        progress.begin("best epoch", options.epochs, fitting.steps, fitting.done)
        for epoch in fitting.epochs(options.epochs):
            best = fitting.best
            found = scores(fitting.network, data, validation)
            loss = metrics.log_loss(found, label)
            progress.validated(epoch, loss, metrics.auc(found, label))
            if best is None or loss < best.log_loss - SMALLEST_GAIN:
                fitting.best = Found(epochs=epoch, log_loss=loss)
            elif epoch - best.epochs >= options.patience:
                break
    assert fitting.best is not None
    return fitting.best


def fit(
    data: Dataset,
    architecture: Architecture,
    options: FitOptions,
    progress: TrainingProgress,
    *,
    rows: Rows,
    epochs: int,
    phase: str,
    start: Start | None = None,
    keeper: Keeper | None = None,
    objective: Objective = label_loss,
) -> Weights:
    """Train a network on some rows for so many epochs; its weights by name.

    ``phase`` is what the progress calls this round; the network is fresh, or
    goes on from ``start``. What ``keeper`` kept of this round is not done again.

    Runs on one thread with deterministic kernels: the same input gives the
    same weights, bit for bit, on the same machine and versions. They are
    float32, also where they were trained in double precision.

    Raises:
        InputError: the loss is not finite any more.
    """
    with deterministic(options):
        fitting = _Fitting(data, architecture, options, rows, progress, start, keeper, objective)
        progress.begin(phase, epochs, fitting.steps, fitting.done)
        for _ in fitting.epochs(epochs):
            pass
        state = fitting.network.state_dict()
        return {name: value.float().numpy().copy() for name, value in state.items()}


class _Fitting:
    """One network being fitted to some rows."""

    def __init__(
        self,
        data: Dataset,
        architecture: Architecture,
        options: FitOptions,
        rows: Rows,
        progress: TrainingProgress,
        start: Start | None,
        keeper: Keeper | None,
        objective: Objective,
    ) -> None:
        self._objective = objective
        self._data, self._options, self._rows, self._progress = data, options, rows, progress
        self._rng = np.random.default_rng(options.seed)
        with _enough_memory():
            self.network = build(architecture, data.schema)
            if start is not None:
                inherit(self.network, architecture, start.schema, start.weights)
            self._optimiser = _optimiser(self.network, options)
        self.steps = -(-len(rows) // options.batch_size)
        """Per epoch."""
        self.best: Found | None = None
        """Of a search, which sets it after an epoch."""
        self._keeper = keeper
        self._resumed = self._resume()

    @property
    def done(self) -> int:
        """Steps that an earlier process did."""
        place = self._resumed
        return (place.epoch - 1) * self.steps + place.steps if place else 0

    def epochs(self, most: int) -> Iterator[int]:
        """Train epoch by epoch, from the one that was under way; yields each when it is done."""
        first = self._resumed.epoch if self._resumed else 1
        for epoch in range(first, most + 1):
            self._train_epoch(epoch)
            yield epoch

    def _train_epoch(self, epoch: int) -> None:
        """See every row once, in random order."""
        self.network.train()
        place, self._resumed = self._resumed or self._beginning(epoch), None
        order = _generator(place.shuffled_with).permutation(self._rows)
        self._rng = _generator(place.random)
        for chosen in np.array_split(order, self.steps)[place.steps :]:
            loss = self._step(chosen)
            place = replace(
                place,
                steps=place.steps + 1,
                loss_sum=place.loss_sum + loss * len(chosen),
                rows_seen=place.rows_seen + len(chosen),
            )
            self._progress.step(epoch, place.loss_sum / place.rows_seen)
            self._keep(place)
        if not np.isfinite(place.loss_sum):
            raise InputError(
                f"training diverged: the loss is not finite in epoch {epoch}; "
                "use a smaller --learning-rate"
            )

    def _beginning(self, epoch: int) -> Place:
        before = _state(self._rng)
        self._rng.permutation(self._rows)  # the order, drawn again by whoever begins here
        return Place(
            epoch=epoch,
            steps=0,
            loss_sum=0.0,
            rows_seen=0,
            shuffled_with=before,
            random=_state(self._rng),
        )

    def _keep(self, place: Place) -> None:
        if self._keeper is None or not self._keeper.due() or not np.isfinite(place.loss_sum):
            return
        arrays = {f"weights/{name}": w.numpy() for name, w in self.network.state_dict().items()}
        for index, moments in self._optimiser.state_dict()["state"].items():
            arrays |= {f"optimiser/{index}/{name}": m.numpy() for name, m in moments.items()}
        arrays["torch"] = torch.random.get_rng_state().numpy()
        place = replace(place, random=_state(self._rng), best=self.best)
        self._keeper.keep(Kept(place=place, arrays=arrays))

    def _resume(self) -> Place | None:
        kept = self._keeper.start() if self._keeper else None
        if kept is None:
            return None
        weights: dict[str, Tensor] = {}
        moments: dict[int, dict[str, Tensor]] = {}
        for name, array in kept.arrays.items():
            kind, _, rest = name.partition("/")
            if kind == "weights":
                weights[rest] = torch.from_numpy(array)
            elif kind == "optimiser":
                index, _, moment = rest.partition("/")
                moments.setdefault(int(index), {})[moment] = torch.from_numpy(array)
        self.network.load_state_dict(weights)
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})
        torch.random.set_rng_state(torch.from_numpy(kept.arrays["torch"]))
        self.best = kept.place.best
        return kept.place

    def _step(self, rows: Rows) -> float:
        batch = _some_unknown(self._data, rows, self._options.hidden_share, self._rng)
        label = torch.from_numpy(self._data.label[rows])
        inputs = _inputs(self.network, self._data.schema, batch)
        logits = self.network.logits(*inputs)
        loss = self._objective(logits, label.to(logits.dtype), inputs)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return loss.item()


def _state(rng: np.random.Generator) -> str:
    return json.dumps(rng.bit_generator.state)  # msgspec has no integers of 128 bits


def _generator(state: str) -> np.random.Generator:
    rng = np.random.default_rng(0)
    rng.bit_generator.state = json.loads(state)
    return rng


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
def _enough_memory() -> Iterator[None]:
    """Turn torch's complaint about memory, which has no class of its own, into a sentence."""
    try:
        yield
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise InputError(
            "there is not enough memory for a network of these sizes; use smaller --hidden, "
            "--embedding-dim, or vocabularies (min_count, hash_buckets)"
        ) from None


@contextmanager
def deterministic(options: FitOptions) -> Iterator[None]:
    """One thread, deterministic kernels, random numbers by the seed; the process as it was after.

    With ``options.double`` new tensors are in double precision meanwhile.
    """
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
