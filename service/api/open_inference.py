"""``/v2``: the Open Inference Protocol, for callers of Triton and KServe; see `service.oip`.

Errors are the protocol's, ``{"error": "..."}``, with the status codes of every
other route of ours. What Triton does besides and we do not (loading models,
shared memory, tracing and logging settings) is answered with 404.

The protocol has its own document (kserve/open-inference-protocol,
``specification/protocol/open_inference_rest.yaml``), from which its clients are
made, so these routes are not in ours.
"""

import asyncio
from collections.abc import Iterator
from http import HTTPStatus
from importlib.metadata import version as version_of
from typing import Any

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from msgspec import Struct

from service.api.access import Access
from service.api.bodies import decode, whole_body
from service.api.departure import unless_hung_up
from service.api.given import Given
from service.api.problems import problem_of, retry_after, told_of_defect
from service.clock import Clock
from service.errors import Forbidden, RankingError
from service.health import Health
from service.oip.codec import HEADER_LENGTH
from service.oip.compression import uncompressed
from service.oip.inference import Inference
from service.oip.models import Served, ServedModels
from service.oip.statistics import Statistics, as_reply
from service.settings import ServerSettings
from service.telemetry import note_failure

ROOT = "/v2"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "schedule_policy", "statistics")


class OpenInference(Struct, frozen=True, kw_only=True):
    """What these routes need, handed in as one."""

    models: ServedModels
    inference: Inference
    statistics: Statistics
    access: Access
    health: Health
    clock: Clock


class ServerMetadata(Struct, frozen=True):
    """The answer to ``GET /v2``."""

    name: str
    version: str
    extensions: tuple[str, ...]


class ModelState(Struct, frozen=True):
    """A line of the index of models."""

    name: str
    version: str
    state: str
    """READY or UNAVAILABLE."""
    reason: str


class _IndexWanted(Struct, frozen=True):
    ready: bool = False


_index_wanted = msgspec.json.Decoder(_IndexWanted)


@get("/")
async def server(request: Request[Any, Any, Any], v2: Given[OpenInference]) -> ServerMetadata:
    """The name, the version, and the extensions of the protocol that are served."""
    _require_reader(v2.access, request)
    return ServerMetadata("podium", version_of("podium"), EXTENSIONS)


@get("/health/live")
async def live() -> dict[str, bool]:
    """Answers as long as the event loop turns."""
    return {"live": True}


@get("/health/ready")
async def ready(v2: Given[OpenInference]) -> Response[dict[str, bool]]:
    """200 when every model can score, 503 when one cannot, and while draining."""
    well = not v2.health.is_draining and all(served.is_ready for served in v2.models.all())
    return Response({"ready": well}, status_code=200 if well else 503)


@get(
    ["/models/{name:str}", "/models/{name:str}/versions/{version:str}"],
)
async def model(
    name: FromPath[str],
    request: Request[Any, Any, Any],
    v2: Given[OpenInference],
    version: FromPath[str | None] = None,
) -> dict[str, Any]:
    """Its versions, inputs and outputs; -1 stands for any number of rows."""
    return v2.models.metadata(_found(v2, request, name, version))


@get(
    ["/models/{name:str}/ready", "/models/{name:str}/versions/{version:str}/ready"],
)
async def model_ready(
    name: FromPath[str],
    request: Request[Any, Any, Any],
    v2: Given[OpenInference],
    version: FromPath[str | None] = None,
) -> Response[dict[str, Any]]:
    """200 when an engine of it can score, else 503."""
    served = _found(v2, request, name, version)
    return Response(
        {"name": served.name, "ready": served.is_ready},
        status_code=200 if served.is_ready else 503,
    )


@get(
    ["/models/{name:str}/config", "/models/{name:str}/versions/{version:str}/config"],
)
async def model_config(
    name: FromPath[str],
    request: Request[Any, Any, Any],
    v2: Given[OpenInference],
    version: FromPath[str | None] = None,
) -> dict[str, Any]:
    """Batch sizes, queue delay and instances in the words of Triton's configuration.

    ``max_batch_size`` is what one engine call takes; a request may have more
    rows, and is scored in several.
    """
    return v2.models.config(_found(v2, request, name, version))


@get(
    ["/models/{name:str}/stats", "/models/{name:str}/versions/{version:str}/stats"],
)
async def model_stats(
    name: FromPath[str],
    request: Request[Any, Any, Any],
    v2: Given[OpenInference],
    version: FromPath[str | None] = None,
) -> dict[str, Any]:
    """Rows and calls of its engines, rankings included, and the times of requests on /v2."""
    return as_reply(await v2.statistics.read([_found(v2, request, name, version)]))


