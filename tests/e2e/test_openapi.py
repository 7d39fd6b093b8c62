"""The OpenAPI document says what the service takes, answers and asks for."""

import json

import pytest

from service.api.items import PageQuery
from service.api.openapi_schemas import REQUEST_BODIES

CHANGES = ("load", "activate", "unload")
VERBS = ("start", "pause", "ramp", "promote", "rollback", "stop")
BODIES = {
    ("post", "/v1/rank"): {"application/json"},
    ("post", "/v1/events"): {"application/json", "application/x-ndjson"},
    ("post", "/v1/cache/warm"): {"application/json"},
    ("post", "/v1/experiments/{key}/force-tokens"): {"application/json"},
    **{("post", f"/v1/models/{{name}}/{v}"): {"application/json"} for v in CHANGES},
    **{("post", f"/v1/experiments/{{key}}/{v}"): {"application/json"} for v in VERBS},
}
TRACED = {("traceparent", "header"), ("tracestate", "header")}
PARAMETERS = {
    ("post", "/v1/rank"): {("X-Experiment-Variant", "header"), *TRACED},
    ("post", "/v1/events"): TRACED,
    ("get", "/v1/items/{item_id}/recommendations"): {
        ("item_id", "path"),
        ("k", "query"),
        ("timeout_ms", "query"),
        ("user_id", "query"),
        ("session_id", "query"),
        ("force_token", "query"),
        ("context", "query"),
        ("X-Experiment-Variant", "header"),
        *TRACED,
    },
    ("post", "/v1/experiments/{key}/force-tokens"): {("key", "path")},
    ("get", "/v1/experiments/{key}"): {("key", "path")},
    ("get", "/v1/experiments/{key}/report"): {
        ("key", "path"),
        ("format", "query"),
        ("statistics", "query"),
    },
    ("get", "/v1/experiments/{key}/decisions"): {("key", "path"), ("limit", "query")},
    ("get", "/v1/cache"): {("count", "query")},
    ("get", "/v1/cache/entry"): {
        ("item", "query"),
        ("key", "query"),
        ("user_id", "query"),
        ("deployment", "query"),
        ("force", "query"),
    },
    **{("post", f"/v1/experiments/{{key}}/{v}"): {("key", "path")} for v in VERBS},
    **{("post", f"/v1/models/{{name}}/{v}"): {("name", "path")} for v in CHANGES},
}
PROBLEM = {"schema": {"$ref": "#/components/schemas/Problem"}}


@pytest.fixture(scope="module")
def document(server):
    return server.client.get("/schema/openapi.json").json()


