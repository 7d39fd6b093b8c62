"""``POST /v1/rank``: order these candidates for this user.

Plain requests do not come this way but by `service/express`, which answers the
same with the same pieces.
"""

from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.background_tasks import BackgroundTask

from service.api.bodies import decode, read_body
from service.api.departure import has_hung_up
from service.api.given import Given, RankingParts
from service.api.openapi import RankOperation
from service.api.pinning import DECISIONS_HEADER, decided_elsewhere, redeemed
from service.messages import RankReply, RankRequest
from service.telemetry import names

_decoder = msgspec.json.Decoder(RankRequest)


@post(
    "/v1/rank",
    status_code=200,
    operation_class=RankOperation,
    operation_id="rank",
    summary="Order candidates for a user",
    tags=["ranking"],
)
async def rank(request: Request[Any, Any, Any], parts: Given[RankingParts]) -> Response[RankReply]:
    """Answers with the best k candidates inside the deadline, and says how it came about."""
    arrived = parts.clock.now()
    parts.access.require(request, "rank")
    body = await read_body(request, parts.body_limit)
    with parts.telemetry.step(names.SPAN_DECODE):
        asked = decode(_decoder, body)
    request.state.request_id = asked.request_id
    if asked.force:
        parts.access.require(request, "admin")
    asked = redeemed(asked, parts.force_tokens, parts.clock.wall())
    asked = decided_elsewhere(asked, request.headers.getall(DECISIONS_HEADER, []))
    ranked = await parts.ranker.rank(asked, arrived=arrived)
    recording = BackgroundTask(parts.ranker.record, ranked, delivered=not has_hung_up(request))
    return Response(ranked.reply, background=recording)
