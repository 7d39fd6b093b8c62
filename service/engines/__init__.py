"""What an engine is: the contract that every implementation keeps, and its fake too."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.schema import FeatureBatch, Float32


class EngineInfo(Struct, frozen=True, kw_only=True):
    """Which engine this is, and which graph of which model it runs."""

    name: str
    """As deployments name it, such as ``onnxruntime-cpu``."""
    precision: str
    """Of the graph that really runs; a fallback may differ from what was asked for."""
    model: str
    version: str
    max_batch_rows: int
    """Most rows that one call takes."""
    best_batch_rows: int | None = None
    """Rows per call at which it scores most rows a second; None: ``max_batch_rows``."""
    split: bool = False
    """Whether it runs as the exact split; the scores are the same but for rounding."""
    shared: bool = False
    """Whether the engine process runs it, for all workers."""


class Engine(Protocol):
    """A loaded, warmed-up model.

    One thread calls an engine at a time; it owns its device buffers and stream.
    Row ``i`` of the result depends on row ``i`` of the input alone: batching
    must never change a score beyond the rounding stated in the manifest.
    """

    @property
    def info(self) -> EngineInfo: ...

    def score(self, batch: FeatureBatch) -> Float32:
        """Score a batch.

        Args:
            batch: 1 to ``info.max_batch_rows`` rows; never written to.

        Returns:
            Click probabilities, float32, shape ``[rows]``, each in ``[0, 1]``.
            The array is the caller's: no later call writes to it.

        Raises:
            EngineFailed: the device or runtime failed. The engine stays usable
                or raises this on every later call; it is never half-broken.
        """
        ...

    def close(self) -> None:
        """Free the device, its memory and its threads. No call may be under way or follow."""
        ...


_FLOAT32 = np.dtype(np.float32)
_BITS_OF_ONE = np.float32(1).view(np.uint32)


def are_valid(scores: Float32) -> bool:
    """Whether `valid_scores` are all, for one score or more; False if it takes those to tell.

    In one pass: the bits of floats from 0 to 1 are whole numbers in the same
    order, and those of everything that is larger, negative or NaN are larger;
    those of -0.0 too.
    """
    if scores.dtype is not _FLOAT32:
        return False
    return bool(np.maximum.reduce(scores.view(np.uint32)) <= _BITS_OF_ONE)


def valid_scores(scores: Float32) -> npt.NDArray[np.bool_]:
    """Which of the scores are probabilities: not NaN, not infinite, in [0, 1]."""
    return (scores >= 0) & (scores <= 1)  # NaN compares false with everything
