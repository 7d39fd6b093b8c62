"""Scores, and which engine of a chain each of them came from."""

from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from ranking_models.schema import Float32
from service.engines import EngineInfo
from service.errors import DeadlineExpired, EngineFailed
from service.telemetry import EngineCall, FallbackReason

Places = npt.NDArray[np.int16]
NOBODY = -1
"""The place of a row that no engine could score."""
TOO_LATE = -2
"""The place of a row that was not asked for again: its deadline had passed."""


class Scored(Struct, frozen=True, kw_only=True):
    """Scores of some rows, and where in the chain they came from."""

    scores: Float32
    engine: EngineInfo
    """The engine furthest down the chain that any of the rows needed."""
    place: int
    """Its place in the chain, from 0."""

    @property
    def fallback(self) -> bool:
        return self.place > 0

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """The parts of one job, scored in several calls, one after the other."""
        if len(parts) == 1:
            return parts[0]
        furthest = max(parts, key=lambda part: part.place)
        return cls(
            scores=np.concatenate([part.scores for part in parts]),
            engine=furthest.engine,
            place=furthest.place,
        )


class ScoredBatch(Struct, frozen=True, kw_only=True):
    """A batch as the chain scored it; each job takes its own rows out."""

    scores: Float32
    """NaN where no engine could score."""
    engines: tuple[EngineInfo, ...]
    place: int
    """The place of the engine that scored them all; see ``places`` if that is none."""
    places: Places | None = None
    """Per row; None when one engine scored them all."""
    failures: tuple[str, ...] = ()
    """What went wrong on the way, one sentence per call."""
    calls: tuple[EngineCall, ...] = ()
    fallback: FallbackReason | None = None
    """Why the first engine did not score everything; None if it did."""

    def part(self, rows: slice | npt.NDArray[np.intp]) -> Scored:
        """The share of one job, told only of the engines that its own rows needed.

        Raises:
            DeadlineExpired: an engine failed, and the deadline passed before another could score.
            EngineFailed: no engine could score one of the rows.
        """
        place = self.place
        if self.places is not None:
            places = self.places[rows]
            if (places == TOO_LATE).any():
                raise DeadlineExpired("an engine failed and no time was left to ask another")
            if (places == NOBODY).any():
                raise EngineFailed("; ".join(self.failures))
            place = int(places.max())
        return Scored(scores=self.scores[rows], engine=self.engines[place], place=place)


class EveryEngineFailed(EngineFailed):
    """No engine of the chain scored any row of a batch."""

    def __init__(
        self,
        failures: Sequence[str],
        calls: Sequence[EngineCall],
        fallback: FallbackReason | None,
    ) -> None:
        self.calls = tuple(calls)
        self.fallback = fallback
        super().__init__("; ".join(failures))
