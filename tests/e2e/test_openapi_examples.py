"""The API document's examples are real, and what it says of refusals and scopes is so."""

import hashlib
from urllib.parse import quote

import msgspec
import pytest

from service.api.openapi_document import SCOPES, TAGS
from service.api.openapi_examples import REQUESTS
from service.api.openapi_problems import REFUSALS
from service.api.openapi_schemas import REPLY_BODIES, REQUEST_BODIES
from service.messages import Problem
from tests.support.server import EXPERIMENTS, SETTINGS, serving

CAPTURE = "`python -m tests.support.api_examples` captures examples anew"
KEYS = {scope: f"a-key-for-{scope}" for scope in ("rank", "events", "read", "admin")}
KEYED = SETTINGS + "".join(
    f"""
[[auth.keys]]
name = "{scope}"
sha256 = "{hashlib.sha256(key.encode()).hexdigest()}"
scopes = ["{scope}"]
"""
    for scope, key in KEYS.items()
)


@pytest.fixture(scope="module")
def keyed():
    with serving(settings=KEYED, experiments=EXPERIMENTS) as running:
        yield running


@pytest.fixture(scope="module")
def document(server):
    return server.client.get("/schema/openapi.json").json()


@pytest.fixture(scope="module")
def operations(document):
    return {
        operation["operationId"]: (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_body_has_an_example_of_the_type_that_is_decoded(operations):
    types = {message.__name__: message for message in (*REQUEST_BODIES, *REPLY_BODIES)}
    for name, (_, _, operation) in operations.items():
        bodies = {None: operation.get("requestBody"), **operation["responses"]}
        for status, body in bodies.items():
            content = {} if body is None else body["content"].get("application/json", {})
            assert not content or "example" in content, f"{name} {status}: {CAPTURE}"
            if reference := content.get("schema", {}).get("$ref"):
                struct = types[reference.rpartition("/")[2]]
                decoded = msgspec.convert(content["example"], struct)
                unknown = strangers(content["example"], decoded)
                assert not unknown, f"{name} {status}: {CAPTURE}"


def strangers(example, decoded):
    """Names in the example that the struct does not have."""
    return set(example) - set(decoded.__struct_fields__)


def test_every_refusal_has_an_example(operations):
    for name, refusals in REFUSALS.items():
        responses = operations[name][2]["responses"]
        for error in refusals:
            told = responses[str(error.status)]["content"]["application/problem+json"]["examples"]
            problem = msgspec.convert(told[error.code]["value"], Problem)
            assert (problem.code, problem.status) == (error.code, error.status)


def test_every_code_that_is_told_is_one_of_the_schema(document):
    known = document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]

    assert {error.code for refusals in REFUSALS.values() for error in refusals} <= set(known)


@pytest.mark.parametrize(
    ("operation", "asked", "code"),
    [
        ("rank", {"content": b"{"}, "malformed_json"),
        ("rank", {"json": {"candidates": []}}, "invalid_request"),
        ("rank", {"content": b"x", "headers": {"content-type": "text/plain"}}, None),
        ("rank", {"content": b'"' + b"x" * 2**20 + b'"'}, "body_too_large"),
        ("rank", {"json": {"candidates": ["i1"], "force_token": "f"}}, "force_token_invalid"),
        ("itemRecommendations", {"path": {"item_id": "none"}}, "unknown_item"),
        ("itemRecommendations", {"params": {"k": 0}}, "invalid_request"),
        ("experiment", {"path": {"key": "none"}}, "unknown_experiment"),
        ("experimentReport", {"path": {"key": "none"}}, "unknown_experiment"),
        ("experimentDecisions", {"params": {"limit": 0}}, "invalid_request"),
        ("pauseExperiment", {"json": {"if_generation": 999}}, "generation_conflict"),
        ("rampExperiment", {"json": {"stage": 5}}, "change_refused"),
        ("forceToken", {"json": {"variant": "none"}}, "invalid_request"),
        ("loadModel", {"json": {"version": "00000000"}}, "unknown_version"),
        ("activateModel", {"json": {"version": "00000000"}}, "unknown_version"),
        ("cacheEntry", {"params": {"item": "i1", "deployment": "uncached"}}, "cache_off"),
    ],
)
def test_a_refusal_is_one_that_the_document_tells(server, operations, operation, asked, code):
    method, path, described = operations[operation]
    asked = {"headers": {"content-type": "application/json"}, **asked}
    if "json" in asked:
        del asked["headers"]
    names = {"item_id": "i1", "key": "model", "name": "tiny", **asked.pop("path", {})}

    answer = server.client.request(method, path.format(**names), **asked)

    problem = msgspec.json.decode(answer.content, type=Problem)
    assert problem.code == (code or "unsupported_media_type")
    told = described["responses"][str(answer.status_code)]["content"]["application/problem+json"]
    assert problem.code in told["examples"]


def test_the_scope_that_is_told_is_the_one_that_is_asked_for(keyed, operations):
    names = {"item_id": "i1", "key": quote("model"), "name": "tiny"}
    for name, (method, path, _) in operations.items():
        allowed = {
            scope
            for scope, key in KEYS.items()
            if keyed.client.request(
                method,
                path.format(**names),
                headers={"authorization": f"Bearer {key}", "content-type": "text/nothing"},
            ).status_code
            not in (401, 403)
        }
        assert allowed == ({SCOPES[name]} if name in SCOPES else set(KEYS)), name


def test_operations_have_tags_with_a_meaning_and_names_that_generators_take(document, operations):
    assert [tag["name"] for tag in document["tags"]] == list(TAGS)
    for name, (_, _, operation) in operations.items():
        assert set(operation["tags"]) <= set(TAGS)
        assert name.isidentifier()
        assert name[0].islower()
    assert set(REQUESTS) == {
        name for name, (_, _, operation) in operations.items() if "requestBody" in operation
    }


def test_every_response_says_what_it_is(operations):
    for name, (_, _, operation) in operations.items():
        for status, response in operation["responses"].items():
            assert response["description"] != name, (name, status)
            assert response["content"], (name, status)


def test_fields_are_described_in_the_words_of_their_docstrings(document):
    properties = document["components"]["schemas"]["RankRequest"]["properties"]

    assert properties["anchor_item"]["description"] == "Ranking beside this item."


def test_words_that_a_value_may_be_are_listed_with_their_type(document):
    listed = list(values_with("enum", document["components"]["schemas"]))

    assert {"type": "string", "enum": ["high", "low", "normal"], "default": "normal"} in listed
    assert {one.get("type") for one in listed} == {"string"}


def values_with(name, value):
    if isinstance(value, dict):
        if name in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from values_with(name, one)