@get("/models/stats")
async def stats(request: Request[Any, Any, Any], v2: Given[OpenInference]) -> dict[str, Any]:
    """The statistics of every version of every model, over all workers."""
    _require_reader(v2.access, request)
    return as_reply(await v2.statistics.read())


@post(
    "/repository/index",
    status_code=200,
)
async def index(
    request: Request[Any, Any, Any], v2: Given[OpenInference], tensor_limit: Given[int]
) -> list[ModelState]:
    """Every version of every model, or those that are ready if the body says so."""
    _require_reader(v2.access, request)
    body = await whole_body(request, tensor_limit)
    wanted = decode(_index_wanted, body) if body.strip() else _IndexWanted()
    return [line for line in _lines(v2.models) if line.state == "READY" or not wanted.ready]


@post(
    ["/models/{name:str}/infer", "/models/{name:str}/versions/{version:str}/infer"],
    status_code=200,
)
async def infer(
    name: FromPath[str],
    request: Request[Any, Any, Any],
    v2: Given[OpenInference],
    tensor_limit: Given[int],
    version: FromPath[str | None] = None,
) -> Response[bytes]:
    """Encoded rows in, one score for each out; the rows join the batches of rankings.

    Tensors are JSON, or bytes after it as in Triton's binary extension.
    ``priority`` is 1 (high) to 3 (low), ``timeout`` microseconds, at most ten
    seconds and that without one.
    """
    arrived = v2.clock.now()
    v2.access.require(request, "rank")
    served = v2.models.find(name, version)
    body = await whole_body(request, tensor_limit)
    encoding = request.headers.get("content-encoding")
    if encoding is not None:  # on a thread: large ones would keep everybody waiting
        body = await asyncio.to_thread(uncompressed, body, encoding, tensor_limit)
    header = request.headers.get(HEADER_LENGTH.lower())
    scoring = v2.inference.infer(served, body, header, arrived=arrived)
    answer = await unless_hung_up(request, scoring)
    if answer.json_bytes is None:
        return Response(answer.body, media_type="application/json")
    return Response(
        answer.body,
        media_type="application/octet-stream",
        headers={HEADER_LENGTH: str(answer.json_bytes)},
    )


def routes(settings: ServerSettings) -> Router:
    """All routes of the protocol.

    Args:
        settings: For the largest body.
    """
    return Router(
        path=ROOT,
        route_handlers=[
            server,
            live,
            ready,
            model,
            model_ready,
            model_config,
            model_stats,
            stats,
            index,
            infer,
        ],
        include_in_schema=False,
        exception_handlers={RankingError: refusal, Exception: _defect},
        request_max_body_size=settings.max_tensor_bytes,
    )


def refusal(request: Request[Any, Any, Any], error: RankingError) -> Response[bytes]:
    """A failure in the protocol's words."""
    note_failure(error)
    problem = problem_of(error, None)
    where = f" at {problem.path}" if problem.path else ""
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.retry_after_s is not None:
        headers["Retry-After"] = retry_after(problem.retry_after_s)
    return _error(f"{problem.detail}{where}", error.status, headers)


def framework_refusal(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """An unknown path below ``/v2``, or a wrong method."""
    return _error(error.detail, error.status_code, dict(error.headers or {}))


def is_open_inference(path: str) -> bool:
    """Whether a path is one of the protocol's."""
    return path == ROOT or path.startswith(f"{ROOT}/")


def _defect(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    if isinstance(error, HTTPException):
        return framework_refusal(request, error)
    return refusal(request, told_of_defect(error))


def _error(what: str, status: int, headers: dict[str, str]) -> Response[bytes]:
    return Response(
        msgspec.json.encode({"error": what}),
        status_code=status,
        media_type="application/json",
        headers=headers,
    )


def _found(
    v2: OpenInference, request: Request[Any, Any, Any], name: str, version: str | None
) -> Served:
    _require_reader(v2.access, request)
    return v2.models.find(name, version)


def _require_reader(access: Access, request: Request[Any, Any, Any]) -> None:
    """A key that may ask for scores may see what there is."""
    try:
        access.require(request, "rank")
    except Forbidden:
        access.require(request, "read")


def _lines(models: ServedModels) -> Iterator[ModelState]:
    for served in models.all():
        engines = served.deployment.engines
        state = "READY" if served.is_ready else "UNAVAILABLE"
        reason = "" if served.is_ready else "; ".join(engine.problem for engine in engines)
        yield ModelState(served.name, served.version, state, reason)
