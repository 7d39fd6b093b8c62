"""The report that clients get: JSON for programs, a page for people, and nothing for strangers."""

import httpx
import pytest
from litestar import Litestar
from litestar.di import Provide
from redis.asyncio import Redis

from service.api.access import Access
from service.api.experiments import report
from service.api.problems import HANDLERS
from service.events.statistics import ReadStatistics
from service.rollouts.reporting import ExperimentReports
from service.settings import AuthSettings, EventSettings
from tests.service.rollouts.test_live import text
from tests.support.replicas import replica

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
async def http(tmp_path, valkey):
    async with (
        replica(tmp_path, valkey.url, text("e")) as own,
        Redis.from_url(valkey.url) as client,
    ):
        statistics = ReadStatistics(client, EventSettings(timeout_s=2.0))
        reports = ExperimentReports(
            own.live, own.changes, statistics, own.clock, price_per_hour=None
        )
        given = {"experiment_reports": reports, "access": Access(AuthSettings())}
        app = Litestar(
            [report],
            dependencies={name: provide(value) for name, value in given.items()},
            exception_handlers=HANDLERS,
            openapi_config=None,
            logging_config=None,
        )
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://podium.test") as http:
            yield http


def provide(value: object) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


@pytest.mark.parametrize(
    ("query", "accept", "page"),
    [
        ("", None, False),
        ("", "*/*", False),
        ("", "application/json", False),
        ("", BROWSER, True),
        ("", "text/html", True),
        ("?format=html", "application/json", True),
        ("?format=json", BROWSER, False),
        ("?statistics=true", BROWSER, True),
    ],
)
async def test_who_wants_a_page_gets_one(http, query, accept, page):
    headers = {} if accept is None else {"Accept": accept}

    reply = await http.get(f"/v1/experiments/e/report{query}", headers=headers)

    assert reply.status_code == 200
    assert reply.headers["vary"] == "Accept"
    kind = reply.headers["content-type"]
    if page:
        assert kind == "text/html; charset=utf-8"
        assert reply.text.startswith("<!doctype html>")
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")
    else:
        assert kind == "application/json"
        assert reply.json()["key"] == "e"


async def test_sums_come_only_where_they_are_asked_for(http):
    plain = (await http.get("/v1/experiments/e/report")).json()
    full = (await http.get("/v1/experiments/e/report?statistics=true")).json()

    assert plain["statistics"] is None
    assert len(full["statistics"]["1"]["new"]["clicks"]) == 1024


@pytest.mark.parametrize(
    ("query", "path"), [("format=pdf", "$.format"), ("statistics=1", "$.statistics")]
)
async def test_what_cannot_be_given_is_refused(http, query, path):
    reply = await http.get(f"/v1/experiments/e/report?{query}")

    assert reply.status_code == 400
    assert (reply.json()["code"], reply.json()["path"]) == ("invalid_request", path)


async def test_what_is_not_there_is_not_found(http):
    reply = await http.get("/v1/experiments/other/report", headers={"Accept": BROWSER})

    assert reply.status_code == 404
    assert reply.json()["code"] == "unknown_experiment"
