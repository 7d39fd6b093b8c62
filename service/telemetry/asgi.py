"""The outermost layer of the HTTP application: a server span and a duration per request."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.clock import Clock
from service.telemetry import names
from service.telemetry.context import RequestTrace, current_request
from service.telemetry.finished import Attributes
from service.telemetry.metrics import Metrics
from service.telemetry.server_span import ServerSpan
from service.telemetry.tracing import Tracing, note_failure

_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
)
_OTHER_METHOD: Final = "_OTHER"
_MAX_TEXT: Final = 256
"""Most characters of what a caller writes freely."""
_FORCE: Final = (b"x-podium-trace", b"force")
"""The header that asks for a request to be recorded, whatever the sampling ratio."""
_HEALTH, _METRICS, _PAGE = "/health/", "/metrics", "/dashboard/events"
"""Asked every few seconds by machines, or answered for as long as a page is open: their traces
would drown the others."""
_SERVER_ERRORS = 500

MayForce = Callable[[Scope], bool]
"""Whether the caller of a request may have it recorded."""


def nobody_may(scope: Scope) -> bool:
    return False


class TelemetryMiddleware:
    """Wraps a whole ASGI application; everything but HTTP passes through untouched.

    The route is Litestar's ``path_template``: a path that no handler serves
    has none, so the number of series and span names does not grow with what
    strangers type.
    """

    def __init__(
        self,
        app: ASGIApp,
        tracing: Tracing,
        metrics: Metrics,
        clock: Clock,
        may_force: MayForce = nobody_may,
    ) -> None:
        self._app = app
        self._may_force = may_force
        self._tracing = tracing
        self._metrics = metrics
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        forced = _FORCE in scope["headers"] and self._may_force(scope)
        exchange = Exchange(scope, self._tracing, self._metrics, self._clock, forced=forced)

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                await send(message)
                return
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                # Background work that the framework runs after the reply is
                # no part of what the caller waited for.
                exchange.end()

        with exchange:
            await self._app(scope, receive, watched_send)


class Exchange:
    """One HTTP request and its reply, from the moment it is made until `end`.

    A context around the work that answers it; work that is done in pieces is
    put between `resume` and `pause`.

    Args:
        scope: What ASGI calls a scope; the route is read from it at the end.
        tracing: Begins the server span.
        metrics: Counts it.
        clock: Measures it.
        traced: Whether the headers may tell of a trace that it belongs to.
        left_out: Whether it was decided already that it is not recorded.
        forced: Whether it is recorded whatever the sampler says.
    """

    def __init__(
        self,
        scope: Mapping[str, Any],
        tracing: Tracing,
        metrics: Metrics,
        clock: Clock,
        *,
        traced: bool = True,
        left_out: bool = False,
        forced: bool = False,
    ) -> None:
        self.status: int | None = None
        self._scope = scope
        self._path = scope["path"]  # the framework rewrites it
        self._method = scope["method"] if scope["method"] in _METHODS else _OTHER_METHOD
        self._metrics = metrics
        self._clock = clock
        self.started_at = clock.now()
        self._ended = False
        self._trace: RequestTrace | None = None
        if left_out:
            self._trace = tracing.left_out()
        elif self._path not in (_METRICS, _PAGE) and not self._path.startswith(_HEALTH):
            headers = scope["headers"] if traced else ()
            self._trace = tracing.request(self._span_method, headers, forced=forced)
        metrics.http_started(self._method, scope["scheme"])

    @property
    def _span_method(self) -> str:
        return "HTTP" if self._method == _OTHER_METHOD else self._method

    def __enter__(self) -> Self:
        self.resume()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        stack: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and self.status is None:
            # The server answers for the application that did not.
            self.status = _SERVER_ERRORS
            note_failure(error)
        self.end()
        self.pause()

    def began(self, at: float) -> None:
        """It did before this was made: at that time of the clock."""
        self.started_at = at
        if self._trace is not None and (span := self._trace.recorded) is not None:
            span.began(self._clock.now() - at)

    def stepped(self, name: str, began_at: float, ended_at: float) -> None:
        """A step of it, one of the SPAN_ names, was made between these times of the clock."""
        if self._trace is not None and (span := self._trace.recorded) is not None:
            span.step(name, began_at - self.started_at, ended_at - self.started_at)

    def resume(self) -> None:
        """What runs from here on runs on behalf of this request."""
        self._token = current_request.set(self._trace)

    def pause(self) -> None:
        """What runs from here on does not."""
        current_request.reset(self._token)

    def end(self) -> None:
        """The reply has left, or never will: measure it and close the span; once."""
        if self._ended:
            return
        self._ended = True
        route = self._scope.get("path_template")
        self._metrics.http_ended(
            method=self._method,
            scheme=self._scope["scheme"],
            route=route or names.UNMATCHED,
            status=names.NONE if self.status is None else str(self.status),
            seconds=self._clock.now() - self.started_at,
            exemplar=None if self._trace is None else self._trace.exemplar(),
        )
        trace = self._trace
        span = None if trace is None else trace.recorded
        if trace is not None and span is not None:
            self._describe(span, route)
            if self.status is None or self.status >= _SERVER_ERRORS:
                span.fail(trace.error_type or str(self.status or "disconnected"))
            span.end()

    def _describe(self, span: ServerSpan, route: str | None) -> None:
        scope = self._scope
        fields = {name: value.decode("latin-1") for name, value in scope["headers"]}
        address, port = _server(scope, fields.get(b"host", ""))
        attributes: Attributes = {
            names.HTTP_METHOD: self._method,
            names.URL_SCHEME: scope["scheme"],
            # A path with parameters names an item; the span gets its template.
            names.URL_PATH: route if route is not None and "{" in route else self._path,
            names.PROTOCOL_VERSION: scope["http_version"],
            names.SERVER_ADDRESS: address,
        }
        if port is not None:
            attributes[names.SERVER_PORT] = port
        if self._method == _OTHER_METHOD:
            attributes[names.HTTP_METHOD_ORIGINAL] = scope["method"][:_MAX_TEXT]
        if agent := fields.get(b"user-agent"):
            attributes[names.USER_AGENT] = agent[:_MAX_TEXT]
        if query := _redacted(scope.get("query_string", b"")):
            attributes[names.URL_QUERY] = query
        if route is not None:
            attributes[names.HTTP_ROUTE] = route
            span.name = f"{self._span_method} {route}"
        if self.status is not None:
            attributes[names.HTTP_STATUS] = self.status
        span.tell(attributes)


def _server(scope: Mapping[str, Any], host: str) -> tuple[str, int | None]:
    """Host and port as the caller named them, else those that we listen on."""
    try:
        named = urlsplit("//" + host)
        if named.hostname:
            return named.hostname, named.port
    except ValueError:
        pass  # a port that is no port
    return scope["server"] or (names.NONE, None)


def _redacted(query: bytes) -> str:
    """The names in a query string; what they are set to may name users and items."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return "&".join(f"{name}=REDACTED" for name, _ in pairs)[:_MAX_TEXT]
