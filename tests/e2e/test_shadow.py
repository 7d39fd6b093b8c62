"""Shadow over HTTP: copies are scored and counted, and requests do not notice."""

import re
import time

import pytest

from tests.support.server import SETTINGS, serving

DRAFT = """
[[experiment]]
key = "before"
state = "draft"
shadow_bp = 10000
[[experiment.variant]]
name = "control"
share_bp = 5000
[[experiment.variant]]
name = "same"
share_bp = 5000
deployment = "uncached"
"""
WITHOUT_CACHE = (
    SETTINGS.replace('model = "tiny"\n', 'model = "tiny"\ncache = "off"\n', 1)
    .replace('[deployments.popularity]\nmodel = "tiny"\nengines = ["popularity"]\n', "")
    .replace('popular = "popularity"\n', "")
)
ITEMS = [f"i{n}" for n in range(12)]


@pytest.fixture(params=[SETTINGS, WITHOUT_CACHE], ids=["with a cache", "engines only"])
def server(request):
    with serving(settings=request.param, experiments=DRAFT) as running:
        yield running


def metric(server, name):
    """The sum over labels."""
    page = server.client.get("/metrics").text
    return sum(float(value) for value in re.findall(rf"^{re.escape(name)} (\S+)$", page, re.M))


def when(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_draft_is_compared_and_shown_to_nobody(server):
    compared = 'podium_shadow_total{result="compared"}'
    replies = []
    for n in range(20):
        replies.append(server.rank(user={"id": f"u{n}"}, candidates=ITEMS, k=5).json())
        when(lambda: metric(server, compared) + busy(server) == len(replies))

    assert metric(server, compared) > 0
    label = '{variant="before:same"}'
    assert metric(server, f"podium_shadow_overlap_sum{label}") == metric(server, compared)
    assert metric(server, 'podium_shadow_score_drift_bucket{le="1e-06",variant="before:same"}') == (
        metric(server, compared)
    )
    assert {reply["experiments"][0]["reason"] for reply in replies} == {"DRAFT"}
    assert {reply["exposure"] for reply in replies} == {None}
    when(lambda: metric(server, 'podium_exposures_kept_total{result="kept"}') > 0)


def busy(server):
    return metric(server, 'podium_shadow_total{result="shed_busy"}')


def test_a_server_that_is_full_of_copies_stops_at_once(server):
    for n in range(50):
        server.rank(user={"id": f"u{n}"}, candidates=ITEMS)

    began = time.monotonic()
    code, errors = server.stop()

    assert code == 0, errors
    assert time.monotonic() - began < 5
