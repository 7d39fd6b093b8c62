"""A story by hand, for what is printed and drawn of it."""

from datetime import UTC, datetime

import msgspec

from service.profiling.story.values import Latency, StepFigures, StepLeftOut, Story, Traffic
from service.profiling.values import Machine


def step(number: int, per_s: float = 100.0, **more: object) -> StepFigures:
    figures = StepFigures(
        number=number,
        name=f"name {number}",
        what=f"what ran in {number}",
        per_s=per_s,
        times=1.0,
        connections=64,
        closed=Latency(p50_ms=50.0, p99_ms=90.0),
        open_rate_per_s=0.8 * per_s,
        open=Latency(p50_ms=5.0, p99_ms=20.0),
        page_hits=None,
        rank_hits=None,
        cpu_us=2000.0,
        generator_cores=0.1,
        late_p99_ms=0.2,
        failed=0,
        largest_difference=1e-7,
        cost_per_million_rankings=None,
        cost_per_million_predictions=None,
    )
    return msgspec.structs.replace(figures, **more)


def story(*steps: StepFigures, left_out: tuple[StepLeftOut, ...] = (), **more: object) -> Story:
    told = Story(
        model="shop",
        version="12345678",
        created=datetime(2026, 11, 22, 12, 0, tzinfo=UTC),
        machine=Machine(
            system="Linux 6 x86_64",
            cpu="A <fast> CPU",
            cores=2,
            gpu=None,
            versions={"python": "3.11.7"},
        ),
        workers=2,
        price_per_hour=None,
        rounds=3,
        seconds=4.0,
        open_share=0.8,
        traffic=Traffic(
            page_share=0.9,
            zipf=1.07,
            items=2000,
            candidates=100,
            slate=20,
            predictions_per_request=100.0,
            warmed_pages=2000,
        ),
        other_cores=0.05,
        steps=steps,
        left_out=left_out,
    )
    return msgspec.structs.replace(told, **more)
