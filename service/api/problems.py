"""Renders every failure as RFC 9457 ``application/problem+json``, in one place."""

import logging
import math
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.types import ExceptionHandlersMap

from service.errors import RankingError
from service.messages import Problem
from service.telemetry import note_failure

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger(__name__)

FRAMEWORK_CODES = {
    400: "invalid_request",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
}
OTHER_REFUSAL = "refused"
"""What the framework refuses for a reason that has no code of its own."""


def render(problem: Problem, headers: dict[str, str] | None = None) -> Response[bytes]:
    """The response for a problem, with ``Retry-After`` where it helps."""
    headers = dict(headers or {})
    if problem.retry_after_s is not None:
        headers["Retry-After"] = retry_after(problem.retry_after_s)
    return Response(
        msgspec.json.encode(problem),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=headers,
    )


def retry_after(seconds: float) -> str:
    """The header's value: whole seconds, and never none."""
    return str(max(1, math.ceil(seconds)))


def problem_of(error: RankingError, request_id: str | None) -> Problem:
    """What a caller is told of an error.

    Args:
        error: What went wrong.
        request_id: The caller's, if it is known.
    """
    return Problem(
        type=f"urn:podium:problem:{error.code}",
        title=error.title,
        status=error.status,
        code=error.code,
        detail=str(error) or error.title,
        path=error.path,
        request_id=request_id,
        retryable=error.retryable,
        retry_after_s=error.retry_after_s,
    )


def from_ranking_error(request: Request[Any, Any, Any], error: RankingError) -> Response[bytes]:
    """What a handler refuses; `request.state.request_id` is the caller's, once it is known."""
    note_failure(error)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else {}
    return render(problem_of(error, request.state.get("request_id")), headers)


def from_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Unknown routes, wrong methods, bad query parameters: what the framework refuses."""
    status = error.status_code
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("the framework failed", exc_info=error)
    code = FRAMEWORK_CODES.get(status, "internal_error" if status >= 500 else OTHER_REFUSAL)
    return render(
        Problem(
            type=f"urn:podium:problem:{code}",
            title=HTTPStatus(status).phrase,
            status=status,
            code=code,
            detail=error.detail,
        ),
        dict(error.headers or {}),
    )


def unknown_path() -> Response[bytes]:
    """For a path that the framework would refuse in other words than ours."""
    phrase = HTTPStatus.NOT_FOUND.phrase
    return render(
        Problem(
            type="urn:podium:problem:not_found",
            title=phrase,
            status=HTTPStatus.NOT_FOUND,
            code="not_found",
            detail=phrase,
        )
    )


def from_defect(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Anything else is our mistake: logged with its stack, told without it."""
    return from_ranking_error(request, told_of_defect(error))


def told_of_defect(error: Exception) -> RankingError:
    """What a caller is told of a mistake of ours, which is noted and logged here."""
    note_failure(error)
    _log.error("unhandled error", exc_info=error)
    return RankingError("an error on our side; it has been logged")


HANDLERS: ExceptionHandlersMap = {
    RankingError: from_ranking_error,
    HTTPException: from_framework,
    Exception: from_defect,
}
