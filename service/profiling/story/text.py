"""The story as lines of text; its table is Markdown, for a README."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from service.profiling.story.values import Latency, OpenLoop, StepFigures, Story

QUIET_CORES = 0.2
"""Other processes that keep more than this busy make figures doubtful."""

Row = tuple[str, ...]


def render_story(story: Story) -> str:
    """What a person reads: what was asked, the table, what ran in each step, and what did not."""
    return "".join(f"{line}\n" for line in _lines(story))


def _lines(story: Story) -> Iterator[str]:
    machine, traffic = story.machine, story.traffic
    used = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    yield f"{story.model}@{story.version} on {machine.cores} cores of {machine.cpu}"
    yield f"{story.created:%Y-%m-%d %H:%M} UTC, {machine.system}, {used}"
    yield (
        f"{traffic.page_share:.0%} item pages, Zipf {traffic.zipf:g} over {traffic.items:,} items, "
        f"without a user: one slate each; {1 - traffic.page_share:.0%} rank requests of "
        f"{traffic.candidates} candidates for known users, none asked twice"
    )
    yield (
        f"medians of {story.rounds} interleaved rounds of {story.seconds:g} s; sustained: the "
        f"largest rate of the open loops whose p99 stays within {story.sustained_p99_ms:g} ms"
    )
    if story.note:
        yield story.note
    yield ""
    yield from _markdown(_table(story))
    yield ""
    for step in story.steps:
        yield f"{step.number}: {step.what}; scores off by at most {step.largest_difference:.1g}"
        yield f"   open loop: {', '.join(map(_open_loop, step.open))}"
    for left in story.left_out:
        yield f"not measured: {left.number} {left.name}: {left.reason}"
    yield from _notes(story)


def _table(story: Story) -> Iterator[Row]:
    first, priced = story.steps[0].number, story.price_per_hour is not None
    yield (
        *("step", "requests/s", f"x step {first}", "closed p50 ms", "p99 ms"),
        *("sustained/s", "p50 ms", "p99 ms", "page hits", "CPU us"),
        *(("per million rankings", "per million predictions") if priced else ()),
    )
    for step in story.steps:
        yield (
            f"{step.number} {step.name}",
            f"{step.per_s:,.0f}",
            f"{step.times:.1f}",
            *_latency(step.closed),
            *_sustained(step.sustained),
            "-" if step.page_hits is None else f"{step.page_hits:.1%}",
            f"{step.cpu_us:,.0f}",
            *(_costs(step) if priced else ()),
        )


def _sustained(loop: OpenLoop | None) -> Row:
    if loop is None:
        return "-", "-", "-"
    return f"{loop.rate_per_s:,.0f}", *_latency(loop.latency)


def _open_loop(loop: OpenLoop) -> str:
    """One rate of the open loop, in words."""
    failed = f" with {loop.failed} not answered" if loop.failed else ""
    return (
        f"{loop.rate_per_s:,.0f}/s ({loop.share:.0%}) p50 {loop.latency.p50_ms:.1f} p99 "
        f"{loop.latency.p99_ms:.1f} ms{failed}"
    )


def _latency(latency: Latency) -> Row:
    return f"{latency.p50_ms:.1f}", f"{latency.p99_ms:.1f}"


def _costs(step: StepFigures) -> Row:
    return tuple(
        "-" if cost is None else np.format_float_positional(cost, 3, fractional=False, unique=False)
        for cost in (step.cost_per_million_rankings, step.cost_per_million_predictions)
    )


def _notes(story: Story) -> Iterator[str]:
    yield ""
    cached = next((step for step in story.steps if step.page_hits is not None), None)
    if cached is not None:
        yield (
            f"page hits: in the open loops, after {story.traffic.warmed_pages:,} pages were asked "
            f"for once; of the rank requests {cached.rank_hits:.1%} were hits"
        )
    least, most = _range([step.generator_cores for step in story.steps])
    yield (
        f"CPU us: of all processes of a step, per answer of the closed loop; the load generator "
        f"ran on the same cores and took {least:.2f} to {most:.2f} of {story.machine.cores}"
    )
    yield from _open_notes(story)
    if any(step.failed for step in story.steps):
        failed = ", ".join(f"{step.failed} of step {step.number}" for step in story.steps)
        yield f"requests not answered with 200: {failed}"
    if story.price_per_hour is not None:
        yield (
            f"per million: {story.price_per_hour:g} an hour for this machine, at the closed loop's "
            f"rate; a ranking orders {story.traffic.predictions_per_request:.0f} candidates, each "
            "a prediction"
        )
    noise = f"other processes kept {story.other_cores:.2f} cores busy"
    yield noise if story.other_cores <= QUIET_CORES else f"{noise}: run again on a quiet machine"


def _open_notes(story: Story) -> Iterator[str]:
    """What the open loops cost, which the same share of the closed loop's rate does not say."""
    loops = [(step, loop) for step in story.steps for loop in step.open]
    late = max(loop.late_p99_ms for _, loop in loops)
    least, most = _range([loop.cpu_us / step.cpu_us for step, loop in loops if step.cpu_us])
    yield (
        f"open loops: an answer took {least:.2f} to {most:.2f} times the closed loop's CPU, as a "
        f"wake-up serves fewer; the generator was at most {late:.1f} ms late (p99), which the"
    )
    yield "latencies hold"


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _markdown(rows: Iterable[Row]) -> Iterator[str]:
    head, *filled = rows
    widths = [max(3, *map(len, column)) for column in zip(head, *filled, strict=True)]
    rule = tuple(
        "-" * width if not i else "-" * (width - 1) + ":" for i, width in enumerate(widths)
    )
    for row in (head, rule, *filled):
        cells = (
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"| {' | '.join(cells)} |"