@pytest.fixture(scope="module")
def operations(document):
    return {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_names_its_parameters_and_its_body(operations):
    found = {
        name: {(p["name"], p["in"]) for p in operation["parameters"]}
        for name, operation in operations.items()
        if "parameters" in operation
    }
    bodies = {
        name: set(operation["requestBody"]["content"])
        for name, operation in operations.items()
        if "requestBody" in operation
    }

    assert found == PARAMETERS
    assert bodies == BODIES
    assert {path for _, path in operations} >= {"/v1/experiments", "/v1/models", "/health/ready"}


def test_the_query_of_an_item_page_is_described_as_it_is_read(operations):
    page = operations["get", "/v1/items/{item_id}/recommendations"]

    described = {p["name"]: p for p in page["parameters"] if p["in"] == "query"}
    context = described.pop("context")

    assert (context["style"], context["explode"], context["schema"]["type"]) == (
        *("form", True, "object"),
    )
    assert tuple(described) == PageQuery.__struct_fields__
    assert not any(parameter["required"] for parameter in described.values())
    schemas = {name: parameter["schema"] for name, parameter in described.items()}
    assert schemas["k"] == {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20}
    assert schemas["timeout_ms"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 10_000,
        "default": 50,
    }
    assert schemas["user_id"] == {"type": "string", "minLength": 1, "maxLength": 256}
    defaults = PageQuery()
    assert (defaults.k, defaults.timeout_ms) == (20, 50)
    assert "context feature" in page["description"]


@pytest.mark.parametrize(
    "query", [{"k": 1}, {"k": 1000}, {"user_id": "u"}, {"session_id": "s" * 256}, {"hour": 7}]
)
def test_what_the_document_allows_is_taken(server, query):
    longest = {"timeout_ms": 10_000}

    answer = server.client.get("/v1/items/i1/recommendations", params=longest | query)

    assert answer.status_code == 200


def test_whatever_fails_is_a_problem(operations):
    readiness = {"schema": {"$ref": "#/components/schemas/Readiness"}}
    for name, operation in operations.items():
        for status, response in operation["responses"].items():
            if status.startswith("2"):
                continue
            content = dict(response["content"])
            if (name, status) == (("get", "/health/ready"), "503"):
                assert content["application/json"]["schema"] == readiness["schema"]
                continue
            assert set(content) == {"application/problem+json"}, (name, status)
            assert content["application/problem+json"]["schema"] == PROBLEM["schema"]
        assert "default" in operation["responses"], name


def test_what_needs_a_key_says_what_it_refuses_with(operations):
    for name, operation in operations.items():
        if operation.get("security") == []:
            continue
        assert {"401", "403"} <= set(operation["responses"]), name
        assert "Needs the scope `" in operation["description"], name
        for status in {"429", "503"} & set(operation["responses"]):
            assert "Retry-After" in operation["responses"][status]["headers"], name


def test_a_key_is_declared_and_may_be_left_out(document):
    scheme = document["components"]["securitySchemes"]["bearer"]

    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert document["security"] == [{"bearer": []}, {}]


def test_replies_and_requests_are_all_described(document):
    schemas = document["components"]["schemas"]

    described = {"RankRequest", "RankReply", "FeedbackEvent", "EventsReply", "Report"}
    assert described | {"ExperimentChange"} <= set(schemas)
    assert schemas["RankRequest"]["required"] == ["candidates"]
    assert schemas["Problem"]["properties"]["retryable"]["type"] == "boolean"


def test_only_requests_have_no_other_fields_than_the_document_tells(document):
    schemas = document["components"]["schemas"]

    closed = {name for name, one in schemas.items() if one.get("additionalProperties") is False}

    assert closed == {"Candidate", "UserRef", *(message.__name__ for message in REQUEST_BODIES)}


def test_every_schema_is_titled_by_its_own_name(document):
    schemas = document["components"]["schemas"]

    assert [one["title"] for one in schemas.values()] == list(schemas)


def test_a_pair_is_told_without_what_few_generators_know(document):
    pair = document["components"]["schemas"]["ExperimentReply"]["properties"]["layer_range_bp"]

    assert (pair["minItems"], pair["maxItems"], pair["items"]) == (2, 2, {"type": "integer"})
    assert "prefixItems" not in json.dumps(document)


def test_every_reference_leads_somewhere(document):
    references = set(references_in(document))

    assert len(references) > 10
    for reference in references:
        assert reference.startswith("#/"), reference
        place = document
        for step in reference.removeprefix("#/").split("/"):
            assert step in place, reference
            place = place[step]


def test_the_document_has_the_structure_of_openapi_3_1(document, operations):
    assert document["openapi"].startswith("3.1.")
    assert document["info"].keys() >= {"title", "version"}
    identifiers = [operation["operationId"] for operation in operations.values()]
    assert len(set(identifiers)) == len(identifiers)
    for (_, path), operation in operations.items():
        for status, response in operation["responses"].items():
            assert status == "default" or 100 <= int(status) < 600
            assert response["description"]
        in_path = {p["name"] for p in operation.get("parameters", ()) if p["in"] == "path"}
        assert all(f"{{{name}}}" in path for name in in_path)
        assert len(in_path) == path.count("{")


def test_protocols_with_documents_of_their_own_are_found_from_here(server, document):
    told = document["info"]["description"]

    for document_of, asked in (
        ("(https://github.com/kserve/open-inference-protocol)", "POST /v2/repository/index"),
        ("(https://github.com/open-feature/protocol)", "POST /ofrep/v1/evaluate/flags"),
    ):
        assert document_of in told
        assert asked.split("/")[1] in told
        assert server.client.request(*asked.split(), json={}).status_code != 404
    assert not any(path.startswith(("/v2", "/ofrep")) for path in document["paths"])


def test_reading_it_again_gives_the_same(server, document):
    again = server.client.get("/schema/openapi.json").json()

    assert json.dumps(again) == json.dumps(document)


def references_in(value):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from references_in(one)
