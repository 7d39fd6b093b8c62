"""The report that clients get: the figures, and what they do not hold yet."""

import httpx
import pytest
from litestar import Litestar
from litestar.di import Provide

from experiments.assignment import Assigner
from experiments.definition import Experiment, Variant
from experiments.source import FixedExperiments
from service.api.access import Access
from service.api.experiments import report
from service.api.problems import HANDLERS
from service.events.names import STREAM
from service.events.statistics import ReadStatistics
from service.settings import AuthSettings, EventSettings, RedisSettings
from service.stores import events_client
from service.testing import FakeClock
from tests.support.valkey import ValkeyServer

EXPERIMENT = Experiment(
    key="rollout",
    variants=(Variant(name="fp32", share_bp=5000), Variant(name="fp16", share_bp=5000)),
)


@pytest.fixture
async def client():
    settings = EventSettings(timeout_s=2.0)
    with ValkeyServer() as server:
        async with events_client(server.url, RedisSettings(), settings) as client:
            yield client


def application(client) -> Litestar:
    given = {
        "source": FixedExperiments(Assigner((EXPERIMENT,))),
        "statistics": ReadStatistics(client, EventSettings(timeout_s=2.0)),
        "access": Access(AuthSettings()),
        "clock": FakeClock(),
    }
    return Litestar(
        [report],
        dependencies={name: provide(value) for name, value in given.items()},
        exception_handlers=HANDLERS,
        openapi_config=None,
        logging_config=None,
    )


def provide(value: object) -> Provide:
    return Provide(lambda: value, sync_to_thread=False)


async def test_a_report_tells_how_many_events_its_figures_do_not_hold_yet(client):
    transport = httpx.ASGITransport(app=application(client))
    async with httpx.AsyncClient(transport=transport, base_url="http://podium.test") as http:
        before = (await http.get("/v1/experiments/rollout/report")).json()
        for _ in range(3):
            await client.xadd(STREAM, {b"e": b"anything"})
        waiting = (await http.get("/v1/experiments/rollout/report")).json()

    assert before["notes"] == []
    assert waiting["notes"] == ["3 events are not added up yet, of this experiment or others."]
