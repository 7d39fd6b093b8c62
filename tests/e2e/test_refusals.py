"""A client's mistake is told clearly, is never a 5xx, and disturbs nobody else."""

import json
import socket
import time

import pytest

RANK = "/v1/rank"
JSON = {"Content-Type": "application/json"}


def problem(response):
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:podium:problem:{body['code']}"
    assert body["detail"]
    return body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"candidates": ["i1"],}',
        b'{"candidates": ["i1"]} trailing',
        b'{"candidates": ["i1"], "context": {"hour": NaN}}',
        b'{"candidates": ["i1"], "context": {"hour": Infinity}}',
        b'{"candidates": ["i1"], "context": {"hour": 1e400}}',
        b'{"candidates": ["\xff\xfe"]}',
        b'{"candidates": ["\\ud800"]}',
        b"[" * 40_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    ],
)
def test_a_body_that_is_not_json_is_refused(server, body):
    response = server.client.post(RANK, content=body, headers=JSON)

    assert response.status_code == 400
    assert problem(response)["code"] in ("malformed_json", "invalid_request")


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ([], "$"),
        ({}, "$"),
        ({"candidates": []}, "$.candidates"),
        ({"candidates": ["i1", "i2", "i1"]}, "$.candidates[2]"),
        ({"candidates": [f"i{n}" for n in range(1001)]}, "$.candidates"),
        ({"candidates": ["i1", 2]}, "$.candidates[1]"),
        ({"candidates": ["i1", ""]}, "$.candidates[1]"),
        ({"candidates": ["i1", {"id": "i2", "price": 3}]}, "$.candidates[1]"),
        ({"candidates": ["i1"], "k": 0}, "$.k"),
        ({"candidates": ["i1"], "k": "3"}, "$.k"),
        ({"candidates": ["i1"], "timeout_ms": 0}, "$.timeout_ms"),
        ({"candidates": ["i1"], "timeout_ms": 1.5}, "$.timeout_ms"),
        ({"candidates": ["i1"], "priority": "urgent"}, "$.priority"),
        ({"candidates": ["i1"], "user": {"id": 7}}, "$.user.id"),
        ({"candidates": ["i1"], "user": {"name": "x"}}, "$.user"),
        ({"candidates": ["i1"], "usr": {}}, "$"),
        ({"candidates": ["i1"], "context": {"moon": "full"}}, "$.context.moon"),
        ({"candidates": ["i1"], "context": {"hour": {"of": "day"}}}, "$.context.hour"),
        ({"candidates": ["i1"], "user": {"features": {"age": {}}}}, "$.user.features.age"),
        (
            {"candidates": ["i1", {"id": "i2", "features": {"price": {}}}]},
            "$.candidates[1].features.price",
        ),
        ({"candidates": ["i1"], "force": {"model": 3}}, "$.force.model"),
        (
            {"candidates": [{"id": "i1", "features": {"price": "cheap"}}]},
            "$.candidates[0].features.price",
        ),
        ({"candidates": ["i1"], "force": {"nope": "x"}}, "$.force.nope"),
        ({"candidates": ["i1"], "force": {"model": "nope"}}, "$.force.model"),
    ],
)
def test_json_that_is_no_request_is_refused_with_the_place(server, body, path):
    response = server.client.post(RANK, content=json.dumps(body), headers=JSON)

    assert response.status_code == 400
    refused = problem(response)
    assert refused["code"] == "invalid_request"
    assert refused["path"] == path


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"candidates": ["i1"], "usr": {}}, "usr"),
        ({"candidates": ["i1"], "user": {"name": "x"}}, "name"),
        ({"candidates": ["i1", {"id": "i2", "price": 3}]}, "price"),
    ],
)
def test_an_unknown_field_is_named(server, body, name):
    refused = problem(server.client.post(RANK, json=body))

    assert f"unknown field `{name}`" in refused["detail"]


def test_a_problem_names_the_request_that_it_answers(server):
    understood = server.client.post(
        RANK, json={"candidates": ["i1"], "request_id": "r-81", "context": {"moon": "full"}}
    )
    not_understood = server.client.post(RANK, json={"candidates": [], "request_id": "r-81"})

    assert problem(understood)["request_id"] == "r-81"
    assert "request_id" not in problem(not_understood)


