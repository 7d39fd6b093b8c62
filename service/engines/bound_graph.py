"""A session of ONNX Runtime whose inputs and scores stay in memory of the device that runs it.

Bound once for each bucket of rows: a batch is copied in, padded to the next
bucket, and only its own scores come out. No call allocates, and the runtime
sees the same few shapes again and again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from ranking_models.errors import first_line
from ranking_models.padding import fill_padded
from ranking_models.schema import FeatureBatch, Float32
from service.errors import EngineFailed

OUTPUT = "score"
_DTYPES = {"tensor(float)": np.float32, "tensor(int32)": np.int32}


class Place(Struct, frozen=True):
    """Where ONNX Runtime keeps what is bound, in its own words."""

    kind: str = "cuda"
    index: int = 0


class BoundGraph:
    """A session as a function of rows, with memory for each bucket. One thread calls it at a time.

    Args:
        session: Of ONNX Runtime, on any provider.
        place: Where its inputs and scores are to be.
        buckets: Batch sizes in rising order; the last is the most rows of one call.
    """

    def __init__(self, session: Any, place: Place, buckets: Sequence[int]) -> None:
        self._buckets = [_Bucket(session, place, rows) for rows in buckets]

    def __call__(self, batch: FeatureBatch) -> Float32:
        """The score of each row; the array is the caller's.

        Raises:
            EngineFailed: too many rows, an input is missing or of another shape or
                type, or the runtime failed.
        """
        for bucket in self._buckets:
            if batch.rows <= bucket.rows:
                return bucket.score(batch)
        raise EngineFailed(f"{batch.rows} rows are more than {self._buckets[-1].rows}")

    def warm_up(self) -> None:
        """Run every bucket twice: afterwards the runtime's arena has all that it will need."""
        for bucket in self._buckets:
            for _ in range(2):
                bucket.run()


class _Bucket:
    """One batch size: arrays of the host, their twins where the graph runs, and the binding."""

    def __init__(self, session: Any, place: Place, rows: int) -> None:
        from onnxruntime import OrtValue

        def allocated(shape: list[int], dtype: Any) -> Any:
            return OrtValue.ortvalue_from_shape_and_type(shape, dtype, place.kind, place.index)

        self.rows = rows
        self._session = session
        self._binding = session.io_binding()
        self._host: dict[str, Any] = {}
        self._device: dict[str, Any] = {}
        for node in session.get_inputs():
            shape, dtype = [rows, *node.shape[1:]], _DTYPES[node.type]
            self._host[node.name] = np.zeros(shape, dtype)
            self._device[node.name] = allocated(shape, dtype)
            self._binding.bind_ortvalue_input(node.name, self._device[node.name])
        self._scores = allocated([rows], np.float32)
        self._binding.bind_ortvalue_output(OUTPUT, self._scores)

    def score(self, batch: FeatureBatch) -> Float32:
        try:
            fill_padded(self._host, batch)
        except ValueError as misfit:
            raise EngineFailed(str(misfit)) from misfit
        scores: Float32 = self.run()[: batch.rows].copy()
        return scores

    def run(self) -> Float32:
        """What the host's arrays score; another call may write over it."""
        try:
            for name, host in self._host.items():
                self._device[name].update_inplace(host)
            self._session.run_with_iobinding(self._binding)
            scores: Float32 = self._scores.numpy()
        except Exception as error:  # the binding has a class of its own for every status code
            raise EngineFailed(first_line(error)) from error
        return scores
