"""The OpenAPI document: bodies and queries are decoded by hand, so declared by hand."""

from dataclasses import dataclass
from typing import Any

from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, YamlRenderPlugin
from litestar.openapi.spec import (
    Components,
    License,
    OpenAPIMediaType,
    OpenAPIType,
    Operation,
    Parameter,
    Reference,
    RequestBody,
    Schema,
    SecurityScheme,
    Tag,
)

from service.api.api_docs import document_router
from service.api.openapi_document import TAGS, completed
from service.messages import (
    DECISIONS,
    MAX_CANDIDATES,
    MAX_TEXT,
    MOST_DECISIONS,
)

_REFERENCE = "#/components/schemas/{name}"
_TEXT = Schema(type=OpenAPIType.STRING, min_length=1, max_length=MAX_TEXT)
_SIGNED = Schema(type=OpenAPIType.STRING, min_length=1, max_length=2048)
_KEY = "bearer"


def _reference(name: str) -> Reference:
    return Reference(ref=_REFERENCE.format(name=name))


def _query(name: str, meaning: str, schema: Schema) -> Parameter:
    return Parameter(name=name, param_in="query", description=meaning, schema=schema)


def _integer(highest: int, *, default: int) -> Schema:
    return Schema(type=OpenAPIType.INTEGER, minimum=1, maximum=highest, default=default)


def _body(schema: Schema | Reference, *media_types: str, required: bool = True) -> RequestBody:
    return RequestBody(
        required=required, content={name: OpenAPIMediaType(schema=schema) for name in media_types}
    )


_DECISIONS = Parameter(
    name="X-Experiment-Variant",
    param_in="header",
    description="What another system has decided: `key=variant[, key=variant]`.",
    schema=Schema(type=OpenAPIType.STRING),
    example="fp16-rollout=fp16",
)


_CONTEXT = Parameter(
    name="context",
    param_in="query",
    description="`surface` and context features, each a parameter under its own name: `hour=21`.",
    style="form",
    explode=True,
    schema=Schema(
        type=OpenAPIType.OBJECT,
        additional_properties=Schema(
            type=[OpenAPIType.STRING, OpenAPIType.NUMBER, OpenAPIType.BOOLEAN]
        ),
    ),
)


@dataclass
class RankOperation(Operation):
    """An operation that takes a `RankRequest`."""

    def __post_init__(self) -> None:
        self.request_body = _body(_reference("RankRequest"), "application/json")
        self.parameters = [*(self.parameters or ()), _DECISIONS]


@dataclass
class PageOperation(Operation):
    """An operation whose query is that of an item page.

    Context features are free names beside those that are told: a list that is the same for every
    set of bundles cannot name them.
    """

    def __post_init__(self) -> None:
        most = MAX_CANDIDATES
        self.parameters = [
            *(self.parameters or ()),
            _query("k", "Length of the slate.", _integer(most, default=20)),
            _query("timeout_ms", "Milliseconds that this may take.", _integer(10_000, default=50)),
            _query("user_id", "Whom the page is for; nobody known without it.", _TEXT),
            _query("session_id", "The visit, for experiments that split by session.", _TEXT),
            _query("force_token", "Shows the variant that an admin signed it for.", _SIGNED),
            _CONTEXT,
            _DECISIONS,
        ]


@dataclass
class VersionOperation(Operation):
    """An operation that takes a `ModelVersion`."""

    def __post_init__(self) -> None:
        self.request_body = _body(_reference("ModelVersion"), "application/json")


@dataclass
class ChangeOperation(Operation):
    """An operation that may be given an `ExperimentChange`."""

    def __post_init__(self) -> None:
        self.request_body = _body(
            _reference("ExperimentChange"), "application/json", required=False
        )


@dataclass
class ForceTokenOperation(Operation):
    """An operation that takes a `ForceTokenRequest`."""

    def __post_init__(self) -> None:
        self.request_body = _body(_reference("ForceTokenRequest"), "application/json")


@dataclass
class DecisionsOperation(Operation):
    """An operation that takes how many decisions it is to tell."""

    def __post_init__(self) -> None:
        limit = _integer(MOST_DECISIONS, default=DECISIONS)
        self.parameters = [*(self.parameters or ()), _query("limit", "How many.", limit)]


