"""Readiness: whether traffic should come, and why not."""

import pytest

from service.health import ComponentHealth, Health

OK = ComponentHealth(status="ok")
DEGRADED = ComponentHealth(status="degraded", detail="slower")
FAILED = ComponentHealth(status="failed", detail="no engine")


def health(*components):
    return Health({str(n): lambda c=component: c for n, component in enumerate(components)})


@pytest.mark.parametrize(
    ("components", "status", "takes_traffic"),
    [
        ((OK, OK), "ready", True),
        ((OK, DEGRADED), "degraded", True),
        ((FAILED, DEGRADED, OK), "not_ready", False),
    ],
)
def test_the_worst_component_decides(components, status, takes_traffic):
    readiness = health(*components).readiness()

    assert readiness.status == status
    assert readiness.takes_traffic is takes_traffic
    assert tuple(readiness.components.values()) == components


def test_a_detail_names_files_and_no_folders():
    found = ComponentHealth(status="failed", detail="no engine: /srv/models/m/1/ranker.onnx: bad")

    (told,) = health(found).readiness().components.values()

    assert told.detail == "no engine: ranker.onnx: bad"


@pytest.mark.parametrize("component", [OK, DEGRADED, FAILED])
def test_a_server_that_drains_takes_no_traffic_however_it_is(component):
    draining = health(component)
    assert not draining.is_draining

    draining.drain()

    assert draining.is_draining
    assert draining.readiness().status == "draining"
    assert not draining.readiness().takes_traffic
