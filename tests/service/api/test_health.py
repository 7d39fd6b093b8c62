"""What load balancers see."""

import pytest
from litestar.di import Provide
from litestar.testing import create_test_client

from service.api.health import ready
from service.health import ComponentHealth, Health


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [("ok", 200, "ready"), ("degraded", 200, "degraded"), ("failed", 503, "not_ready")],
)
def test_traffic_goes_elsewhere_when_a_part_that_it_needs_has_failed(status, code, said):
    health = Health({"deployment:ranker": lambda: ComponentHealth(status=status, detail="why")})
    provided = Provide(lambda: health, sync_to_thread=False)

    with create_test_client(ready, dependencies={"health": provided}) as client:
        answer = client.get("/health/ready")

    assert answer.status_code == code
    assert answer.json() == {
        "status": said,
        "components": {"deployment:ranker": {"status": status, "detail": "why"}},
    }
