"""Profiles made by hand, for what is read from them."""

from collections.abc import Mapping
from datetime import UTC, datetime

from service.profiling.values import (
    Contender,
    ContenderFigures,
    LeftOut,
    Machine,
    Noise,
    Profile,
    Recommendation,
    SizeFigures,
    Standing,
    Together,
    cost_per_million,
)


def contender(
    engine: str = "onnxruntime-cpu",
    precision: str = "fp32",
    threads: int | None = 1,
    *,
    split: bool = False,
) -> Contender:
    return Contender(engine=engine, precision=precision, threads=threads, split=split)


def figures(
    who: Contender,
    rates: Mapping[int, float],
    *,
    standing: Standing = "reference",
    cores: int = 2,
    price: float | None = None,
) -> ContenderFigures:
    """A contender with so many rows a second by rows; p95 is half as long again as the median."""
    engines = 1 if who.threads is None else cores // who.threads
    best = max(rates.values())
    return ContenderFigures(
        contender=who,
        standing=standing,
        golden_difference=1e-7,
        load_s=0.1,
        engines=engines,
        sizes=tuple(
            SizeFigures(
                rows=rows,
                calls=100,
                p50_ms=1e3 * rows / rate,
                p95_ms=1.5e3 * rows / rate,
                rows_per_s=rate,
                efficiency=rate / best,
                rows_per_s_thread=None if who.threads is None else rate / who.threads,
                cost_per_million=cost_per_million(price, rate * engines),
            )
            for rows, rate in rates.items()
        ),
    )


def profile(
    *measured: ContenderFigures,
    model: str = "tiny",
    price: float | None = None,
    rounds: int = 12,
    other_cores: float | None = 0.0,
    left_out: tuple[LeftOut, ...] = (),
    recommendation: Recommendation | None = None,
    together: Together | None = None,
) -> Profile:
    return Profile(
        model=model,
        version="0123abcd",
        created=datetime(2026, 11, 22, 9, 30, tzinfo=UTC),
        machine=Machine(
            system="Linux 6.1 x86_64", cpu="Some CPU", cores=2, gpu=None, versions={"python": "3"}
        ),
        price_per_hour=price,
        seconds=20.0,
        rounds=rounds,
        candidates_per_request=100,
        noise=Noise(other_cores=other_cores, spread=0.5),
        figures=measured,
        left_out=left_out,
        recommendation=recommendation,
        together=together,
    )
