"""``GET /v1/items/{item_id}/recommendations``: what to show beside an item."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.background_tasks import BackgroundTask
from litestar.params import FromPath
from msgspec import Struct

from ranking_models.schema import FeatureValue
from service.api.departure import has_hung_up
from service.api.given import Given, RankingParts
from service.api.openapi import PageOperation
from service.api.pinning import DECISIONS_HEADER, decided_elsewhere, redeemed
from service.errors import InvalidRequest, UnknownItem, split_place
from service.feature_names import FeatureNames
from service.messages import (
    MAX_TEXT,
    RankReply,
    RankRequest,
    SignedText,
    SlateLength,
    Text,
    TimeoutMs,
    UserRef,
)


class PageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of an item page besides its context."""

    k: SlateLength = 20
    timeout_ms: TimeoutMs = 50
    user_id: Text | None = None
    session_id: Text | None = None
    force_token: SignedText | None = None


PAGE_ROUTE: Final = "/v1/items/{item_id}/recommendations"
"""As metrics and spans name it."""
_OWN = frozenset(PageQuery.__struct_fields__)


@get(
    "/v1/items/{item_id:str}/recommendations",
    operation_class=PageOperation,
    operation_id="itemRecommendations",
    summary="Rank the precomputed candidates of an item",
    tags=["ranking"],
)
async def recommendations(
    item_id: FromPath[str],
    request: Request[Any, Any, Any],
    parts: Given[RankingParts],
) -> Response[RankReply]:
    """The best k of the candidates that the bundle holds for an item.

    Each context feature of a loaded model, and ``surface``, is a query
    parameter under its own name. An item whose id holds a ``/`` has no page:
    a path cannot carry it, not as ``%2F`` either.
    """
    arrived = parts.clock.now()
    parts.access.require(request, "rank")
    if len(item_id) > MAX_TEXT:
        raise UnknownItem(item_id)
    page = page_request(item_id, _single(request), parts.feature_names)
    page = redeemed(page, parts.force_tokens, parts.clock.wall())
    page = decided_elsewhere(page, request.headers.getall(DECISIONS_HEADER, []))
    ranked = await parts.ranker.item_page(page, arrived=arrived)
    recording = BackgroundTask(parts.ranker.record, ranked, delivered=not has_hung_up(request))
    return Response(ranked.reply, background=recording)


def page_request(item_id: str, query: Mapping[str, str], names: FeatureNames) -> RankRequest:
    """The ranking request of a page; its only candidate is the anchor until it is routed.

    Raises:
        InvalidRequest: an unknown parameter, or a value of the wrong kind.
    """
    own = {name: value for name, value in query.items() if name in _OWN}
    context: dict[str, FeatureValue] = {
        name: names.context_value(name, text) for name, text in query.items() if name not in _OWN
    }
    try:
        page = msgspec.convert(own, PageQuery, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(*split_place(error)) from None
    return RankRequest(
        candidates=(item_id,),
        anchor_item=item_id,
        user=UserRef(id=page.user_id),
        session_id=page.session_id,
        context=context,
        k=page.k,
        timeout_ms=page.timeout_ms,
        force_token=page.force_token,
    )


def _single(request: Request[Any, Any, Any]) -> dict[str, str]:
    query: dict[str, str] = {}
    for name, value in request.query_params.items():
        if name in query:
            raise InvalidRequest(f"the parameter {name!r} is there twice", f"$.{name}")
        query[name] = value
    return query
