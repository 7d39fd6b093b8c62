"""CPU time per row and per ranking, from what ``podium bench`` and its story wrote.

A row: the recommended engine in all processes at once, or the best engine of the CPU alone; and of
a GPU, if one was measured. A ranking: the story's step with the cache, less the rows that its
requests scored all the same:

    cached = ranking + (1 - hits) * candidates * row
"""

from pathlib import Path
from typing import TypeVar

import msgspec

from service.errors import StartupError
from service.profiling.capacity.values import Measured
from service.profiling.story.steps import CACHE
from service.profiling.story.values import Story
from service.profiling.values import ContenderFigures, Profile

SHIPPED_BENCH = Path(__file__).parent / "bench.json"
SHIPPED_STORY = Path(__file__).parent / "story.json"
"""Of the demonstration's model, on the machine that they name."""
LARGEST_BYTES = 10_000_000
ON_A_GPU = {"tensorrt", "onnxruntime-cuda"}
QUIET = "run it again on a quiet machine"
_File = TypeVar("_File", Profile, Story)


def read_measured(bench: Path = SHIPPED_BENCH, story: Path = SHIPPED_STORY) -> Measured:
    """Both files as CPU times.

    Args:
        bench: What ``podium bench --out`` wrote.
        story: What ``podium bench --story --out`` wrote.

    Raises:
        StartupError: one cannot be read, is something else, or says nothing about the CPU; or they
            are of two models, so that the rows of one would be taken from the rankings of another.
    """
    profile = _read(bench, Profile, "podium bench --out")
    told = _read(story, Story, "podium bench --story --out")
    model, story_model = (f"{one.model}@{one.version}" for one in (profile, told))
    if model != story_model:
        raise StartupError(
            f"{bench} is of {model} and {story} of {story_model}: measure both of one model, with "
            "`podium bench MODEL --out` and `podium bench MODEL --story --out`"
        )
    row_us = row_cpu_us(profile, str(bench))
    return Measured(
        model=model,
        cpu=profile.machine.cpu,
        cores=profile.machine.cores,
        created=profile.created,
        row_cpu_us=row_us,
        gpu=profile.machine.gpu,
        gpu_rows_per_s=gpu_rows_per_s(profile),
        story_model=story_model,
        story_cpu=told.machine.cpu,
        story_created=told.created,
        ranking_cpu_us=ranking_cpu_us(told, row_us, str(story)),
        other_cores=max(told.other_cores, profile.noise.other_cores or 0.0),
    )


def row_cpu_us(profile: Profile, where: str) -> float:
    """CPU time of a row on a machine that is busy with nothing else.

    Raises:
        StartupError: no engine of the CPU was measured that may serve.
    """
    together, recommended = profile.together, profile.recommendation
    if together is not None and recommended is not None:
        threads = recommended.contender.threads or 1
        return together.processes * threads * 1e6 / together.rows_per_s
    alone = [rate for one in _may_serve(profile) if (rate := one.best.rows_per_s_thread)]
    if not alone:
        raise StartupError(f"{where}: has no engine of the CPU; add onnxruntime-cpu to --engines")
    return 1e6 / max(alone)


def gpu_rows_per_s(profile: Profile) -> float | None:
    """Of the best engine on one GPU; None where none was measured."""
    rates = [one.best.rows_per_s for one in _may_serve(profile) if one.contender.engine in ON_A_GPU]
    return max(rates, default=None)


def ranking_cpu_us(story: Story, row_us: float, where: str) -> float:
    """CPU time of a ranking whose scores are known.

    Raises:
        StartupError: the story has no step with a cache, or its rows alone took longer.
    """
    cached = next((step for step in story.steps if step.number == CACHE), None)
    if cached is None:
        raise StartupError(f"{where}: has no step with the cache")
    pages, of_pages = cached.page_hits or 0.0, story.traffic.page_share
    hits = of_pages * pages + (1 - of_pages) * (cached.rank_hits or 0.0)
    scored_us = (1 - hits) * story.traffic.predictions_per_request * row_us
    if scored_us >= cached.cpu_us:
        raise StartupError(
            f"{where}: an answer took {cached.cpu_us:.0f} us of CPU, less than the "
            f"{scored_us:.0f} us of its rows by the other file: are both of one model? {QUIET}"
        )
    return cached.cpu_us - scored_us


def _may_serve(profile: Profile) -> list[ContenderFigures]:
    return [one for one in profile.figures if one.standing in {"reference", "passed"}]


def _read(file: Path, kind: type[_File], command: str) -> _File:
    try:
        with file.open("rb") as stream:
            return msgspec.json.decode(stream.read(LARGEST_BYTES), type=kind)
    except OSError as error:
        raise StartupError(f"{file}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StartupError(f"{file}: not what `{command}` writes: {error}") from None
