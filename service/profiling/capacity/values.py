"""What is measured, what is assumed, and what follows: the JSON of ``podium capacity``."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

Scoring = Literal["CPUs", "half on GPUs", "GPUs"]
"""Where the rows are scored."""


class Measured(Struct, frozen=True, kw_only=True):
    """CPU time on one machine, or on two of a kind."""

    model: str
    """``name@version``, of ``podium bench``."""
    cpu: str
    cores: int
    created: datetime
    row_cpu_us: float
    """Of a row that is scored."""
    gpu: str | None
    gpu_rows_per_s: float | None
    """Of one GPU; None: not measured."""
    story_model: str
    """The same of ``podium bench --story``."""
    story_cpu: str
    story_created: datetime
    ranking_cpu_us: float
    """Of a ranking whose scores are known: HTTP, experiments, cache, reply, exposure."""
    other_cores: float
    """That others kept busy meanwhile, in the worse of both."""


class Assumptions(Struct, frozen=True, kw_only=True):
    """What nobody measured here, or what is yours to say. Money is in any currency."""

    candidates: int = 100
    """Of a ranking."""
    slate: int = 20
    """Items of a reply."""
    hit_rate: float = 0.85
    """Share of rankings that the cache answers; 0..1."""
    events_per_ranking: float = 5.0
    """Impressions and clicks that come back for a ranking in an experiment."""
    experiment_share: float = 0.1
    """Share of rankings in an experiment: each is one exposure besides."""
    event_cpu_us: float = 200.0
    """CPU time of an impression or click that is taken in."""
    heavier: float = 1.0
    """A row takes so many times the work of the measured model's."""
    utilisation: float = 0.6
    """Of what a machine can do, how much is planned: the rest is for peaks and failures."""
    zones: int = 3
    """One of them may be lost; 1: one replica may."""
    cores: int = 2
    """Of a replica."""
    replica_gib: float = 2.0
    """Memory of a replica."""
    gpu_cores: float = 40.0
    """A GPU scores as many rows as so many cores; does not matter where one was measured."""
    gpu_left: float = 0.2
    """Share of a measured row's CPU time that stays on the CPU where a GPU scores, for features and
    copies; however heavy the model."""
    slates: int = 5_000_000
    """Distinct slates that the cache keeps."""
    slate_bytes: int = 687
    """Of a slate in the cache server, all in all."""
    cache_server_gib: float = 16.0
    """Memory of a cache server."""
    cache_operations_per_s: float = 50_000.0
    """That a cache server answers."""
    installation_events_per_s: float = 10_000.0
    """That the one event server of an installation, and who reads it, keep up with."""
    core_price: float = 0.04
    """Of a core for an hour."""
    gib_price: float = 0.005
    """Of a GiB of memory for an hour."""
    gpu_price: float = 0.50
    """Of a GPU for an hour, without cores and memory."""


class Plan(Struct, frozen=True, kw_only=True):
    """One way to carry a load."""

    scoring: Scoring
    ranking_cpu_us: float
    """CPU time of a ranking in the mean."""
    replicas: int
    """Those that a lost zone takes with it included."""
    gpus: int
    price_per_hour: float
    """Of replicas, GPUs, cache and event servers."""
    price_per_month: float
    price_three_years: float
    per_million_rankings: float
    """At the load all the time; machines that idle at night cost the same and rank less."""
    per_million_predictions: float


class Load(Struct, frozen=True, kw_only=True):
    """What one load needs, whoever scores, and the ways to score it."""

    rankings_per_s: float
    predictions_per_s: float
    """Candidates that are ordered, known or scored."""
    rows_per_s: float
    """That are scored: what the cache does not know."""
    cache_operations_per_s: float
    """If no replica knew anything by itself."""
    cache_gib: float
    cache_servers: int
    """Primaries and as many replicas."""
    events_per_s: float
    installations: int
    """Each with an event server of its own, and a share of users and replicas."""
    network_mbit_per_s: float
    """Requests and replies."""
    plans: tuple[Plan, ...]


class Capacity(Struct, frozen=True, kw_only=True):
    """All of it."""

    measured: Measured
    assumptions: Assumptions
    replica_rankings_per_s: float
    """Of one replica at the planned utilisation, scoring on its own cores."""
    gpu_rows_per_s: float
    """Of one GPU: measured, or as assumed."""
    gpu_pays_from_cores: float | None
    """A GPU is cheaper than CPUs if it scores as many rows as at least so many cores; None where
    those cost nothing, or it takes nothing over."""
    loads: tuple[Load, ...]
