"""What each operation may refuse with, as its part of the OpenAPI document.

One entry per operation: a generated client turns each status into a type, and a person sees every
code with an example. What any operation may answer besides is the ``default`` response.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from service import errors
from service.api.problems import FRAMEWORK_CODES, MEDIA_TYPE, OTHER_REFUSAL
from service.errors import (
    BodyTooLarge,
    CacheOff,
    CacheUnavailable,
    ChangeUnderWay,
    DeadlinePassed,
    DeadlineUnreachable,
    DefinitionDiffers,
    EnginesFailed,
    EventsUnavailable,
    ExperimentChangeRefused,
    Forbidden,
    ForceTokenExpired,
    ForceTokenInvalid,
    GenerationConflict,
    InvalidRequest,
    LoadRefused,
    MalformedBody,
    ModelPinned,
    NoCandidates,
    NotReady,
    QueueFull,
    RankingError,
    ReportUnavailable,
    StoreUnavailable,
    Unauthorised,
    UnknownExperiment,
    UnknownItem,
    UnknownModel,
    UnknownVersion,
    UnsupportedMediaType,
    VersionInUse,
    VersionNotLoaded,
)
from service.messages import Problem

Errors = tuple[type[RankingError], ...]

_KEYED: Final[Errors] = (Unauthorised, Forbidden)
_BODY: Final[Errors] = (MalformedBody, InvalidRequest, BodyTooLarge, UnsupportedMediaType)
_RANKING: Final[Errors] = (
    *_KEYED,
    ForceTokenInvalid,
    ForceTokenExpired,
    QueueFull,
    DeadlineUnreachable,
    NotReady,
    EnginesFailed,
    DeadlinePassed,
)
_CHANGE: Final[Errors] = (
    *_KEYED,
    *_BODY,
    UnknownExperiment,
    GenerationConflict,
    ExperimentChangeRefused,
    DefinitionDiffers,
    StoreUnavailable,
)
_MODEL: Final[Errors] = (
    *_KEYED,
    *_BODY,
    UnknownModel,
    UnknownVersion,
    ModelPinned,
    ChangeUnderWay,
)

REFUSALS: Final[Mapping[str, Errors]] = {
    "rank": (*_RANKING, *_BODY),
    "itemRecommendations": (*_RANKING, InvalidRequest, UnknownItem, NoCandidates),
    "events": (*_KEYED, *_BODY, EventsUnavailable),
    "experiments": _KEYED,
    "experiment": (*_KEYED, UnknownExperiment),
    "experimentReport": (*_KEYED, InvalidRequest, UnknownExperiment, ReportUnavailable),
    "experimentDecisions": (*_KEYED, InvalidRequest, UnknownExperiment, StoreUnavailable),
    **{
        f"{verb}Experiment": _CHANGE
        for verb in ("start", "pause", "ramp", "promote", "rollback", "stop")
    },
    "forceToken": (*_KEYED, *_BODY, UnknownExperiment),
    "warmCache": (*_KEYED, *_BODY, CacheOff, CacheUnavailable),
    "flushCache": (*_KEYED, CacheUnavailable),
    "cache": (*_KEYED, InvalidRequest, CacheUnavailable),
    "cacheEntry": (*_KEYED, InvalidRequest, UnknownItem, CacheOff, CacheUnavailable),
    "models": _KEYED,
    "loadModel": (*_MODEL, LoadRefused),
    "activateModel": (*_MODEL, VersionNotLoaded, LoadRefused),
    "unloadModel": (*_MODEL, VersionNotLoaded, VersionInUse),
}
"""Operation to what it may refuse with. Those that are not named need no key and refuse nobody."""

_MEANINGS: Final[Mapping[int, str]] = {
    400: "The request is not valid; `path` says where",
    401: "A key is needed",
    403: "The key, or the force token, does not allow this",
    404: "There is no such thing",
    409: "It does not fit how things stand; nothing was changed",
    413: "The body is too large",
    415: "The body is of another type",
    429: "Too busy: refused at the door; come again after `Retry-After`",
    503: "This cannot be answered now; come again after `Retry-After`",
    504: "Taken in, but not scored in time, and degraded answers are off",
}
_RETRY_AFTER: Final = {
    "Retry-After": {
        "description": "Whole seconds to leave the service alone; `retry_after_s` is exact.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    }
}
_AUTHENTICATE: Final = {
    "WWW-Authenticate": {
        "description": "How to show a key.",
        "schema": {"type": "string", "const": "Bearer"},
    }
}
_HEADERS: Final[Mapping[int, dict[str, Any]]] = {
    401: _AUTHENTICATE,
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}
_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}


def refusals_of(operation_id: str) -> dict[str, Any]:
    """The responses of an operation that are problems, by status, and the one for all others."""
    by_status: dict[int, list[type[RankingError]]] = {}
    for error in REFUSALS.get(operation_id, ()):
        by_status.setdefault(error.status, []).append(error)
    told = {str(status): _response(status, by_status[status]) for status in sorted(by_status)}
    return {
        **told,
        "default": {
            "description": "Any other failure: a problem (RFC 9457) with a stable code",
            "content": {MEDIA_TYPE: {"schema": _PROBLEM}},
        },
    }


def codes() -> list[str]:
    """Every code that a problem can have."""
    told = {
        error.code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, RankingError)
    }
    return sorted({*told, *FRAMEWORK_CODES.values(), OTHER_REFUSAL})


def _response(status: int, told: list[type[RankingError]]) -> dict[str, Any]:
    named = ", ".join(f"`{error.code}`" for error in told)
    response: dict[str, Any] = {
        "description": f"{_MEANINGS[status]}. Codes: {named}.",
        "content": {
            MEDIA_TYPE: {
                "schema": _PROBLEM,
                "examples": {
                    error.code: {"summary": error.title, "value": _example(error)} for error in told
                },
            }
        },
    }
    if status in _HEADERS:
        response["headers"] = _HEADERS[status]
    return response


def _example(error: type[RankingError]) -> Any:
    after_s = error.retry_after_s
    if error.status == QueueFull.status:
        after_s = 0.05  # learnt while it runs: a class knows none
    return msgspec.to_builtins(
        Problem(
            type=f"urn:podium:problem:{error.code}",
            title=error.title,
            status=error.status,
            code=error.code,
            detail=" ".join((error.__doc__ or "").split()),
            path="$.candidates[3].id" if error is InvalidRequest else None,
            retryable=error.retryable,
            retry_after_s=after_s,
        )
    )
