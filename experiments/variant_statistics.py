"""What a variant's events add up to: constant size, whatever the number of users.

Everything is a sum of integers under a flat field name. One function says by
how much an event raises which field; a dictionary and a Redis hash (HINCRBY)
add them up alike, in any order, from any number of processes.

Fields:
    ``users`` (raised by the store when it first sees a unit in the arm), ``crossovers``
    (likewise, if the unit was seen in another arm of the phase before),
    ``exposures``, ``impressions``, ``clicks``, ``candidates``, ``cache_hits``,
    ``cache_misses``, ``predictions``, ``compute_us``, ``queue_us``, ``lapses``,
    ``late``, and ``clicks_capped`` (raised by the store in place of a click that is
    beyond the cap of its unit).

    Per cell of units: ``i<cell>`` impressions, ``c<cell>`` clicks, ``n<cell>`` slates
    and ``g<cell>`` the sum of their log latencies, ``m<cell>`` and ``k<cell>`` the same
    of computed slates, ``x<cell>`` lapses that are failures, ``d<cell>`` degraded slates,
    ``f<cell>`` slates of a fallback engine, ``team:<variant>:<cell>`` clicks that
    interleaving credits to a variant.

    Latency sketches: ``h<bucket>`` slates that the cache answered alone,
    ``l<bucket>`` all others, ``on:<engine>:<bucket>`` the others by engine.

    By name: ``cache:<result>``, ``engine:<name>``, ``degraded:<why>`` slates,
    ``lapse:<code>`` lapses. ``comparison:<what>`` what shadow scoring
    adds, see `experiments.comparison`.

Names of engines, reasons and codes are the service's own words, so there are few of them.
"""

from collections import defaultdict
from collections.abc import Mapping
from math import log

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from experiments.comparison import Comparison, comparison_increments
from experiments.definition import INTERLEAVED
from experiments.events import Arm, Event, Exposure, Feedback, Lapse
from experiments.stats.geometric import LatencySample
from experiments.stats.quantile import LONGEST_MS, SHORTEST_MS, bucket_of, merged
from experiments.stats.rates import RateSample
from experiments.stats.ratio import RatioSample

CELLS = 1024
"""Groups of units whose sums are kept apart, for the variance."""

LOG_UNIT = 1e-6
"""Sums of log latencies are integers of this many nepers."""

MISTAKES = frozenset({"invalid_request", "unknown_item", "no_candidates"})
"""Codes of lapses that the caller brought about: counted, but no failure of the service. A bot
that asks for pages that do not exist must not roll an experiment back."""

_ANSWERED_BY_CACHE = ("hit", "stale")
_FALLBACK = "fallback_engine"

Cells = npt.NDArray[np.int64]


def cell_of(unit: str) -> int:
    """The cell of a unit digest, 0 to 1023: its leading 10 bits.

    The digest is not the hash that splits units, so a cell says nothing about a variant.
    """
    return int(unit[:4], 16) >> 6


def increments(event: Event, arm: Arm) -> dict[str, int]:
    """What an event adds to the fields of one of its arms.

    Count an event once per arm: de-duplication by slate and event id is the store's part,
    and so is `CAPPED` for a unit that clicks without end.
    """
    if isinstance(event, Comparison):
        return comparison_increments(event)
    cell = cell_of(arm.unit)
    if isinstance(event, Exposure):
        return _exposure_increments(event, cell)
    if isinstance(event, Lapse):
        return _lapse_increments(event, cell)
    return _feedback_increments(event, arm, cell)


def is_click(event: Event) -> bool:
    """Whether it counts as a click, as long as its unit is below the cap."""
    return isinstance(event, Feedback) and event.kind == "click" and not event.late


CAPPED = {"clicks_capped": 1}
"""What a click beyond the cap of its unit adds, in place of its increments."""


def _feedback_increments(event: Feedback, arm: Arm, cell: int) -> dict[str, int]:
    if event.late:
        return {"late": 1}
    if event.kind == "impression":
        return {"impressions": 1, f"i{cell}": 1}
    added = {"clicks": 1, f"c{cell}": 1}
    if event.team is not None and arm.variant == INTERLEAVED:
        added[f"team:{event.team}:{cell}"] = 1
    return added


