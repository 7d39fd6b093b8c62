"""What a profile holds: the JSON of ``podium bench``."""

from datetime import datetime
from typing import Literal

import msgspec
from msgspec import Struct

Standing = Literal["reference", "passed", "failed", "ungated"]
"""Of a precision: fp32 itself, or what its gate against fp32 said, if it has one."""


class Contender(Struct, frozen=True, kw_only=True):
    """One graph on one engine: what is measured against others."""

    engine: str
    precision: str
    threads: int | None
    """Of one call, on the CPU; None where a device or another machine scores."""
    split: bool
    """Whether it runs as the exact split."""

    @property
    def name(self) -> str:
        split = " split" if self.split else ""
        return f"{self.engine} {self.precision}{split}{_threads(self.threads)}"


class LeftOut(Struct, frozen=True, kw_only=True):
    """What was asked for and not measured."""

    what: str
    reason: str


class SizeFigures(Struct, frozen=True, kw_only=True):
    """Calls of one contender with so many rows. A call gathers the features and scores them."""

    rows: int
    calls: int
    p50_ms: float
    p95_ms: float
    rows_per_s: float
    """Rows of a call by the median of its time."""
    efficiency: float
    """`rows_per_s` as a share of the same contender's best size; 0..1."""
    rows_per_s_thread: float | None
    """`rows_per_s` by threads; None where a device or another machine scores."""
    cost_per_million: float | None
    """Price of a million rows: ``price_per_hour / (3600 * rows_per_s * engines) * 1e6``."""


class ContenderFigures(Struct, frozen=True, kw_only=True):
    """A contender, measured."""

    contender: Contender
    standing: Standing
    golden_difference: float
    """Largest difference from a golden score; checked before anything was measured."""
    load_s: float
    engines: int
    """So many of it keep the machine busy: one for every `threads` cores, or one per device."""
    sizes: tuple[SizeFigures, ...]
    """By rising rows; never empty."""

    @property
    def best(self) -> SizeFigures:
        """The size with most rows a second."""
        return max(self.sizes, key=lambda size: size.rows_per_s)

    @property
    def machine_rows_per_s(self) -> float:
        """At the best size, with all engines at work."""
        return self.best.rows_per_s * self.engines


class Noise(Struct, frozen=True, kw_only=True):
    """How far the machine was from quiet."""

    other_cores: float | None
    """Mean number of the usable cores that other processes kept busy; None where the system does
    not say."""
    spread: float
    """By how much p95 lies above the median: 0.1 is 10 %; the median over all sizes."""


class Together(Struct, frozen=True, kw_only=True):
    """The recommended engine in as many processes as the machine has room for, at once."""

    processes: int
    rows: int
    """Of every call."""
    rows_per_s: float
    """Of all processes together."""
    scaling: float
    """As a share of so many times what one of them did alone; 0..1, but for noise."""
    cost_per_million: float | None


class Recommendation(Struct, frozen=True, kw_only=True):
    """Settings, and why."""

    contender: Contender
    max_batch_rows: int
    workers: int
    reasons: tuple[str, ...]
    """One sentence for each setting."""
    toml: str
    """A settings file for ``podium serve --config``."""


class Machine(Struct, frozen=True, kw_only=True):
    """What it was measured on."""

    system: str
    cpu: str
    cores: int
    """That this process may use."""
    gpu: str | None
    versions: dict[str, str]
    """Of Python, Podium, and what scores."""


class Profile(Struct, frozen=True, kw_only=True):
    """A bundle, profiled on one machine."""

    model: str
    version: str
    created: datetime
    machine: Machine
    price_per_hour: float | None
    seconds: float
    """That the rounds took."""
    rounds: int
    candidates_per_request: int
    noise: Noise
    figures: tuple[ContenderFigures, ...]
    left_out: tuple[LeftOut, ...]
    recommendation: Recommendation | None
    """None where nothing that was measured may serve."""
    together: Together | None
    """None where nothing is recommended, or not the CPU scores."""


def encode_profile(profile: Profile) -> bytes:
    """JSON, indented for people."""
    return msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n"


def cost_per_million(price_per_hour: float | None, rows_per_s: float) -> float | None:
    """Price of a million rows on a machine that does nothing else; in the price's currency."""
    return None if price_per_hour is None else price_per_hour / (3600 * rows_per_s) * 1e6


def _threads(threads: int | None) -> str:
    if threads is None:
        return ""
    return f", {threads} {'thread' if threads == 1 else 'threads'}"
