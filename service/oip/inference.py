"""One inference request from bytes to bytes: read, scored in company, answered."""

from typing import Final

from msgspec import Struct

from ranking_models.schema import FeatureBatch
from service.batching.records import ScoredRows
from service.clock import Clock
from service.errors import (
    BodyTooLarge,
    DeadlineExpired,
    DeadlinePassed,
    DeadlineUnreachable,
    EngineFailed,
    EnginesFailed,
    QueueFull,
)
from service.messages import Priority
from service.oip.codec import InferReply, InferRequest, decode_request, encode_reply, json_length
from service.oip.models import Served
from service.oip.rows import rows_of
from service.oip.statistics import InferenceStats, Statistics
from service.telemetry import Telemetry, names

LONGEST_S: Final = 10.0
"""What a request may take that says nothing, and the most that one can ask for."""
_PRIORITIES: Final[dict[int, Priority]] = {1: "high", 2: "normal", 3: "low"}
"""As the models' configuration says; Triton takes any other number for the default."""


class Answer(Struct, frozen=True):
    """The body of a reply."""

    body: bytes
    json_bytes: int | None
    """How much of it is JSON; None: all of it."""


class Inference:
    """Has requests scored. For one event loop.

    Args:
        statistics: Counts them.
        telemetry: Told of them.
        clock: The batchers'.
        most_rows: Of one request.
        most_json_bytes: Of one request.
    """

    def __init__(
        self,
        statistics: Statistics,
        telemetry: Telemetry,
        clock: Clock,
        *,
        most_rows: int,
        most_json_bytes: int,
    ) -> None:
        self._statistics, self._telemetry, self._clock = statistics, telemetry, clock
        self._most_rows, self._most_json_bytes = most_rows, most_json_bytes

    async def infer(
        self, served: Served, body: bytes, header: str | None, *, arrived: float
    ) -> Answer:
        """Score the rows of a request.

        Args:
            served: The model.
            body: JSON, and maybe tensors after it.
            header: ``Inference-Header-Content-Length``.
            arrived: When the request came, on our clock; its time counts from there.

        Raises:
            InvalidInference: it is no request for this model.
            BodyTooLarge: too much of it is JSON.
            QueueFull, DeadlineUnreachable, NotReady: refused at the door.
            DeadlinePassed, EnginesFailed: admitted, and not scored.
        """
        counted, now = self._statistics.of(served), self._clock.now
        try:
            answer = await self._answer(served, body, header, arrived, counted)
        except BaseException:
            counted.fail.add(now() - arrived)
            raise
        counted.success.add(now() - arrived)
        self._statistics.scored(served, self._clock.wall())
        return answer

    async def _answer(
        self,
        served: Served,
        body: bytes,
        header: str | None,
        arrived: float,
        counted: InferenceStats,
    ) -> Answer:
        now, began = self._clock.now, self._clock.now()
        with self._telemetry.step(names.SPAN_DECODE):
            request = self._read(body, header)
            rows = rows_of(request.inputs, served.deployment.bundle.schema, self._most_rows)
        counted.compute_input.add(now() - began)
        scored = await self._scored(served, request, rows, arrived)
        counted.queue.add(scored.queue_s)
        counted.compute_infer.add(scored.engine_s)
        began = now()
        encoded = encode_reply(_reply(served, request, scored), binary=request.binary)
        counted.compute_output.add(now() - began)
        return Answer(*encoded)

    def _read(self, body: bytes, header: str | None) -> InferRequest:
        json_bytes = json_length(header, body)
        if json_bytes > self._most_json_bytes:
            # Long lists of JSON numbers would keep everybody waiting who shares the event loop.
            what = "the JSON of the request (tensors can be sent as bytes)"
            raise BodyTooLarge(self._most_json_bytes, what)
        return decode_request(body, json_bytes)

    async def _scored(
        self, served: Served, request: InferRequest, rows: FeatureBatch, arrived: float
    ) -> ScoredRows:
        deployment, batcher = served.deployment, served.deployment.batcher
        assert batcher is not None, "only deployments with engines are models"
        allowed_s = min(request.timeout_us / 1e6 or LONGEST_S, LONGEST_S)
        trace = self._telemetry.sampled_request()
        # These rows share the engines with the deployment's rankings as another deployment's do,
        # or a request with very many would stand in front of them.
        try:
            scored = await batcher.score(
                rows,
                deadline=arrived + allowed_s,
                priority=_PRIORITIES.get(request.priority, "normal"),
                deployment=f"{deployment.name} by /v2",
                context=trace,
            )
        except (QueueFull, DeadlineUnreachable) as refused:
            self._telemetry.metrics.shed(refused.code)
            raise
        except DeadlineExpired:
            self._telemetry.metrics.deadline_exceeded()
            raise DeadlinePassed(allowed_s * 1000, "score") from None
        except EngineFailed as error:
            raise EnginesFailed(deployment.name) from error
        if trace is not None and (span := trace.recorded) is not None:
            span.tell(_attributes(scored))
        return scored


def _reply(served: Served, request: InferRequest, scored: ScoredRows) -> InferReply:
    engine = scored.engine
    return InferReply(
        model_name=served.name,
        model_version=served.version,
        id=request.id,
        scores=scored.scores,
        parameters={
            "engine": engine.name,
            "precision": engine.precision,
            "fallback": scored.fallback,
        },
    )


def _attributes(scored: ScoredRows) -> dict[str, str | int | float | bool]:
    engine = scored.engine
    return {
        names.MODEL: f"{engine.model}@{engine.version}",
        names.ENGINE: engine.name,
        names.PRECISION: engine.precision,
        names.ROWS: len(scored.scores),
    }
