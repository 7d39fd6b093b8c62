"""A profile as lines of text."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from service.profiling.values import Profile, SizeFigures, Together

QUIET_CORES = 0.2
"""Other processes that keep more than this busy make figures doubtful."""
FEW_ROUNDS = 5

Row = tuple[str, ...]


def render_profile(profile: Profile) -> str:
    """What a person reads: the table, what is not in it, the noise, and the advice."""
    return "".join(f"{line}\n" for line in _lines(profile))


def _lines(profile: Profile) -> Iterator[str]:
    machine = profile.machine
    used = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    gpu = f", {machine.gpu}" if machine.gpu else ""
    yield f"{profile.model}@{profile.version} on {machine.cores} cores of {machine.cpu}{gpu}"
    yield f"{profile.created:%Y-%m-%d %H:%M} UTC, {used}"
    yield (
        f"{profile.rounds} interleaved rounds in {profile.seconds:.0f} s; a call gathers the "
        f"features of {profile.candidates_per_request} candidates a request and scores them"
    )
    for one in profile.figures:
        yield ""
        yield (
            f"{one.contender.name} (golden rows off by at most {one.golden_difference:.1e}, "
            f"loaded in {one.load_s:.1f} s)"
        )
        yield from _aligned_right(_table(one.sizes))
    yield ""
    yield from _notes(profile)
    for left in profile.left_out:
        yield f"not measured: {left.what}: {left.reason}"
    yield ""
    yield from _advice(profile)


def _table(sizes: Sequence[SizeFigures]) -> Iterator[Row]:
    has_threads = sizes[0].rows_per_s_thread is not None
    has_price = sizes[0].cost_per_million is not None
    yield (
        *("rows", "calls", "ms", "p95 ms", "rows/s", "of best"),
        *(("rows/s a thread",) if has_threads else ()),
        *(("per million",) if has_price else ()),
    )
    for size in sizes:
        yield (
            f"{size.rows:,}",
            f"{size.calls:,}",
            f"{size.p50_ms:.3f}",
            f"{size.p95_ms:.3f}",
            f"{size.rows_per_s:,.0f}",
            f"{size.efficiency:.0%}",
            *(() if size.rows_per_s_thread is None else (f"{size.rows_per_s_thread:,.0f}",)),
            *(() if size.cost_per_million is None else (_price(size.cost_per_million),)),
        )


def _notes(profile: Profile) -> Iterator[str]:
    if profile.rounds < FEW_ROUNDS:
        yield "so few rounds say little: give more --seconds, or compare less"
    if profile.price_per_hour is not None:
        yield (
            f"per million = {profile.price_per_hour:g} an hour / (3,600 x rows/s x engines) x "
            "1,000,000: scoring alone, on all cores;"
        )
        yield "engines = cores / threads, each taken to be as fast as one alone; on a device 1"
    noise = profile.noise
    spread = f"the p95 of a call lies {noise.spread:.0%} above its median"
    if noise.other_cores is None:
        yield f"noise: {spread}"
        return
    yield f"noise: other processes kept {noise.other_cores:.2f} cores busy; {spread}"


def _advice(profile: Profile) -> Iterator[str]:
    recommended = profile.recommendation
    if recommended is None:
        yield "nothing is recommended: no precision measured here has passed a gate; add fp32"
        return
    yield (
        "recommended:" if _was_quiet(profile) else "recommended, but run again on a quiet machine:"
    )
    yield from (f"  {reason}" for reason in recommended.reasons)
    if profile.together is not None:
        yield f"  {_together(profile.together)}"
    yield ""
    yield "# for podium serve --config"
    yield from recommended.toml.splitlines()


def _was_quiet(profile: Profile) -> bool:
    """As far as anybody knows."""
    others = profile.noise.other_cores
    return others is None or others <= QUIET_CORES


def _together(together: Together) -> str:
    price = together.cost_per_million
    cost = "" if price is None else f", {_price(price)} per million"
    return (
        f"Measured in {together.processes} processes, with nothing between the calls: "
        f"{together.rows_per_s:,.0f} rows/s{cost}; "
        f"{together.scaling:.0%} of {together.processes} times one alone."
    )


def _price(price: float) -> str:
    """Three digits, never as a power of ten."""
    return np.format_float_positional(price, precision=3, fractional=False, unique=False)


def _aligned_right(rows: Iterable[Row]) -> Iterator[str]:
    filled = list(rows)
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    for row in filled:
        yield "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
