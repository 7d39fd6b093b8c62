"""One batch on its way through an instance: what goes in, and who gets what of what comes out."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import Context

from msgspec import Struct

from service.batching.batch import Batch
from service.batching.duplicates import Index, shared_rows
from service.batching.instance import Instance, Outcome
from service.batching.jobs import Part, ScoreJob
from service.batching.pending import Executed, Pending
from service.engines.rows import JobRows
from service.engines.scored import ScoredBatch
from service.errors import DeadlineExpired, EngineFailed
from service.telemetry import BatchTrace, EngineCall, FallbackReason


class Run(Struct, kw_only=True, eq=False):
    """A batch that is being scored."""

    batch: Batch
    instance: Instance
    callers: Sequence[Pending]
    """Of all parts of the batch, in order."""
    parts: Sequence[Part]
    """Those that are being scored: all of the batch, unless some have to be scored again."""
    places: list[slice | Index] | None = None
    """Where the rows of each part stand among those that the instance was given; None: one part
    after the other."""
    borrowed: dict[ScoreJob, int] = {}
    """Rows of a job that are scored as another's, whose fate it shares."""
    trace: BatchTrace | None = None
    """None: nobody is told of it."""
    calls: tuple[EngineCall, ...] = ()
    fallback: FallbackReason | None = None
    scored: bool = False
    """Whether an engine gave scores, for whomever."""
    failures: list[tuple[ScoreJob, Exception]] = []
    """Who has to be told that the rows could not be scored."""

    @property
    def duplicate_rows(self) -> int:
        """Rows that needed no scoring."""
        return sum(self.borrowed.values()) if self.borrowed else 0

    def share(self) -> list[JobRows]:
        """What to score for the callers of all parts: every row, equal ones once."""
        rows = [
            caller.rows if part.stop - part.start == part.job.rows else caller.rows_of(part)
            for caller, part in zip(self.callers, self.parts, strict=True)
        ]
        shared = shared_rows(rows)
        if shared is None:
            return rows
        self.places = shared.places
        for part, count in zip(self.parts, shared.borrowed, strict=True):
            if count:
                self.borrowed[part.job] = count
        return shared.rows

    def score(
        self, rows: Sequence[JobRows], then: Callable[[Outcome], None], context: Context
    ) -> None:
        """Let the instance score them, and go on in the given context."""
        deadlines = [part.job.deadline for part in self.parts]
        if len(rows) < len(deadlines):  # some have no rows of their own
            deadlines = [max(deadlines)] * len(rows)
        self.instance.score(rows, then, context, deadlines=deadlines, trace=self.trace)

    def hand_out(self, pending: Mapping[ScoreJob, Pending], outcome: Outcome) -> list[Part]:
        """Give every job its scores, and note who has none.

        Returns:
            The parts that may have failed for another's sake.
        """
        self.calls += outcome.calls
        self.fallback = self.fallback or outcome.fallback
        executed = Executed(self.batch, outcome.started_at, outcome.ended_at, self.duplicate_rows)
        scored = outcome.scored
        self.scored = self.scored or isinstance(scored, ScoredBatch)
        plain = self.places is None and self.parts is self.batch.parts
        if plain and isinstance(scored, ScoredBatch) and scored.places is None:
            self._hand_out_all(scored, executed)
            return []
        again = []
        places = self.places or _one_after_the_other(self.parts)
        for part, place in zip(self.parts, places, strict=True):
            caller = pending.get(part.job)
            if caller is None:
                continue  # withdrawn or expired meanwhile
            try:
                if isinstance(scored, EngineFailed):
                    raise EngineFailed(str(scored)) from scored
                caller.add(part, scored.part(place), executed)
            except (EngineFailed, DeadlineExpired) as failure:
                if part.job in self.borrowed:
                    again.append(part)
                else:
                    self.failures.append((part.job, failure))
        return again

    def _hand_out_all(self, scored: ScoredBatch, executed: Executed) -> None:
        """One engine scored every row, and each part has its own: nearly every batch.

        Whoever was withdrawn or has expired meanwhile gets them too, and nobody asks for them.
        """
        scores, engine, fallback = scored.scores, scored.engines[scored.place], scored.place > 0
        started_at, start = executed.started_at, 0
        for part, caller in zip(self.parts, self.callers, strict=True):
            stop = start + part.stop - part.start
            if stop - start == part.job.rows:
                caller.complete(
                    scores[start:stop],
                    engine,
                    fallback,
                    executed,
                    started_at,
                    of_batch=scores,
                    first_row=start,
                )
            else:
                caller.add(part, scored.part(slice(start, stop)), executed)
            start = stop

    def repeat(self, again: Sequence[Part], pending: Mapping[ScoreJob, Pending]) -> list[JobRows]:
        """What to score for parts that failed together with rows of another job.

        That job may have failed for reasons of its own. Now each has all its rows
        scored for itself, in the same instance and before any other batch.
        """
        self.parts, self.places = again, None
        for part in again:
            del self.borrowed[part.job]
        return [pending[part.job].rows_of(part) for part in again]


def _one_after_the_other(parts: Sequence[Part]) -> list[slice | Index]:
    places, start = list[slice | Index](), 0
    for part in parts:
        places.append(slice(start, start + part.rows))
        start += part.rows
    return places