def _exposure_increments(exposure: Exposure, cell: int) -> dict[str, int]:
    bucket, log_latency = bucket_of(exposure.latency_ms), _log_of(exposure.latency_ms)
    added = {
        "exposures": 1,
        "candidates": exposure.candidates,
        "cache_hits": exposure.cache_hits,
        "cache_misses": exposure.cache_misses,
        "predictions": exposure.predictions,
        "compute_us": round(exposure.compute_ms * 1000),
        "queue_us": round(exposure.queue_ms * 1000),
        f"cache:{exposure.cache_result}": 1,
        f"engine:{exposure.engine}": 1,
        f"n{cell}": 1,
        f"g{cell}": log_latency,
    }
    if exposure.cache_result in _ANSWERED_BY_CACHE:
        added[f"h{bucket}"] = 1
    else:
        added |= {f"l{bucket}": 1, f"on:{exposure.engine}:{bucket}": 1}
        added |= {f"m{cell}": 1, f"k{cell}": log_latency}
    if exposure.degraded is not None:
        added |= {f"degraded:{exposure.degraded}": 1, f"d{cell}": 1}
    if exposure.degraded == _FALLBACK:
        added[f"f{cell}"] = 1
    return added


def _lapse_increments(lapse: Lapse, cell: int) -> dict[str, int]:
    added = {"lapses": 1, f"lapse:{lapse.code}": 1}
    if lapse.code not in MISTAKES:
        added[f"x{cell}"] = 1
    return added


def _log_of(latency_ms: float) -> int:
    return round(log(min(max(latency_ms, SHORTEST_MS), LONGEST_MS)) / LOG_UNIT)


