"""What a problem tells a client to do."""

from typing import Any

import pytest
from litestar import Litestar, Request, get
from litestar.params import FromPath
from litestar.testing import TestClient

from service.api.problems import HANDLERS
from service.errors import EventsUnavailable, InvalidRequest, QueueFull

FAILURES = {
    "full": QueueFull(9, 8, 2.2),
    "events": EventsUnavailable("no"),
    "invalid": InvalidRequest("no", "$.k"),
    "bug": KeyError("u42"),
}


@get("/{how:str}")
async def fail(request: Request[Any, Any, Any], how: FromPath[str]) -> None:
    if "request_id" in request.query_params:
        request.state.request_id = request.query_params["request_id"]
    raise FAILURES[how]


@pytest.fixture(scope="module")
def client():
    app = Litestar([fail], exception_handlers=HANDLERS, openapi_config=None, logging_config=None)
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize(
    ("how", "status", "retryable"),
    [("full", 429, True), ("events", 503, True), ("invalid", 400, None), ("bug", 500, None)],
)
def test_a_problem_says_whether_the_same_request_may_succeed_later(client, how, status, retryable):
    answer = client.get(f"/{how}")

    assert answer.status_code == status
    assert answer.json().get("retryable") is retryable


def test_when_to_come_again_is_a_header_in_whole_seconds_and_a_field(client):
    answer = client.get("/full")

    assert answer.headers["retry-after"] == "3"
    assert answer.json()["retry_after_s"] == 2.2


@pytest.mark.parametrize("how", ["full", "invalid", "bug"])
def test_a_problem_names_the_request_once_its_id_is_known(client, how):
    assert client.get(f"/{how}?request_id=r-81").json()["request_id"] == "r-81"
    assert "request_id" not in client.get(f"/{how}").json()


def test_a_defect_is_not_described_to_strangers(client):
    assert "u42" not in client.get("/bug").text
