"""What was made the default outlives a restart; one change is made at a time."""

import logging

import pytest

from service.deployments.activations import Activations
from service.errors import ChangeUnderWay, LoadRefused


def test_what_is_kept_is_there_after_a_restart(tmp_path):
    first = Activations(tmp_path)
    assert first.version("tiny") is None

    first.keep("tiny", "0a1b2c3d")
    first.keep("other", "99999999")
    first.keep("tiny", "11111111")

    again = Activations(tmp_path)
    assert (again.version("tiny"), again.version("other")) == ("11111111", "99999999")
    assert again.version("third") is None


def test_a_file_that_nobody_can_read_activates_nothing(tmp_path, caplog):
    activations = Activations(tmp_path)
    activations.file.write_text("{")

    with caplog.at_level(logging.WARNING):
        assert activations.version("tiny") is None

    assert str(activations.file) in caplog.text


def test_a_file_that_cannot_be_written_refuses_the_change(tmp_path):
    activations = Activations(tmp_path)
    activations.file.with_suffix(".new").mkdir()

    with pytest.raises(LoadRefused, match=r"models\.json cannot be written"):
        activations.keep("tiny", "0a1b2c3d")


def test_two_changes_are_never_made_at_once(tmp_path):
    """Each worker has an object of its own; the file is common to all."""
    ours, theirs = Activations(tmp_path / "state"), Activations(tmp_path / "state")

    with ours.changing(), pytest.raises(ChangeUnderWay), theirs.changing():
        pass
    with theirs.changing():
        pass
