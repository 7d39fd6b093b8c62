"""What tests of routing, scoring and ranking share."""

import pytest

from ranking_models.bundle import Bundle
from service.testing import FakeClock
from tests.support.bundles import write_tiny_bundle


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Bundle:
    """A bundle that nobody changes."""
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles")))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()
