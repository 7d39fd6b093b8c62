"""What the story holds: the JSON of ``podium bench --story``."""

from collections.abc import Iterable
from datetime import datetime

import msgspec
from msgspec import Struct

from service.profiling.values import Machine

SUSTAINED_P99_MS = 35.0
"""A rate at which a step's p99 stays within this is sustained."""


class Latency(Struct, frozen=True, kw_only=True):
    """Of the answers with status 200; medians over the rounds."""

    p50_ms: float
    p99_ms: float


class OpenLoop(Struct, frozen=True, kw_only=True):
    """Requests on schedule, at one rate; medians over the rounds."""

    share: float
    """Of the step's own maximum, by the closed loops of the same round."""
    rate_per_s: float
    """Arrivals."""
    latency: Latency
    """From when a request was due."""
    cpu_us: float
    """CPU time of all processes of the step per answer."""
    generator_cores: float
    """That the load generator kept busy, on the same machine."""
    late_p99_ms: float
    """The generator's own lateness; part of the latencies."""
    failed: int
    """Requests of all rounds that were not answered with 200."""

    @property
    def is_sustained(self) -> bool:
        """Whether the p99 stays within `SUSTAINED_P99_MS`, and nothing fails."""
        return self.latency.p99_ms <= SUSTAINED_P99_MS and not self.failed


def sustained_of(loops: Iterable[OpenLoop]) -> OpenLoop | None:
    """The one with the largest rate that is sustained, if any is."""
    sustained = [one for one in loops if one.is_sustained]
    return max(sustained, key=lambda one: one.rate_per_s, default=None)


class Traffic(Struct, frozen=True, kw_only=True):
    """What every step was asked; the same requests for each, seeded."""

    page_share: float
    zipf: float
    """Exponent: the item in place ``r`` of the popularity order is asked for ``r ** -zipf`` as
    often as the first."""
    items: int
    """That have a page."""
    candidates: int
    """Of a rank request."""
    slate: int
    """Items of every answer, at most."""
    predictions_per_request: float
    """Candidates to be ordered, in the mean; an answer from the cache counts them too."""
    warmed_pages: int
    """The most popular, asked for once of the step with a cache before anything was measured."""


class StepFigures(Struct, frozen=True, kw_only=True):
    """One step of the story, measured."""

    number: int
    name: str
    what: str
    """What really ran."""
    per_s: float
    """Closed loop, at the better number of connections, of those with a p99 within
    `SUSTAINED_P99_MS` if there are any: answers with status 200."""
    times: float
    """`per_s` by that of the first step that was measured."""
    connections: int
    closed: Latency
    open: tuple[OpenLoop, ...]
    """By rising rate."""
    sustained: OpenLoop | None
    """That of `open` with the largest rate that is sustained; None where none of them is."""
    page_hits: float | None
    """Share of the item pages answered from the cache; None without a cache."""
    rank_hits: float | None
    cpu_us: float
    """CPU time of all its processes per answer, in the closed loop."""
    generator_cores: float
    """That the load generator kept busy in the closed loop, on the same machine."""
    failed: int
    """Requests of all runs that were not answered with 200."""
    largest_difference: float
    """Of a score, from the same graph scored directly; checked before anything was measured."""
    cost_per_million_rankings: float | None
    cost_per_million_predictions: float | None


class StepLeftOut(Struct, frozen=True, kw_only=True):
    """A step that did not run here."""

    number: int
    name: str
    reason: str


class Story(Struct, frozen=True, kw_only=True):
    """All steps on one machine."""

    model: str
    version: str
    note: str
    """Why it is told of this model, where that is not what one would expect; else empty."""
    created: datetime
    machine: Machine
    workers: int
    """Processes of every step that serve."""
    price_per_hour: float | None
    rounds: int
    seconds: float
    """Of each run."""
    sustained_p99_ms: float
    """A rate is sustained as long as the p99 stays within this."""
    traffic: Traffic
    other_cores: float
    """That neither a step nor the generator kept busy; the median over the runs."""
    steps: tuple[StepFigures, ...]
    left_out: tuple[StepLeftOut, ...]


def encode_story(story: Story) -> bytes:
    """JSON, indented for people."""
    return msgspec.json.format(msgspec.json.encode(story), indent=2) + b"\n"
