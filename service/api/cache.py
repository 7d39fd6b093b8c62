"""``/v1/cache``: the score cache filled, looked into and purged, by whoever runs the service."""

import logging
from typing import Any

import msgspec
from litestar import Request, get, post

from service.api.access import Access
from service.api.bodies import decode, read_body
from service.api.given import CacheParts, Given
from service.api.openapi import CacheOperation, EntryOperation, WarmOperation
from service.errors import InvalidRequest
from service.messages import MAX_TEXT
from service.warming.values import (
    CacheFlushed,
    CacheView,
    EntryView,
    PageOf,
    WarmReply,
    WarmRequest,
)

_log = logging.getLogger(__name__)
_decoder = msgspec.json.Decoder(WarmRequest)
_LONGEST_KEY = 1024


@post(
    "/v1/cache/warm",
    status_code=200,
    operation_class=WarmOperation,
    operation_id="warmCache",
    summary="Compute and keep item pages, the most popular first",
    tags=["cache"],
)
async def warm(
    request: Request[Any, Any, Any],
    cache_parts: Given[CacheParts],
    access: Given[Access],
    body_limit: Given[int],
) -> WarmReply:
    """Goes on for about a second, when no live request waits for an engine; pages that are kept
    already are passed by. Ask again from the reply's ``next`` on until that is its ``top``."""
    by = access.author(request, "admin")
    wanted = decode(_decoder, await read_body(request, body_limit))
    done = await cache_parts.warmer.warm(wanted)
    _log.info(
        "cache warmed by %s: %s, places %d to %d of %d, %d computed",
        *(by, done.deployment, done.first, done.next, done.top, done.computed),
    )
    return done


@post(
    "/v1/cache/flush",
    status_code=200,
    operation_id="flushCache",
    summary="Purge the score cache",
    tags=["cache"],
)
async def flush(
    request: Request[Any, Any, Any], cache_parts: Given[CacheParts], access: Given[Access]
) -> CacheFlushed:
    """Begins a new epoch: within a second no replica serves an entry of an earlier one any more.
    Of all models: another version of one reads none of the former's entries anyway."""
    by = access.author(request, "admin")
    flushed = await cache_parts.inspector.flush()
    _log.warning("cache purged by %s: epoch %d", by, flushed.epoch)
    return flushed


@get(
    "/v1/cache",
    operation_class=CacheOperation,
    operation_id="cache",
    summary="How the score cache is",
    tags=["cache"],
)
async def view(
    request: Request[Any, Any, Any], cache_parts: Given[CacheParts], access: Given[Access]
) -> CacheView:
    """Hit rates of all workers, the server's memory and policy; ``count`` walks through its keys,
    a million at most and for five seconds at most."""
    by = access.author(request, "admin")
    query = _single(request)
    count = query.pop("count", "false")
    if query or count not in ("true", "false"):
        raise InvalidRequest("the only parameter is count, true or false", "$.count")
    if count == "true":
        _log.info("cache keys counted by %s", by)
    return await cache_parts.inspector.view(count=count == "true")


@get(
    "/v1/cache/entry",
    operation_class=EntryOperation,
    operation_id="cacheEntry",
    summary="What the cache holds of one item page, or under one key",
    tags=["cache"],
)
async def entry(
    request: Request[Any, Any, Any], cache_parts: Given[CacheParts], access: Given[Access]
) -> EntryView:
    """Whether it is there, how old it is and for how long it is fresh. Other parameters beside
    ``item`` are those of its page: context features, ``user_id``; and ``deployment`` or ``force``,
    an experiment's variant as ``experiment=variant``, several with commas between them."""
    by = access.author(request, "admin")
    query = _single(request)
    key, item = query.pop("key", None), query.pop("item", None)
    if (key is None) == (item is None):
        raise InvalidRequest("either key or item must be given", "$.item")
    if key is not None:
        if query or not 0 < len(key) <= _LONGEST_KEY:
            raise InvalidRequest(f"a key has 1 to {_LONGEST_KEY} characters, and stands alone", "$")
        _log.info("cache entry looked at by %s: %s", by, key)
        return await cache_parts.inspector.entry(key)
    if not item or len(item) > MAX_TEXT:
        raise InvalidRequest(f"an item id has 1 to {MAX_TEXT} characters", "$.item")
    _log.info("cached page looked at by %s: %s", by, item)
    return await cache_parts.inspector.page(item, _page_of(query, cache_parts))


def _page_of(query: dict[str, str], parts: CacheParts) -> PageOf:
    user_id, deployment = query.pop("user_id", None), query.pop("deployment", None)
    force = _forced(query.pop("force", ""))
    names = parts.feature_names
    context = {name: names.context_value(name, text) for name, text in query.items()}
    return PageOf(context=context, user_id=user_id, deployment=deployment, force=force)


def _forced(text: str) -> dict[str, str]:
    forced: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        key, equals, variant = pair.partition("=")
        if not (key and equals and variant) or key in forced:
            raise InvalidRequest("force takes experiment=variant, each experiment once", "$.force")
        forced[key] = variant
    return forced


def _single(request: Request[Any, Any, Any]) -> dict[str, str]:
    query: dict[str, str] = {}
    for name, value in request.query_params.items():
        if name in query:
            raise InvalidRequest(f"the parameter {name!r} is there twice", f"$.{name}")
        query[name] = value
    return query
