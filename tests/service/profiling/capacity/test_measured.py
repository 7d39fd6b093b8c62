"""CPU times come from the two steps of the story that differ by the cache alone."""

import msgspec
import pytest

from service.errors import StartupError
from service.profiling.capacity import read_measured, shipped_measurement
from service.profiling.capacity.measured import SHIPPED, measured_by
from service.profiling.story.values import Story

SHOWN = msgspec.json.decode(SHIPPED.read_bytes(), type=Story)


def story(*, without_us, cached_us, page_hits=1.0, rank_hits=0.0):
    """The shipped one with other figures: nine of ten requests are pages, 100 candidates each."""
    traffic = msgspec.structs.replace(SHOWN.traffic, page_share=0.9, predictions_per_request=100.0)
    figures = {2: without_us, 4: cached_us}
    steps = tuple(
        msgspec.structs.replace(
            step,
            cpu_us=figures.get(step.number, step.cpu_us),
            page_hits=page_hits if step.number == 4 else None,
            rank_hits=rank_hits if step.number == 4 else None,
        )
        for step in SHOWN.steps
    )
    return msgspec.structs.replace(SHOWN, traffic=traffic, steps=steps)


def test_what_the_cache_saves_is_the_rows():
    """300 us = ranking + 100 rows; 120 us = ranking + a tenth of them."""
    found = measured_by(story(without_us=300.0, cached_us=120.0), "story")

    assert found.row_cpu_us == pytest.approx(2.0)
    assert found.ranking_cpu_us == pytest.approx(100.0)


def test_hits_of_rank_requests_count_as_well():
    found = measured_by(story(without_us=300.0, cached_us=100.0, rank_hits=1.0), "story")

    assert found.row_cpu_us == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("without", "cached", "hits"), [(300, 310, 1), (300, 20, 1), (300, 200, 0)]
)
def test_a_story_of_a_busy_machine_is_refused(without, cached, hits):
    with pytest.raises(StartupError, match="again on a quiet machine"):
        measured_by(story(without_us=without, cached_us=cached, page_hits=hits), "story")


def test_a_story_without_the_cache_is_refused():
    short = msgspec.structs.replace(SHOWN, steps=SHOWN.steps[:2])

    with pytest.raises(StartupError, match="the steps 2 and 4"):
        measured_by(short, "story.json")


@pytest.mark.parametrize("text", ["{}", "no json", "\udcff"])
def test_another_file_is_refused_in_one_line_that_names_it(text, tmp_path):
    file = tmp_path / "b.json"
    file.write_text(text, errors="surrogateescape")

    with pytest.raises(StartupError, match=r"b\.json: not what `podium bench --story --out`"):
        read_measured(file)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StartupError, match=r"gone\.json: cannot be read"):
        read_measured(tmp_path / "gone.json")


def test_what_ships_says_what_it_is_of():
    found = shipped_measurement()

    assert found.model.startswith("marketplace@")
    assert found.row_cpu_us > 0
