"""A version that nobody holds leaves; only one that somebody holds is complained of."""

import pytest

from service.deployments import leaving
from service.deployments.leaving import Held, leave
from service.heap import settled
from tests.support.rankers import deployment_of


@pytest.mark.parametrize("somebody_holds", [False, True])
async def test_what_only_holds_itself_is_not_called_held(
    tiny_bundle, clock, monkeypatch, caplog, somebody_holds
):
    """As a failed request and its exception do, until Python collects."""
    monkeypatch.setattr(leaving, "LONGEST_REQUEST_S", 0.01)
    deployment = deployment_of(tiny_bundle, clock=clock)
    cycle: list[object] = [deployment]
    cycle.append(cycle)
    holders = [deployment] if somebody_holds else []
    held = Held([deployment])

    with settled():
        del deployment, cycle
        await leave(held, ())

    assert held.released.is_set() is not somebody_holds
    assert bool(caplog.messages) is bool(holders)