@dataclass
class WarmOperation(Operation):
    """An operation that takes a `WarmRequest`."""

    def __post_init__(self) -> None:
        self.request_body = _body(_reference("WarmRequest"), "application/json")


@dataclass
class CacheOperation(Operation):
    """An operation that may be asked to count keys."""

    def __post_init__(self) -> None:
        count = Schema(type=OpenAPIType.BOOLEAN, default=False)
        self.parameters = [
            *(self.parameters or ()),
            _query("count", "Count the server's keys by kind.", count),
        ]


@dataclass
class EntryOperation(Operation):
    """An operation that is asked about an item's page or a key; context as of `PageOperation`."""

    def __post_init__(self) -> None:
        key = Schema(type=OpenAPIType.STRING, min_length=1, max_length=1024)
        self.parameters = [
            *(self.parameters or ()),
            _query("item", "The item whose page is meant.", _TEXT),
            _query("key", "A key of the cache server, instead of an item.", key),
            _query("user_id", "Whose page; nobody known without it.", _TEXT),
            _query("deployment", "What serves it; the surface's own without it.", _TEXT),
            _query("force", "Or the variants that do: experiment=variant, with commas.", _TEXT),
        ]


@dataclass
class ReportOperation(Operation):
    """An operation that takes how a report is wanted."""

    def __post_init__(self) -> None:
        formats = Schema(type=OpenAPIType.STRING, enum=["json", "html"])
        sums = Schema(type=OpenAPIType.BOOLEAN, default=False)
        self.parameters = [
            *(self.parameters or ()),
            _query("format", "A page for people, or JSON; without it as Accept says.", formats),
            _query("statistics", "Whether JSON holds the sums of all cells as well.", sums),
        ]


@dataclass
class EventsOperation(Operation):
    """An operation that takes one event or many."""

    def __post_init__(self) -> None:
        event = _reference("FeedbackEvent")
        many = Schema(any_of=[event, Schema(type=OpenAPIType.ARRAY, items=event)])
        lines = Schema(
            type=OpenAPIType.STRING, description="One `FeedbackEvent` per line, as JSON."
        )
        self.request_body = RequestBody(
            required=True,
            content={
                "application/json": OpenAPIMediaType(schema=many),
                "application/x-ndjson": OpenAPIMediaType(schema=lines),
            },
        )


class DocumentPlugin(JsonRenderPlugin):
    """The document with what the framework cannot see; made once."""

    def __init__(self) -> None:
        super().__init__(path=["/", "/openapi.json"])
        self._made: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if self._made is None:
            self._made = super().render(request, completed(openapi_schema))
        return self._made


class YamlDocumentPlugin(YamlRenderPlugin):
    """The same as YAML. Made once: it takes the time of many rankings."""

    def __init__(self) -> None:
        super().__init__(path=["/openapi.yaml", "/openapi.yml"])
        self._made: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if self._made is None:
            self._made = super().render(request, completed(openapi_schema))
        return self._made


def openapi_config(version: str) -> OpenAPIConfig:
    """The configuration of the document; ``/schema/openapi.json`` serves it."""
    key = SecurityScheme(
        type="http",
        scheme="bearer",
        description="An API key with the scope that the operation names; needed where `auth.keys` "
        "are set. Where none are, everybody has all scopes, but `admin` from this machine alone.",
    )
    return OpenAPIConfig(
        title="Podium",
        version=version,
        summary="Ordered slates inside a deadline.",
        description="Two protocols that have documents of their own are served besides: the "
        "[Open Inference Protocol](https://github.com/kserve/open-inference-protocol) of KServe "
        "and Triton under `/v2` (the models: `POST /v2/repository/index`), and OpenFeature's "
        "[remote evaluation](https://github.com/open-feature/protocol) (OFREP) under `/ofrep/v1`.",
        render_plugins=[DocumentPlugin(), YamlDocumentPlugin()],
        openapi_router=document_router(),
        use_handler_docstrings=True,
        components=Components(security_schemes={_KEY: key}),
        security=[{_KEY: []}, {}],
        license=License(name="Apache License 2.0", identifier="Apache-2.0"),
        tags=[Tag(name=name, description=about) for name, about in TAGS.items()],
    )
