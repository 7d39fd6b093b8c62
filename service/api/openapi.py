"""The OpenAPI document: bodies are decoded by hand for speed, so declared by hand."""

from dataclasses import dataclass
from typing import Any

import msgspec
from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Reference,
    RequestBody,
    Schema,
)

from service.messages import FeedbackEvent, Problem, RankRequest

_REFERENCE = "#/components/schemas/{name}"


def _reference(name: str) -> Reference:
    return Reference(ref=_REFERENCE.format(name=name))


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
class EventsOperation(Operation):
    """An operation that takes one event or many."""

    def __post_init__(self) -> None:
        event = _reference("FeedbackEvent")
        many = Schema(any_of=[event, Schema(type=OpenAPIType.ARRAY, items=event)])
        self.request_body = _body(many, "application/json", "application/x-ndjson")


class DocumentPlugin(JsonRenderPlugin):
    """The document with what the framework cannot see: decoded bodies, and problems."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        schemas = openapi_schema.setdefault("components", {}).setdefault("schemas", {})
        _, ours = msgspec.json.schema_components(
            [RankRequest, FeedbackEvent, Problem], ref_template=_REFERENCE
        )
        problem = {
            "application/problem+json": {"schema": {"$ref": _REFERENCE.format(name="Problem")}}
        }
        for path in openapi_schema["paths"].values():
            for operation in path.values():
                operation["responses"]["default"] = {
                    "description": "A problem (RFC 9457) with a stable code",
                    "content": problem,
                }
        document = {**openapi_schema, "components": {"schemas": {**schemas, **ours}}}
        return super().render(request, document)


def openapi_config(version: str) -> OpenAPIConfig:
    return OpenAPIConfig(
        title="Podium",
        version=version,
        summary="Ordered slates inside a deadline.",
        render_plugins=[DocumentPlugin(path=["/", "/openapi.json"])],
        use_handler_docstrings=True,
    )
