"""Contenders as they are loaded: each with its own threads and form, and all of them proved."""

from pathlib import Path

import msgspec
import pytest

from ranking_models.bundle import Bundle
from service.clock import SystemClock
from service.profiling.opening import Opened, Opener, settings_of
from service.profiling.values import LeftOut
from service.settings import EngineSettings
from tests.support.profiles import contender
from tests.support.split_graphs import write_split_bundle


@pytest.fixture
def opener(tmp_path: Path) -> Opener:
    bundle = Bundle.open(write_split_bundle(tmp_path))
    return Opener(bundle, EngineSettings(), tmp_path / "plans", SystemClock())


@pytest.mark.parametrize("split", [False, True])
def test_a_contender_runs_in_its_form_and_has_given_the_golden_scores(opener, split):
    opened = opener.open(contender(split=split))

    assert isinstance(opened, Opened)
    assert opened.engine.info.split is split
    assert 0 <= opened.golden_difference <= 1e-5
    assert opened.load_s > 0
    opened.engine.close()


def test_one_that_cannot_be_loaded_is_left_out(opener):
    left = opener.open(contender(precision="fp16"))

    assert isinstance(left, LeftOut)
    assert left.what == "onnxruntime-cpu fp16, 1 thread"
    assert "fp16" in left.reason


def test_each_has_its_own_threads_and_the_rest_is_as_asked():
    asked = EngineSettings(device=1, triton_url="localhost:8000")

    settings = settings_of(contender(threads=3), asked)

    unasked = msgspec.structs.replace(settings, threads=1, split="auto", calibrate=True)
    assert (settings.threads, settings.split, settings.calibrate) == (3, "off", False)
    assert unasked == asked
