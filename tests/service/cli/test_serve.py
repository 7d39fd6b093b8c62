"""``podium serve``: usage that is wrong before anything starts."""

import pytest

from service.cli import run


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_that_is_none_is_an_error_of_the_flag_and_not_of_a_file(capsys, port):
    assert run(["serve", "--port", port]) == 2

    error = capsys.readouterr().err
    assert "'--port'" in error
    assert ".toml" not in error
    assert error.count("\n") == 1
