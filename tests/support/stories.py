"""A story by hand, for what is printed and drawn of it."""

from datetime import UTC, datetime

import msgspec

from service.profiling.story.values import (
    SUSTAINED_P99_MS,
    Latency,
    OpenLoop,
    StepFigures,
    StepLeftOut,
    Story,
    Traffic,
    sustained_of,
)
from service.profiling.values import Machine


def loop(share: float, p99_ms: float, *, per_s: float = 100.0, **more: object) -> OpenLoop:
    figures = OpenLoop(
        share=share,
        rate_per_s=share * per_s,
        latency=Latency(p50_ms=p99_ms / 4, p99_ms=p99_ms),
        cpu_us=2500.0,
        generator_cores=0.2,
        late_p99_ms=0.2,
        failed=0,
    )
    return msgspec.structs.replace(figures, **more)


def step(
    number: int,
    per_s: float = 100.0,
    *,
    p99s_ms: tuple[float, float] = (8.0, 20.0),
    **more: object,
) -> StepFigures:
    """With two open loops, at half and at 0.8 of its maximum, and their p99."""
    loops = tuple(
        loop(share, p99_ms, per_s=per_s) for share, p99_ms in zip((0.5, 0.8), p99s_ms, strict=True)
    )
    figures = StepFigures(
        number=number,
        name=f"name {number}",
        what=f"what ran in {number}",
        per_s=per_s,
        times=1.0,
        connections=64,
        closed=Latency(p50_ms=50.0, p99_ms=90.0),
        open=loops,
        sustained=sustained_of(loops),
        page_hits=None,
        rank_hits=None,
        cpu_us=2000.0,
        generator_cores=0.1,
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
        note="",
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
        sustained_p99_ms=SUSTAINED_P99_MS,
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
