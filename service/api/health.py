"""``/health/live``, ``/health/ready`` and ``/metrics``: for machines that watch."""

from typing import Any

from litestar import Request, Response, get

from service.api.given import Given
from service.fleet import Fleet
from service.health import Health, Readiness
from service.processes.figures import FIGURES, FIGURES_LIMIT_S
from service.telemetry.merging import merged_page


@get("/health/live", operation_id="live", summary="Is the process alive", tags=["health"])
async def live() -> dict[str, str]:
    """Answers as long as the event loop turns."""
    return {"status": "live"}


@get("/health/ready", operation_id="ready", summary="Can it take traffic", tags=["health"])
async def ready(health: Given[Health]) -> Response[Readiness]:
    """200 when every deployment can answer, if need be by popularity; degraded parts are named.

    503 while draining, and when a deployment has no engine that can score and
    degraded answers are off.
    """
    readiness = health.readiness()
    return Response(readiness, status_code=200 if readiness.takes_traffic else 503)


@get("/metrics", operation_id="metrics", summary="Prometheus metrics", tags=["health"])
async def metrics(request: Request[Any, Any, Any], fleet: Given[Fleet]) -> Response[bytes]:
    """Of all workers: Prometheus text, or OpenMetrics with exemplars where Accept asks for it."""
    figures = await fleet.ask(FIGURES, limit_s=FIGURES_LIMIT_S)
    body, content_type = merged_page(figures, request.headers.get("accept", ""))
    return Response(body, headers={"content-type": content_type})
