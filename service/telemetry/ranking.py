"""One ranking request from arrival to slate, for metrics, span and log lines alike."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from experiments.events import unit_digest
from service.clock import Clock
from service.errors import DeadlinePassed, DeadlineUnreachable, QueueFull, RankingError
from service.messages import ExperimentRef, RankReply
from service.telemetry import names
from service.telemetry.context import RequestTrace, current_request
from service.telemetry.finished import Attributes
from service.telemetry.metrics import Metrics, variant_label

_OUTCOMES: dict[int, names.Outcome] = {429: "refused", 503: "unavailable", 504: "expired"}
_CLIENT_ERRORS = range(400, 500)


class Ranking:
    """The ranking of one request, from the moment this is made until `end`.

    A context around the work; whatever way that ends, it is counted once.
    """

    __slots__ = (
        "_arrived_at",
        "_clock",
        "_context_ids",
        "_metrics",
        "_reply",
        "_surface",
        "_trace",
        "_variant",
    )

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        arrived_at: float,
        request_id: str | None,
        context_ids: bool = False,
    ) -> None:
        self._metrics = metrics
        self._context_ids = context_ids
        self._clock = clock
        self._arrived_at = arrived_at
        self._surface = names.NONE
        self._variant = names.NONE
        self._reply: RankReply | None = None
        self._trace: RequestTrace | None = current_request.get()
        if self._trace is not None:
            self._trace.request_id = request_id
        metrics.ranking_started()

    def __enter__(self) -> Self:
        return self

    def routed(
        self,
        surface: str | None,
        experiments: Sequence[ExperimentRef],
        serving: Sequence[ExperimentRef],
        *,
        config_digest: str = "",
        unit: str | None = None,
    ) -> None:
        """Who decides about this request is known.

        Args:
            surface: As the caller named it; None if it did not.
            experiments: Every decision, also those that keep the request out.
            serving: Those that picked a variant, the one that decides the
                deployment first. Without one the request is nobody's: to count
                what is kept out in the control would blur the comparison.
            config_digest: Of the definitions that decided.
            unit: Whom the request is for; told as a digest, if at all.
        """
        self._surface = self._metrics.surface(surface)
        if serving:
            self._variant = variant_label(serving[0])
        if experiments:
            self._metrics.assigned(experiments)
        if self._trace is None:
            return
        if serving:
            self._trace.variant = self._variant
        if (span := self._trace.recorded) is not None:
            span.tell({names.SURFACE: self._surface})
            common = self._flag_set(config_digest, unit)
            if serving:
                span.tell(_flag(serving[0]) | common)
            for experiment in experiments:
                span.event(names.EVENT_FLAG, _flag(experiment) | common)

    def _flag_set(self, config_digest: str, unit: str | None) -> Attributes:
        """What all decisions of the request have in common."""
        common: Attributes = {names.FLAG_SET: config_digest} if config_digest else {}
        if self._context_ids and unit is not None:
            common[names.FLAG_CONTEXT] = unit_digest(unit)
        return common

    def fell_back(self, error: Exception) -> None:
        """Scoring failed, and the request is answered with a degraded slate instead."""
        self._count(error)

    def answered(self, reply: RankReply, candidates: int) -> None:
        """The slate is ready.

        Args:
            reply: What the caller gets.
            candidates: How many the caller asked about.
        """
        self._reply = reply
        span = None if self._trace is None else self._trace.recorded
        if span is None:
            return
        span.tell(
            {
                names.CANDIDATES: candidates,
                names.CACHE_RESULT: reply.cache.result,
                names.MODEL: f"{reply.model.name}@{reply.model.version}",
                names.ENGINE: reply.model.engine,
                names.PRECISION: reply.model.precision,
                names.DEGRADED: reply.degraded or names.NONE,
            }
        )
        if reply.cache.level is not None:
            age_ms = reply.cache.age_ms or 0
            span.tell({names.CACHE_LEVEL: reply.cache.level, names.CACHE_AGE_MS: age_ms})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """It was answered, or failed with an error; once."""
        if error is not None:
            self._count(error)
        self._metrics.ranking_ended(
            surface=self._surface,
            variant=self._variant,
            reply=self._reply if error is None else None,
            outcome=self._outcome(error),
            seconds=self._clock.now() - self._arrived_at,
            exemplar=self._trace.exemplar() if self._trace is not None else None,
        )

    def _count(self, error: BaseException) -> None:
        if isinstance(error, QueueFull | DeadlineUnreachable):
            self._metrics.shed(error.code)
        elif isinstance(error, DeadlinePassed):
            self._metrics.deadline_exceeded()

    def _outcome(self, error: BaseException | None) -> names.Outcome:
        if error is None and self._reply is not None:
            return "ok" if self._reply.degraded is None else "degraded"
        if isinstance(error, asyncio.CancelledError):
            return "cancelled"
        if isinstance(error, RankingError):
            if error.status in _OUTCOMES:
                return _OUTCOMES[error.status]
            if error.status in _CLIENT_ERRORS:
                return "invalid"
        return "error"


def _flag(experiment: ExperimentRef) -> Attributes:
    """The convention's attributes of a decision.

    Each is an event; the one that serves is on the span as well, because few
    tracing tools can split latency by what is in an event.
    """
    return {
        names.FLAG_KEY: experiment.key,
        names.FLAG_VARIANT: experiment.variant,
        names.FLAG_REASON: experiment.reason.lower(),
        names.FLAG_VERSION: str(experiment.phase),
        names.FLAG_PROVIDER: names.SERVICE,
    }
