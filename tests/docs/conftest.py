"""The demonstration, served once for all pages."""

import pytest

from service.loadgen.process import serving
from tests.support.documents import ROOT

START_S = 60.0


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """An empty folder, but for what a checkout has."""
    found = tmp_path_factory.mktemp("docs")
    for folder in ("deploy", "service", "ranking_models", "experiments", "tests"):
        (found / folder).symlink_to(ROOT / folder)
    return found


@pytest.fixture(scope="session")
def url(tmp_path_factory):
    """As `make serve` serves it."""
    state = tmp_path_factory.mktemp("s")
    with serving(["--port", "0", "--workers", "1", "--state-directory", str(state)]) as service:
        yield service.url(longest_s=START_S)
