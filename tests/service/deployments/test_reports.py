"""What is loaded, added up over all workers."""

import pytest
from msgspec.structs import replace

from service.deployments.reports import ModelReports, added_up
from service.fleet import Alone
from tests.support.versions import Home, score

SURFACES = {"default": "a"}


@pytest.fixture
def home(tmp_path, clock):
    return Home(tmp_path, clock)


async def test_one_process_tells_of_itself(home, clock):
    models = home.models(a={})
    await score(models.deployments["a"], clock)

    reply = await ModelReports(models, SURFACES, Alone()).read()

    assert reply == models.describe(SURFACES)
    (engine,) = reply.deployments[0].engines
    assert (engine.name, engine.precision, engine.status) == ("onnxruntime-cpu", "fp32", "ready")
    assert (engine.calls, engine.rows, engine.predicted_bytes) == (1, 3, 0)
    assert reply.gpu_memory is None


async def test_counts_are_sums_and_an_engine_is_as_its_worst_one_is(home, clock):
    models = home.models(a={})
    await score(models.deployments["a"], clock)
    mine = models.describe(SURFACES)
    report = mine.deployments[0]
    counts = {"calls": 5, "rows": 100, "failed_calls": 2, "invalid_rows": 4, "opened": 3}
    hanging = replace(report.engines[0], status="hung", last_error="it hangs", **counts)
    theirs = replace(mine, deployments=(replace(report, queue_rows=7, engines=(hanging,)),))

    (together,) = added_up([mine, theirs, theirs]).deployments

    (engine,) = together.engines
    assert (engine.status, engine.last_error) == ("hung", "it hangs")
    assert (engine.calls, engine.rows, engine.failed_calls) == (11, 203, 4)
    assert (engine.invalid_rows, engine.opened) == (8, 6)
    assert together.queue_rows == 14


def test_memory_of_shared_engines_is_the_same_for_all_workers(home):
    mine = home.models(a={}).describe(SURFACES)
    report = mine.deployments[0]
    of_own = replace(report.engines[0], predicted_bytes=100, used_bytes=90)
    of_all = replace(of_own, shared=True)
    worker = replace(mine, deployments=(replace(report, engines=(of_all, of_own)),))

    shared, own = added_up([worker, worker]).deployments[0].engines

    assert (shared.predicted_bytes, shared.used_bytes) == (100, 90)
    assert (own.predicted_bytes, own.used_bytes) == (200, 180)


def test_a_worker_that_serves_another_version_is_left_out_of_the_sums(home):
    mine = home.models(a={}).describe(SURFACES)
    report = mine.deployments[0]
    switched = replace(report.model, version="00000000")
    theirs = replace(mine, deployments=(replace(report, model=switched, queue_rows=7),))

    assert added_up([mine, theirs]) == mine
