"""Definitions that outlive a worker, and never their service."""

import pytest

from experiments.definition import Experiment, Rollout, Rule, Variant
from service.rollouts.last_good import LastGood

EVERYTHING = Experiment(
    key="e",
    layer="deployment",
    targeting=(Rule("hour", "in", (1, 2.5, "x", True)), Rule("x", "exists")),
    overrides={"u": "b"},
    rollout=Rollout(stages_bp=(100, 10_000), automatic=True),
    variants=(
        Variant(name="a", share_bp=4_000, deployment="one", cache="off"),
        Variant(name="b", share_bp=6_000),
    ),
)


def test_what_was_kept_is_read_as_it_was(tmp_path):
    LastGood(tmp_path, "s").keep((EVERYTHING,))

    assert LastGood(tmp_path, "s").read() == (EVERYTHING,)
    assert LastGood(tmp_path, "another").read() is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"service": "s", "definitions": 3}'])
def test_what_cannot_be_read_is_nothing(tmp_path, content):
    kept = LastGood(tmp_path, "s")
    assert kept.read() is None
    kept.file.write_bytes(content)

    assert kept.read() is None


def test_what_cannot_be_written_is_told_and_no_failure(tmp_path, caplog):
    (tmp_path / "file").write_text("no directory")

    LastGood(tmp_path / "file", "s").keep((EVERYTHING,))

    assert "cannot be written" in caplog.text
