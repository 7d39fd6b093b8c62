"""A service in a process of its own says where it listens, or why it does not."""

import pytest

from service.errors import StartupError
from service.loadgen.process import serving


def test_a_service_that_cannot_start_says_why_in_its_own_words(tmp_path):
    missing = tmp_path / "missing.toml"

    with (
        serving(["--config", str(missing)]) as service,
        pytest.raises(StartupError, match=r"missing\.toml: there is no such settings file"),
    ):
        service.url(longest_s=60)

    assert service.wait() == 2


def test_a_service_that_does_not_listen_in_time_is_given_up(tmp_path):
    with (
        serving(["--port", "0", "--state-directory", str(tmp_path)]) as service,
        pytest.raises(StartupError, match="did not listen within 0 s"),
    ):
        service.url(longest_s=0)
