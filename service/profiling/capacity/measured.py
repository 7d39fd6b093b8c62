"""CPU time per ranking and per row, from the story that ``podium bench --story --out`` wrote.

The story serves the same traffic without a cache and with one. Both steps pay for HTTP,
experiments and the reply; the rows that the cache saves are the difference:

    without = ranking + candidates * row
    cached  = ranking + (1 - hits) * candidates * row
"""

from pathlib import Path

import msgspec

from service.errors import StartupError
from service.profiling.capacity.values import Measured
from service.profiling.story.steps import BATCHING, CACHE
from service.profiling.story.values import Story

SHIPPED = Path(__file__).parent / "measured.json"
"""Of the demonstration's model, on the machine that it names."""
LARGEST_BYTES = 10_000_000


def shipped_measurement() -> Measured:
    """What comes with Podium."""
    return read_measured(SHIPPED)


def read_measured(file: Path) -> Measured:
    """The story of a file as CPU times.

    Raises:
        StartupError: it cannot be read, is no story, or says nothing about the cache.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(LARGEST_BYTES + 1)
        story = msgspec.json.decode(text, type=Story)
    except OSError as error:
        raise StartupError(f"{file}: cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StartupError(
            f"{file}: not what `podium bench --story --out` writes: {error}"
        ) from None
    return measured_by(story, str(file))


def measured_by(story: Story, where: str) -> Measured:
    """The two CPU times of a story.

    Raises:
        StartupError: a step is missing, or the cache saved no CPU time.
    """
    steps = {step.number: step for step in story.steps}
    if BATCHING not in steps or CACHE not in steps:
        raise StartupError(f"{where}: the steps {BATCHING} and {CACHE} of the story are needed")
    without, cached = steps[BATCHING], steps[CACHE]
    traffic = story.traffic
    hits = traffic.page_share * (cached.page_hits or 0.0) + (1 - traffic.page_share) * (
        cached.rank_hits or 0.0
    )
    saved_us = without.cpu_us - cached.cpu_us
    rows_us = saved_us / hits if hits > 0 else 0.0
    if not 0 < rows_us < without.cpu_us:
        raise StartupError(
            f"{where}: with the cache an answer took {cached.cpu_us:.0f} us of CPU, without it "
            f"{without.cpu_us:.0f}: run `podium bench --story` again on a quiet machine"
        )
    return Measured(
        model=f"{story.model}@{story.version}",
        cpu=story.machine.cpu,
        cores=story.machine.cores,
        created=story.created,
        candidates=round(traffic.predictions_per_request),
        ranking_cpu_us=without.cpu_us - rows_us,
        row_cpu_us=rows_us / traffic.predictions_per_request,
        other_cores=story.other_cores,
    )
