"""A capacity plan as lines of text; its tables are Markdown too."""

from collections.abc import Iterable, Iterator, Sequence

from service.profiling.capacity.values import Capacity

QUIET_CORES = 0.2
"""Others that keep more than this busy make a measurement doubtful."""


def render_capacity(found: Capacity) -> str:
    """What a person reads: what was measured, what is assumed, and two tables."""
    return "".join(f"{line}\n" for line in _lines(found))


def _lines(found: Capacity) -> Iterator[str]:
    measured = found.measured
    yield "Measured:"
    yield (
        f"- {measured.row_cpu_us:.2f} us of CPU for a row that is scored: `podium bench`, "
        f"{measured.model}, {measured.cores} cores of {measured.cpu}, {measured.created:%Y-%m-%d}."
    )
    yield (
        f"- {measured.ranking_cpu_us:,.0f} us of CPU for a ranking besides: "
        f"`podium bench --story`, {measured.story_model}, {measured.story_cpu}, "
        f"{measured.story_created:%Y-%m-%d}."
    )
    if measured.other_cores > QUIET_CORES:
        yield (
            f"- Others kept {measured.other_cores:.1f} cores busy meanwhile: on a quiet machine "
            "it is less."
        )
    yield ""
    yield "Assumed, each an option of the command:"
    yield from (f"- {line}" for line in _assumed(found))
    yield ""
    yield "It follows:"
    yield (
        f"- A replica carries {found.replica_rankings_per_s:,.0f} rankings/s, scoring on its "
        "own cores."
    )
    yield f"- {_gpu(found)}"
    yield ""
    yield from _table(_plan_rows(found))
    yield ""
    yield from _table(_load_rows(found))


def _assumed(found: Capacity) -> Iterator[str]:
    assumed = found.assumptions
    work = "" if assumed.heavier == 1 else f", each {assumed.heavier:g} times the work"
    yield (
        f"{assumed.candidates} candidates a ranking{work}, {assumed.slate} in the slate, "
        f"{assumed.hit_rate:.0%} answered by the cache."
    )
    yield (
        f"Machines are used to {assumed.utilisation:.0%}, and "
        + (
            "one replica may be lost."
            if assumed.zones == 1
            else f"one of {assumed.zones} zones may be lost."
        )
    )
    yield (
        f"A replica has {assumed.cores} cores and {assumed.replica_gib:g} GiB; a core costs "
        f"{assumed.core_price:g} an hour, a GiB {assumed.gib_price:g}, a GPU "
        f"{assumed.gpu_price:g}."
    )
    yield (
        (
            f"A GPU scores as many rows as {assumed.gpu_cores:g} cores, and leaves "
            if found.measured.gpu_rows_per_s is None
            else "A GPU leaves "
        )
        + f"{assumed.gpu_left:.0%} of a measured row's CPU time to the CPU."
    )
    yield (
        f"The cache keeps {assumed.slates:,} slates of {assumed.slate_bytes:,} bytes; a server of "
        f"it has {assumed.cache_server_gib:g} GiB, answers "
        f"{assumed.cache_operations_per_s:,.0f} operations/s, and has a copy."
    )
    yield (
        f"{assumed.experiment_share:.0%} of the rankings are in an experiment, and "
        f"{assumed.events_per_ranking:g} impressions and clicks come back for each, "
        f"{assumed.event_cpu_us:g} us of CPU apiece; an installation takes in "
        f"{assumed.installation_events_per_s:,.0f} events/s."
    )


def _gpu(found: Capacity) -> str:
    pays = found.gpu_pays_from_cores
    known = (
        "as assumed; that is not measured"
        if found.measured.gpu_rows_per_s is None
        else f"as measured on {found.measured.gpu or 'a GPU'}"
    )
    price = (
        "" if pays is None else f" At its price it pays if it does the work of {pays:.1f} cores."
    )
    return f"A GPU scores {_three_digits(found.gpu_rows_per_s)} rows/s, {known}.{price}"


def _three_digits(value: float) -> str:
    """More would look like a measurement."""
    return f"{float(f'{value:.2e}'):,.0f}"


def _plan_rows(found: Capacity) -> Iterator[Sequence[str]]:
    yield (
        *("rankings/s", "rows scored on", "replicas", "GPUs", "cache servers", "installations"),
        *("per month", "three years", "per million rankings", "per million predictions"),
    )
    for load in found.loads:
        for plan in load.plans:
            yield (
                f"{load.rankings_per_s:,.0f}",
                plan.scoring,
                f"{plan.replicas:,}",
                f"{plan.gpus:,}",
                f"{load.cache_servers:,}",
                f"{load.installations:,}",
                f"{plan.price_per_month:,.0f}",
                f"{plan.price_three_years:,.0f}",
                f"{plan.per_million_rankings:.3g}",
                f"{plan.per_million_predictions:.2g}",
            )


def _load_rows(found: Capacity) -> Iterator[Sequence[str]]:
    yield (
        *("rankings/s", "predictions/s", "rows scored/s", "cache operations/s", "cache GiB"),
        *("events/s", "network Mbit/s"),
    )
    for load in found.loads:
        yield (
            f"{load.rankings_per_s:,.0f}",
            f"{load.predictions_per_s:,.0f}",
            f"{load.rows_per_s:,.0f}",
            f"{load.cache_operations_per_s:,.0f}",
            f"{load.cache_gib:.1f}",
            f"{load.events_per_s:,.0f}",
            f"{load.network_mbit_per_s:,.0f}",
        )


def _table(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    filled = list(rows)
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    for number, row in enumerate(filled):
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield f"| {' | '.join(cells)} |"
        if number == 0:
            yield f"|{'|'.join('-' * (width + 1) + ':' for width in widths)}|"
