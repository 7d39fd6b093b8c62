"""One server for all end-to-end tests that do not break it."""

import pytest

from tests.support.server import EXPERIMENTS, serving


@pytest.fixture(scope="session")
def server():
    with serving(experiments=EXPERIMENTS) as running:
        yield running
