"""The story told for real, in little: processes started, checked, measured, and gone."""

import sys
from pathlib import Path

import msgspec
import pytest

from ranking_models.architectures import Imported
from ranking_models.bundle import Bundle, write_bundle
from service.profiling.story import Plan, StoryOptions, tell_story
from service.profiling.story.steps import peer_of
from service.testing import FakeClock
from tests.support.bundles import tiny_contents

LITTLE = Plan(
    rounds=1, seconds=0.3, connections=(8,), open_shares=(0.3, 0.5), warm_s=5.0, choosing_s=0.1
)


class Told:
    """What was begun."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.shares: list[float] = []

    def begin(self, what: str) -> None:
        self.begun.append(what)

    def share(self, done: float) -> None:
        self.shares.append(done)


@pytest.mark.slow
def test_a_story_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    # Without a network, so that nobody waits for PyTorch to be loaded.
    imported = Imported(producer="somebody", sha256="0" * 64)
    contents = msgspec.structs.replace(tiny_contents(items=60), architecture=imported)
    bundle = Bundle.open(write_bundle(tmp_path / "bundles", contents))
    options = StoryOptions(
        plan=LITTLE,
        workers=1,
        peer=peer_of(Path(sys.executable)),
        price_per_hour=1.0,
        plans=tmp_path / "plans",
        note="why",
    )
    progress = Told()

    story = tell_story(bundle, options, progress=progress, clock=FakeClock())

    reasons = {left.number: left.reason for left in story.left_out}
    assert "imported as an ONNX graph" in reasons[0]
    assert reasons[3]
    assert [step.number for step in story.steps] == [1, 2, 4]
    assert story.steps[0].times == 1.0
    assert story.note == "why"
    for step in story.steps:
        assert step.per_s > 0
        assert step.failed == 0
        assert step.largest_difference <= 1e-4
        assert step.closed.p50_ms <= step.closed.p99_ms
        assert [loop.share for loop in step.open] == [0.3, 0.5]
        rates = [loop.rate_per_s for loop in step.open]
        assert rates == [pytest.approx(share * step.per_s) for share in (0.3, 0.5)]
        assert step.sustained in (None, *step.open)
        assert step.cost_per_million_rankings == pytest.approx(1e6 / 3600 / step.per_s)
    cached = story.steps[-1].page_hits
    assert [step.page_hits for step in story.steps[:-1]] == [None, None]
    # All pages are kept beforehand; a cache server that is late on a busy machine is no hit.
    assert cached is not None
    assert 0.9 <= cached <= 1.0
    assert story.traffic.warmed_pages == story.traffic.items == 60
    assert progress.begun[-1] == "measuring"
    assert progress.shares[-1] == 1.0
    assert list((tmp_path / "scratch").iterdir()) == []