def test_the_same_mistake_is_refused_in_every_variant(server):
    """A request must not be valid for one arm only: that would shift the split."""
    for variant in ("ranker", "popularity"):
        body = {
            "candidates": [{"id": "i1", "features": {"price": "cheap"}}],
            "force": {"model": variant},
        }
        assert server.client.post(RANK, json=body).status_code == 400


def test_a_body_of_two_mebibytes_is_refused(server):
    body = json.dumps({"candidates": ["i1"], "request_id": "x" * 2 * 1024 * 1024})

    declared = server.client.post(RANK, content=body, headers=JSON)
    chunked = server.client.post(
        RANK,
        content=(body[i : i + 65_536].encode() for i in range(0, len(body), 65_536)),
        headers=JSON,
    )

    for response in (declared, chunked):
        assert response.status_code == 413
        assert problem(response)["code"] == "body_too_large"


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/xml", "application"])
def test_another_content_type_is_refused(server, content_type):
    headers = {"Content-Type": content_type} if content_type else {}

    response = server.client.post(RANK, content=b'{"candidates": ["i1"]}', headers=headers)

    assert response.status_code == 415
    assert problem(response)["code"] == "unsupported_media_type"


def test_a_content_type_with_parameters_is_json_all_the_same(server):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}

    response = server.client.post(RANK, content=b'{"candidates": ["i1"]}', headers=headers)

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/v1/rank", 405, "method_not_allowed"),
        ("DELETE", "/v1/events", 405, "method_not_allowed"),
        ("GET", "/v1/items/unlisted/recommendations", 404, "unknown_item"),
        ("GET", f"/v1/items/{'x' * 256}/recommendations", 404, "unknown_item"),
        ("GET", f"/v1/items/{'x' * 257}/recommendations", 404, "unknown_item"),
        ("GET", "/v1/items/a%2Fb/recommendations", 404, "not_found"),
        ("GET", "/v1/items/i1/recommendations?k=0", 400, "invalid_request"),
        ("GET", "/v1/items/i1/recommendations?k=x", 400, "invalid_request"),
        ("GET", "/v1/items/i1/recommendations?timeout_ms=10001", 400, "invalid_request"),
        ("GET", "/v1/items/i1/recommendations?user_id=", 400, "invalid_request"),
        ("GET", "/v1/items/i1/recommendations?hour=nan", 400, "invalid_request"),
        ("GET", "/v1/items/i1/recommendations?k=1&k=2", 400, "invalid_request"),
        ("GET", "/v1/items/i1/recommendations?moon=full", 400, "invalid_request"),
        ("GET", "/v1/items/i1/recommendations?hour=late", 400, "invalid_request"),
        ("GET", "/v1/experiments/nope", 404, "unknown_experiment"),
        ("GET", "/v1/experiments/nope/report", 404, "unknown_experiment"),
    ],
)
def test_a_wrong_address_is_told(server, method, path, status, code):
    response = server.client.request(method, path)

    assert response.status_code == status
    assert problem(response)["code"] == code


def test_an_unknown_external_decision_is_ignored_and_not_an_error(server):
    reply = server.rank(
        user={"id": "u1"}, candidates=["i1"], external={"model": "nope", "other": "x"}
    )

    assert reply.status_code == 200
    assert reply.json()["experiments"][0]["reason"] == "DEFAULT"


def test_the_service_is_well_after_all_that(server):
    assert server.client.get("/health/ready").json()["status"] == "ready"
    assert server.rank(candidates=["i1", "i2"]).status_code == 200


def test_a_client_that_hangs_up_in_its_body_is_no_error_of_ours(server):
    address = server.base_url.removeprefix("http://").split(":")
    for _ in range(3):
        with socket.create_connection((address[0], int(address[1]))) as connection:
            connection.sendall(
                b"POST /v1/rank HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b'Content-Length: 1000\r\n\r\n{"candidates": '
            )

    deadline = time.monotonic() + 30
    while 'status_code="499"' not in (metrics := server.client.get("/metrics").text):
        assert time.monotonic() < deadline, metrics
        time.sleep(0.05)
    assert 'http_route="/v1/rank",http_response_status_code="500"' not in metrics
    assert not [line for line in server.lines if "disconnected" in line]
