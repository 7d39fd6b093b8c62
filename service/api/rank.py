"""``POST /v1/rank``: order these candidates for this user."""

from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.background_tasks import BackgroundTask

from service.api.access import Access
from service.api.bodies import decode, read_body
from service.api.given import Given
from service.api.openapi import RankOperation
from service.clock import Clock
from service.messages import RankReply, RankRequest
from service.ranker import Ranker
from service.telemetry import Telemetry, names

_decoder = msgspec.json.Decoder(RankRequest)


@post(
    "/v1/rank",
    status_code=200,
    operation_class=RankOperation,
    operation_id="rank",
    summary="Order candidates for a user",
    tags=["ranking"],
)
async def rank(
    request: Request[Any, Any, Any],
    ranker: Given[Ranker],
    access: Given[Access],
    clock: Given[Clock],
    body_limit: Given[int],
    telemetry: Given[Telemetry],
) -> Response[RankReply]:
    """Answers with the best k candidates inside the deadline, and says how it came about."""
    arrived = clock.now()
    access.require(request, "rank")
    body = await read_body(request, body_limit)
    with telemetry.step(names.SPAN_DECODE):
        asked = decode(_decoder, body)
    request.state.request_id = asked.request_id
    if asked.force:
        access.require(request, "admin")
    ranked = await ranker.rank(asked, arrived=arrived)
    return Response(ranked.reply, background=BackgroundTask(ranker.record, ranked))
