"""``POST /v1/events``: impressions and clicks, kept before the answer."""

from typing import Any

from litestar import Request, Response, post

from service.api.access import Access
from service.api.bodies import JSON, media_type, read_body
from service.api.given import Given
from service.api.openapi import EventsOperation
from service.events.decoding import decode_events
from service.events.intake import EventIntake
from service.messages import EventsReply
from service.telemetry import Telemetry

NDJSON = "application/x-ndjson"


@post(
    "/v1/events",
    status_code=202,
    operation_class=EventsOperation,
    operation_id="events",
    summary="Report impressions and clicks",
    tags=["events"],
)
async def events(
    request: Request[Any, Any, Any],
    intake: Given[EventIntake],
    access: Given[Access],
    telemetry: Given[Telemetry],
    body_limit: Given[int],
) -> Response[EventsReply]:
    """One result per event, in the order sent; what is accepted survives a crash of anything."""
    access.require(request, "events")
    body = await read_body(request, body_limit, (*JSON, NDJSON))
    lines = media_type(request) == NDJSON
    reported = decode_events(body, lines=lines, max_events=intake.max_events)
    reply = await intake.accept(reported)
    telemetry.metrics.events(reported, reply.results)
    return Response(reply)
