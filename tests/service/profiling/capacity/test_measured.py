"""CPU times come from what ``podium bench`` and its story wrote, and from nothing else."""

import msgspec
import pytest

from service.errors import StartupError
from service.profiling.capacity import read_measured
from service.profiling.capacity.measured import (
    SHIPPED_BENCH,
    SHIPPED_STORY,
    gpu_rows_per_s,
    ranking_cpu_us,
    row_cpu_us,
)
from service.profiling.story.values import Story, encode_story
from service.profiling.values import Profile

PROFILE = msgspec.json.decode(SHIPPED_BENCH.read_bytes(), type=Profile)
STORY = msgspec.json.decode(SHIPPED_STORY.read_bytes(), type=Story)
replace = msgspec.structs.replace


def story(cpu_us, *, page_hits=1.0, rank_hits=0.0):
    """The shipped one with other figures: nine of ten requests are pages, 100 candidates each."""
    traffic = replace(STORY.traffic, page_share=0.9, predictions_per_request=100.0)
    steps = tuple(
        replace(step, cpu_us=cpu_us, page_hits=page_hits, rank_hits=rank_hits)
        if step.number == 4
        else step
        for step in STORY.steps
    )
    return replace(STORY, traffic=traffic, steps=steps)


def figures(*, engine, rows_per_s, threads=1, standing="passed"):
    """Of one contender, at one size."""
    one = PROFILE.figures[0]
    per_thread = rows_per_s / threads if threads else None
    size = replace(one.sizes[0], rows_per_s=rows_per_s, rows_per_s_thread=per_thread)
    contender = replace(one.contender, engine=engine, threads=threads)
    return replace(one, contender=contender, standing=standing, sizes=(size,))


def alone(*found):
    return replace(PROFILE, figures=found, together=None)


def test_a_ranking_is_an_answer_less_the_rows_that_were_scored_all_the_same():
    """A tenth of 100 candidates, 2 us each, of 150."""
    assert ranking_cpu_us(story(150.0), 2.0, "story") == pytest.approx(130)
    assert ranking_cpu_us(story(150.0, rank_hits=1.0), 2.0, "story") == pytest.approx(150)


def test_a_row_is_measured_with_all_cores_at_work():
    together = replace(PROFILE.together, processes=2, rows_per_s=1_000_000.0)

    assert row_cpu_us(replace(PROFILE, together=together), "bench") == pytest.approx(2)


def test_else_by_the_best_engine_of_the_cpu_that_may_serve():
    found = alone(
        figures(engine="onnxruntime-cpu", rows_per_s=400_000.0, threads=2),
        figures(engine="openvino", rows_per_s=900_000.0, standing="failed"),
        figures(engine="tensorrt", rows_per_s=9e6, threads=None),
    )

    assert row_cpu_us(found, "bench") == pytest.approx(5)
    assert gpu_rows_per_s(found) == pytest.approx(9e6)


def test_a_server_elsewhere_is_no_gpu_of_ours():
    found = alone(figures(engine="triton", rows_per_s=9e6, threads=None))

    assert gpu_rows_per_s(found) is None
    with pytest.raises(StartupError, match="has no engine of the CPU"):
        row_cpu_us(found, "bench.json")


def test_files_of_two_models_are_refused(tmp_path):
    (tmp_path / "story.json").write_bytes(encode_story(replace(STORY, model="another")))

    with pytest.raises(StartupError, match=r"bench.json is of marketplace@.* of another@"):
        read_measured(story=tmp_path / "story.json")


def test_files_that_contradict_each_other_are_refused():
    with pytest.raises(StartupError, match="are both of one model"):
        ranking_cpu_us(story(10.0), 2.0, "story.json")


def test_a_story_without_the_cache_is_refused():
    with pytest.raises(StartupError, match="no step with the cache"):
        ranking_cpu_us(replace(STORY, steps=STORY.steps[:2]), 2.0, "story.json")


@pytest.mark.parametrize("text", ["{}", "no json", "\udcff"])
def test_another_file_is_refused_in_one_line_that_names_it(text, tmp_path):
    file = tmp_path / "b.json"
    file.write_text(text, errors="surrogateescape")

    with pytest.raises(StartupError, match=r"b\.json: not what `podium bench --out` writes"):
        read_measured(bench=file)
    with pytest.raises(StartupError, match=r"b\.json: not what `podium bench --story --out`"):
        read_measured(story=file)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StartupError, match=r"gone\.json: cannot be read"):
        read_measured(tmp_path / "gone.json")


def test_what_ships_says_what_it_is_of_and_claims_no_gpu():
    found = read_measured()

    assert found.model.startswith("marketplace@")
    assert found.model == found.story_model
    assert found.row_cpu_us > 0
    assert found.gpu_rows_per_s is None
