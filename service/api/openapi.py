"""The OpenAPI document: bodies and queries are decoded by hand, so declared by hand."""

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    Components,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
)

from service.messages import (
    MAX_CANDIDATES,
    MAX_TEXT,
    FeedbackEvent,
    ModelVersion,
    Problem,
    RankRequest,
)

_REFERENCE = "#/components/schemas/{name}"
_TEXT = Schema(type=OpenAPIType.STRING, min_length=1, max_length=MAX_TEXT)
_KEY = "bearer"


def _reference(name: str) -> Reference:
    return Reference(ref=_REFERENCE.format(name=name))


def _query(name: str, meaning: str, schema: Schema) -> Parameter:
    return Parameter(name=name, param_in="query", description=meaning, schema=schema)


def _integer(highest: int, *, default: int) -> Schema:
    return Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=highest, default=default)


def _body(schema: Schema | Reference, *media_types: str) -> RequestBody:
    return RequestBody(
        required=True, content={name: OpenAPIMediaType(schema=schema) for name in media_types}
    )


@dataclass
class RankOperation(Operation):
    """An operation that takes a `RankRequest`."""

    def __post_init__(self) -> None:
        self.request_body = _body(_reference("RankRequest"), "application/json")


@dataclass
class PageOperation(Operation):
    """An operation whose query is that of an item page.

    Context features are left to the description: a list that is the same for
    every set of bundles cannot name them.
    """

    def __post_init__(self) -> None:
        most = MAX_CANDIDATES
        self.parameters = [
            *(self.parameters or ()),
            _query("k", "Length of the slate.", _integer(most, default=20)),
            _query("timeout_ms", "Milliseconds that this may take.", _integer(10_000, default=50)),
            _query("user_id", "Whom the page is for; nobody known without it.", _TEXT),
            _query("session_id", "The visit, for experiments that split by session.", _TEXT),
        ]


@dataclass
class VersionOperation(Operation):
    """An operation that takes a `ModelVersion`."""

    def __post_init__(self) -> None:
        self.request_body = _body(_reference("ModelVersion"), "application/json")


@dataclass
class EventsOperation(Operation):
    """An operation that takes one event or many."""

    def __post_init__(self) -> None:
        event = _reference("FeedbackEvent")
        many = Schema(any_of=[event, Schema(type=OpenAPIType.ARRAY, items=event)])
        self.request_body = _body(many, "application/json", "application/x-ndjson")


class DocumentPlugin(JsonRenderPlugin):
    """The document with what the framework cannot see: decoded bodies, and problems."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return super().render(request, completed(openapi_schema))


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The framework's document with our schemas beside its own, and our problems for its."""
    _, ours = msgspec.json.schema_components(
        [RankRequest, FeedbackEvent, ModelVersion, Problem], ref_template=_REFERENCE
    )
    components = document["components"]
    return {
        **document,
        "paths": {
            path: {method: _with_problems(operation) for method, operation in operations.items()}
            for path, operations in document["paths"].items()
        },
        "components": {**components, "schemas": {**components["schemas"], **ours}},
    }


def _with_problems(operation: dict[str, Any]) -> dict[str, Any]:
    """What fails is a problem, and not what the framework would have answered with."""
    responses = {
        status: response
        for status, response in operation["responses"].items()
        if not status.startswith("4")
    }
    responses["default"] = {
        "description": "A problem (RFC 9457) with a stable code",
        "content": {"application/problem+json": {"schema": _reference("Problem").to_schema()}},
    }
    return {**operation, "responses": responses}


def openapi_config(version: str) -> OpenAPIConfig:
    """The configuration of the document; ``/schema/openapi.json`` serves it."""
    key = SecurityScheme(
        type="http", scheme="bearer", description="An API key; needed where `auth.keys` are set."
    )
    return OpenAPIConfig(
        title="Podium",
        version=version,
        summary="Ordered slates inside a deadline.",
        render_plugins=[DocumentPlugin(path=["/", "/openapi.json"])],
        use_handler_docstrings=True,
        components=Components(security_schemes={_KEY: key}),
        security=[{_KEY: []}, {}],
    )
