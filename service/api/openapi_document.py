"""Completes the framework's OpenAPI document with what it cannot see.

Bodies are decoded and problems rendered by hand, so the framework knows neither. It gives paths,
parameters and words; from here come schemas, refusals, examples, headers and who may call what.
"""

from collections.abc import Mapping
from typing import Any, Final

from service.api.openapi_examples import examples
from service.api.openapi_problems import refusals_of
from service.api.openapi_schemas import schemas
from service.settings import Scope

TAGS: Final[Mapping[str, str]] = {
    "ranking": "Ordered slates inside a deadline.",
    "events": "What users saw and clicked.",
    "experiments": "What is compared, what it has shown, and what was decided.",
    "models": "What is loaded, and new versions of it.",
    "cache": "The score cache: filled, looked into and purged.",
    "health": "For machines that watch; no key is needed.",
}
"""Every tag, in the order of the page, with what it is about."""

SCOPES: Final[Mapping[str, Scope]] = {
    "rank": "rank",
    "itemRecommendations": "rank",
    "events": "events",
    "experiments": "read",
    "experiment": "read",
    "experimentReport": "read",
    "experimentDecisions": "read",
    "models": "read",
    **dict.fromkeys(
        (
            *("startExperiment", "pauseExperiment", "rampExperiment"),
            *("promoteExperiment", "rollbackExperiment", "stopExperiment"),
            *("forceToken", "warmCache", "flushCache", "cache", "cacheEntry"),
            *("loadModel", "activateModel", "unloadModel"),
        ),
        "admin",
    ),
}
"""Operation to the scope that its key needs; the others need no key."""

_TRACED: Final = ("rank", "itemRecommendations", "events")
_TRACE_CONTEXT: Final[list[dict[str, Any]]] = [
    {
        "name": "traceparent",
        "in": "header",
        "required": False,
        "description": "W3C trace context: the caller's trace is continued.",
        "schema": {
            "type": "string",
            "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
        },
        "example": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    },
    {
        "name": "tracestate",
        "in": "header",
        "required": False,
        "description": "W3C trace context: what tracing systems on the way have noted.",
        "schema": {"type": "string"},
    },
]
_TEXT: Final = {"schema": {"type": "string"}}
_READINESS: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Readiness"}}}
_DESCRIPTIONS: Final[Mapping[str, str]] = {
    "rank": "The slate, best first, and how it came about",
    "itemRecommendations": "The slate, best first, and how it came about",
    "events": "One result per event, in the order sent; what is accepted is durable",
    "experiments": "Every experiment as it is in force",
    "experiment": "The experiment as it is in force",
    "experimentReport": "The report, as JSON or as a page",
    "experimentDecisions": "Decisions, newest first",
    "forceToken": "The signed token",
    "models": "Everything that is loaded",
    "loadModel": "Everything that is loaded now",
    "activateModel": "Everything that is loaded now",
    "unloadModel": "Everything that is loaded now",
    "warmCache": "What this call has done, and where to go on",
    "flushCache": "The new epoch",
    "cache": "How the cache is",
    "cacheEntry": "The entry, or that there is none",
    **{
        f"{verb}Experiment": "How the experiment stands now"
        for verb in ("start", "pause", "ramp", "promote", "rollback", "stop")
    },
    "live": "The process is alive",
    "ready": "Traffic may come",
    "metrics": "The figures of all workers",
}
_SUCCESS: Final[tuple[str, ...]] = ("200", "201", "202")
_MORE: Final[Mapping[str, Mapping[str, dict[str, Any]]]] = {
    "experimentReport": {
        "200": {
            "headers": {"Vary": {"description": "Always `Accept`.", "schema": {"type": "string"}}},
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/Report"}},
                "text/html": _TEXT,
            },
        }
    },
    "ready": {
        "200": {"content": _READINESS},
        "503": {"description": "Traffic should go elsewhere", "content": _READINESS},
    },
    "metrics": {"200": {"content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT}}},
}
"""Operation and status to what the framework has not seen of the response."""


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The whole document.

    Args:
        document: The framework's; it stays as it is.
    """
    paths = {
        path: {method: _operation(operation) for method, operation in operations.items()}
        for path, operations in document["paths"].items()
    }
    components = {**document["components"], "schemas": schemas()}
    return {**document, "paths": paths, "components": components}


def _operation(operation: dict[str, Any]) -> dict[str, Any]:
    name = operation["operationId"]
    scope = SCOPES.get(name)
    done = {**operation, "responses": _responses(name, operation["responses"])}
    if "requestBody" in operation:
        done["requestBody"] = _with_examples(operation["requestBody"], examples(name))
    if name in _TRACED:
        done["parameters"] = [*operation.get("parameters", ()), *_TRACE_CONTEXT]
    if scope is None:
        return {**done, "security": []}
    return {**done, "description": f"{_words(operation)}\n\nNeeds the scope `{scope}`."}


def _words(operation: dict[str, Any]) -> str:
    return str(operation["description"]).replace("``", "`")


def _responses(name: str, framework: dict[str, Any]) -> dict[str, Any]:
    succeeded: dict[str, Any] = {
        status: framework[status] for status in _SUCCESS if status in framework
    }
    more = _MORE.get(name, {})
    told = {
        status: {
            "description": _DESCRIPTIONS.get(name, name),
            "content": succeeded.get(status, {}).get("content", {}),
            **more.get(status, {}),
        }
        for status in sorted({*succeeded, *more})
    }
    told = {
        status: _with_examples(response, examples(name, status))
        for status, response in told.items()
    }
    return {**told, **refusals_of(name)}


def _with_examples(part: dict[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """A body or a response with the example of each of its media types that has one."""
    content = {
        media_type: {**body, "example": found[media_type]} if media_type in found else body
        for media_type, body in part["content"].items()
    }
    return {**part, "content": content}
