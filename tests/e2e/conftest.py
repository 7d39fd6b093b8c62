"""One server of each kind for all end-to-end tests that do not break it."""

import pytest

from tests.support.server import EXPERIMENTS, SETTINGS, serving


@pytest.fixture(scope="session")
def server():
    with serving(experiments=EXPERIMENTS) as running:
        yield running


@pytest.fixture(scope="session")
def several():
    """One of two workers."""
    settings = SETTINGS.replace("workers = 1", "workers = 2")
    with serving(settings=settings, experiments=EXPERIMENTS) as running:
        yield running
