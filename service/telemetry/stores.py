"""Calls to a Redis server: a CLIENT span for each, and how long they take.

As the conventions for Redis have it: a lookup of many keys is one ``MGET``;
commands that go out together are one call, such as ``PIPELINE SET``, with
their number; an error reply is told by its first word, and never by the rest,
which may name keys.
"""

import re
from types import TracebackType
from typing import Self

from opentelemetry.trace import SpanKind
from redis.exceptions import ResponseError

from service.clock import Clock
from service.telemetry import names
from service.telemetry.finished import Attributes
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import NoStep, Step, Tracing

_ERROR_CODE = re.compile(r"[A-Z][A-Z0-9]{1,31}(?= |$)")


class StoreCalls:
    """Watches the calls to one Redis server."""

    def __init__(
        self,
        tracing: Tracing,
        metrics: Metrics,
        clock: Clock,
        *,
        store: str,
        address: str,
        port: int | None,
        database: int,
    ) -> None:
        """Name the server.

        Args:
            store: What it is to us, such as ``cache`` or ``events``; a metric label.
            address: Host name, or the path of a unix socket.
            port: None for a unix socket.
            database: The number of the logical database.
        """
        self._tracing = tracing
        self._metrics = metrics
        self._clock = clock
        self._store = store
        self._attributes: Attributes = {
            names.DB_SYSTEM: "redis",
            names.DB_NAMESPACE: str(database),
            names.SERVER_ADDRESS: address,
        }
        if port is not None:
            self._attributes[names.SERVER_PORT] = port

    def call(self, operation: str, commands: int = 1) -> "StoreCall":
        """A context around one call.

        Args:
            operation: The command, such as ``MGET``, or ``PIPELINE`` and ``MULTI`` in front of it.
            commands: How many go out together.
        """
        attributes = {**self._attributes, names.DB_OPERATION: operation}
        if commands > 1:
            attributes[names.DB_BATCH_SIZE] = commands
        step = self._tracing.step(operation, SpanKind.CLIENT, attributes)
        return StoreCall(self._metrics, self._clock, self._store, operation, step)


class StoreCall:
    """One call on its way.

    A call that fails is measured under the server's word for it, or the class of the error.
    """

    __slots__ = (
        "_clock",
        "_failure",
        "_metrics",
        "_operation",
        "_started_at",
        "_step",
        "_store",
    )

    def __init__(
        self,
        metrics: Metrics,
        clock: Clock,
        store: str,
        operation: str,
        step: Step | NoStep,
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._store = store
        self._operation = operation
        self._step = step
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._step.__enter__()
        self._started_at = self._clock.now()
        return self

    def failed(self, error: Exception) -> None:
        """It came back, with this instead of a reply or among the replies."""
        self._failure = error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        seconds = self._clock.now() - self._started_at
        failure, error_type = error or self._failure, ""
        if failure is not None:
            code = error_code(failure)
            error_type = code or type(failure).__name__
            self._step.fail(error_type)
            if code is not None:
                self._step.tell(names.DB_STATUS, code)
        self._metrics.store_called(self._store, self._operation, error_type, seconds)
        self._step.__exit__(None, None, None)


def error_code(failure: BaseException) -> str | None:
    """The first word of an error reply, such as ``WRONGTYPE``; None if it is none."""
    if not isinstance(failure, ResponseError):
        return None
    # redis-py knows some by class, and cuts the word off.
    given = getattr(failure, "status_code", None) or str(failure)
    found = _ERROR_CODE.match(given)
    return found[0] if found else None
