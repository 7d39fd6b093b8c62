"""OpenFeature's Remote Evaluation Protocol (OFREP 0.3): any OpenFeature SDK reads our split.

The protocol has its own document (open-feature/protocol, ``service/openapi.yaml``) and
its own error bodies, so these routes are not in ours. Refused keys (401, 403) are
problems like everywhere, since OFREP leaves their bodies open. Nothing here is
scored or waits, so nothing here answers 429.
"""

from hashlib import blake2b
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.params import FromPath
from msgspec import Struct

from experiments.source import ExperimentSource
from service.api.access import Access
from service.api.bodies import decode, read_body
from service.api.given import Given
from service.api.problems import told_of_defect
from service.errors import Forbidden, InvalidRequest, MalformedBody
from service.openfeature.evaluation import TARGETING_KEY, ContextInvalid, Flag, flag, flags


class _Asked(Struct, frozen=True):
    """The body of a request; the protocol may add fields to it."""

    context: dict[str, Any]


class _Refused(Exception):
    """A request that OFREP answers with an error body."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status, self.body = status, body
        super().__init__(str(body))


_decoder = msgspec.json.Decoder(_Asked)


def _render_refused(request: Request[Any, Any, Any], error: _Refused) -> Response[bytes]:
    return Response(
        msgspec.json.encode(error.body), status_code=error.status, media_type="application/json"
    )


def _render_defect(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    body = {"errorDetails": str(told_of_defect(error))}
    return Response(msgspec.json.encode(body), status_code=500, media_type="application/json")


_HANDLERS: dict[int | type[Exception], Any] = {
    _Refused: _render_refused,
    Exception: _render_defect,
}


@post(
    "/ofrep/v1/evaluate/flags/{key:str}",
    status_code=200,
    exception_handlers=_HANDLERS,
    include_in_schema=False,
)
async def evaluate_flag(
    key: FromPath[str],
    request: Request[Any, Any, Any],
    source: Given[ExperimentSource],
    access: Given[Access],
    body_limit: Given[int],
) -> Response[bytes]:
    """The variant of one experiment for the context; no exposure."""
    _require_reader(access, request)
    context = await _context(request, body_limit, {"key": key})
    try:
        found = flag(source.current(), key, context)
    except ContextInvalid as error:
        raise _Refused(400, _failure("INVALID_CONTEXT", str(error), key)) from None
    if found is None:
        raise _Refused(404, _failure("FLAG_NOT_FOUND", f"there is no experiment {key!r}", key))
    answer = _answer(found)
    if found.unit_missing:
        raise _Refused(400, answer)
    return Response(msgspec.json.encode(answer), media_type="application/json")


@post(
    "/ofrep/v1/evaluate/flags",
    status_code=200,
    exception_handlers=_HANDLERS,
    include_in_schema=False,
)
async def evaluate_flags(
    request: Request[Any, Any, Any],
    source: Given[ExperimentSource],
    access: Given[Access],
    body_limit: Given[int],
) -> Response[bytes]:
    """Every experiment for the context, or 304 if the caller has this answer already."""
    _require_reader(access, request)
    context = await _context(request, body_limit, {})
    assigner = source.current()
    try:
        found = flags(assigner, context)
    except ContextInvalid as error:
        raise _Refused(400, _failure("INVALID_CONTEXT", str(error))) from None
    body = msgspec.json.encode(
        {
            "flags": [_answer(one) for one in found],
            "metadata": {"configDigest": assigner.digest},
        }
    )
    # Of the answer itself: it changes with the definitions and with whatever of the context
    # makes a difference, and never without need.
    tag = f'"{blake2b(body, digest_size=16).hexdigest()}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(b"", status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


def _require_reader(access: Access, request: Request[Any, Any, Any]) -> None:
    """A key that may ask for rankings may ask for variants too: replies tell them anyway."""
    try:
        access.require(request, "rank")
    except Forbidden:
        access.require(request, "read")


async def _context(
    request: Request[Any, Any, Any], body_limit: int, named: dict[str, str]
) -> dict[str, Any]:
    body = await read_body(request, body_limit)
    try:
        return decode(_decoder, body).context
    except MalformedBody as error:
        raise _Refused(400, named | _failure("PARSE_ERROR", str(error))) from None
    except InvalidRequest as error:
        what = f"{error} (at {error.path})"
        raise _Refused(400, named | _failure("INVALID_CONTEXT", what)) from None


def _answer(found: Flag) -> dict[str, Any]:
    """A flag in the protocol's words, which lack OpenFeature's ``DEFAULT``."""
    if found.unit_missing:
        what = f"the context has no {TARGETING_KEY}, or not the id that this experiment splits by"
        return _failure("TARGETING_KEY_MISSING", what, found.key)
    return {
        "key": found.key,
        "reason": "UNKNOWN" if found.reason == "DEFAULT" else found.reason,
        "variant": found.variant,
        "value": found.value,
        "metadata": found.metadata,
    }


def _failure(code: str, details: str, key: str | None = None) -> dict[str, Any]:
    named = {} if key is None else {"key": key}
    return named | {"errorCode": code, "errorDetails": details}


def _has(header: str, tag: str) -> bool:
    """Whether ``If-None-Match`` names the tag; a proxy may have made it weak or unquoted."""
    named = {one.strip().removeprefix("W/").strip('"') for one in header.split(",")}
    return "*" in named or tag.strip('"') in named