class VariantStatistics(Struct, frozen=True, kw_only=True):
    """The sums of one variant in one phase, ready to be analysed."""

    users: int
    exposures: int
    impressions: int
    clicks: int
    candidates: int
    """Candidates of all exposed slates."""
    cache_hits: int
    cache_misses: int
    cell_impressions: Cells
    cell_clicks: Cells
    """Shape ``[CELLS]`` each, as all cells."""
    crossovers: int
    """Users that were in another variant of the phase before; in a sound split there are none."""
    cached_latency: dict[int, int]
    """Sketch (bucket to count) of slates that the cache answered alone, stale ones included."""
    computed_latency: dict[int, int]
    """Sketch of all other slates."""
    cache_results: dict[str, int]
    engines: dict[str, int]
    degraded: dict[str, int]
    """Slates by cache result, by engine, and by why they were degraded."""
    engine_latency: dict[str, dict[int, int]]
    """The sketch of computed slates by engine."""
    cell_slates: Cells
    cell_log_latency: Cells
    """All slates, and the sums of their log latencies, in `LOG_UNIT`."""
    cell_computed: Cells
    cell_log_computed: Cells
    """The same of computed slates."""
    lapses: int
    """Assigned requests that got no slate."""
    lapse_codes: dict[str, int]
    """The same by why."""
    cell_failures: Cells
    """Lapses that are failures: all but those of `MISTAKES`."""
    cell_degraded: Cells
    """Degraded slates, for whatever reason."""
    cell_fallbacks: Cells
    """Of these, the slates that another engine than the first of the chain made."""
    late: int
    """Impressions and clicks after the attribution window; not in `impressions` and `clicks`."""
    clicks_capped: int
    """Clicks beyond the cap of their unit; not in `clicks`."""
    predictions: int
    """Rows that engines scored."""
    compute_us: int
    """Engine time: the slates' shares of the calls that scored their rows."""
    queue_us: int
    """Time that slates waited for an engine."""
    comparisons: dict[str, int]
    """Of slates that another variant served and that this one scored in its shadow; for
    `experiments.comparison.comparison_sums`."""
    team_wins: dict[str, Cells]
    """Of interleaved slates, clicks per cell on what each variant's ranker put there."""

    @classmethod
    def from_fields(cls, fields: Mapping[str, int]) -> "VariantStatistics":
        """Read the sums back; names that this version does not know are left out.

        Leaving out is for a newer version's fields, while both run.
        """
        # Some 8 000 names, and a reader that serves requests as well: looked through once.
        own: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for name, count in fields.items():
            own[name[:1]][name] = count
        return cls(
            users=fields.get("users", 0),
            exposures=fields.get("exposures", 0),
            impressions=fields.get("impressions", 0),
            clicks=fields.get("clicks", 0),
            candidates=fields.get("candidates", 0),
            cache_hits=fields.get("cache_hits", 0),
            cache_misses=fields.get("cache_misses", 0),
            crossovers=fields.get("crossovers", 0),
            cell_impressions=_cells(_numbered(own["i"], "i")),
            cell_clicks=_cells(_numbered(own["c"], "c")),
            cached_latency=_numbered(own["h"], "h"),
            computed_latency=_numbered(own["l"], "l"),
            cache_results=_named(own["c"], "cache:"),
            engines=_named(own["e"], "engine:"),
            degraded=_named(own["d"], "degraded:"),
            engine_latency=_nested(own["o"], "on:"),
            cell_slates=_cells(_numbered(own["n"], "n")),
            cell_log_latency=_cells(_numbered(own["g"], "g")),
            cell_computed=_cells(_numbered(own["m"], "m")),
            cell_log_computed=_cells(_numbered(own["k"], "k")),
            lapses=fields.get("lapses", 0),
            lapse_codes=_named(own["l"], "lapse:"),
            cell_failures=_cells(_numbered(own["x"], "x")),
            cell_degraded=_cells(_numbered(own["d"], "d")),
            cell_fallbacks=_cells(_numbered(own["f"], "f")),
            late=fields.get("late", 0),
            clicks_capped=fields.get("clicks_capped", 0),
            predictions=fields.get("predictions", 0),
            compute_us=fields.get("compute_us", 0),
            queue_us=fields.get("queue_us", 0),
            comparisons=_named(own["c"], "comparison:"),
            team_wins={t: _cells(wins) for t, wins in _nested(own["t"], "team:").items()},
        )

    @property
    def latency(self) -> dict[int, int]:
        """The sketch of all slates, end to end."""
        return merged(self.cached_latency, self.computed_latency)

    @property
    def latency_sample(self) -> LatencySample:
        """Log latencies of all slates, end to end, by cell."""
        return LatencySample(self.cell_log_latency * LOG_UNIT, self.cell_slates)

    @property
    def computed_latency_sample(self) -> LatencySample:
        """The same of computed slates: what the cache answers does not pass for a fast model."""
        return LatencySample(self.cell_log_computed * LOG_UNIT, self.cell_computed)

    @property
    def failure_sample(self) -> RateSample:
        """Assigned requests that failed, of all that got a slate or should have, by cell."""
        return RateSample(self.cell_failures, self.cell_slates + self.cell_failures)

    @property
    def degraded_sample(self) -> RateSample:
        """Degraded slates of all slates, by cell."""
        return RateSample(self.cell_degraded, self.cell_slates)

    @property
    def fallback_sample(self) -> RateSample:
        """Slates of a fallback engine of all slates, by cell."""
        return RateSample(self.cell_fallbacks, self.cell_slates)

    @property
    def ctr_sample(self) -> RatioSample:
        """Clicks over impressions, by cell."""
        return RatioSample(self.cell_clicks, self.cell_impressions)


def _numbered(fields: Mapping[str, int], prefix: str) -> dict[int, int]:
    return {
        int(name[len(prefix) :]): count
        for name, count in fields.items()
        if name.startswith(prefix) and name[len(prefix) :].isdecimal()
    }


def _named(fields: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): count
        for name, count in fields.items()
        if name.startswith(prefix)
    }


def _nested(fields: Mapping[str, int], prefix: str) -> dict[str, dict[int, int]]:
    """Of fields ``<prefix><name>:<number>``: by name, then by number."""
    by_name: defaultdict[str, dict[int, int]] = defaultdict(dict)
    for name, count in _named(fields, prefix).items():
        outer, _, number = name.rpartition(":")
        if number.isdecimal():
            by_name[outer][int(number)] = count
    return dict(by_name)


def _cells(counts: Mapping[int, int]) -> Cells:
    sums = np.zeros(CELLS, np.int64)
    for cell, count in counts.items():
        sums[cell] = count
    return sums
