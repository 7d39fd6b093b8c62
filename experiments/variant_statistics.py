"""What a variant's events add up to: constant size, whatever the number of users.

Everything is a sum of integers under a flat field name. One function says by
how much an event raises which field; a dictionary and a Redis hash (HINCRBY)
add them up alike, in any order, from any number of processes.

Fields:
    ``users`` (raised by the store when it first sees a unit in the arm), ``crossovers``
    (likewise, if the unit was seen in another arm of the phase before),
    ``exposures``, ``impressions``, ``clicks``, ``candidates``, ``cache_hits``,
    ``cache_misses``; ``i<cell>`` and ``c<cell>`` impressions and clicks of a
    cell; ``h<bucket>`` and ``l<bucket>`` latencies of slates that the cache
    answered alone, and of all others; ``cache:<result>``, ``engine:<name>``,
    ``degraded:<why>`` slates.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from experiments.events import Arm, Event, Exposure
from experiments.stats.quantile import bucket_of, merged
from experiments.stats.ratio import RatioSample

CELLS = 1024
"""Groups of units whose clicks and impressions are added up apart, for the variance."""

_ANSWERED_BY_CACHE = ("hit", "stale")

Cells = npt.NDArray[np.int64]


def cell_of(unit: str) -> int:
    """The cell of a unit digest, 0 to 1023: its leading 10 bits.

    The digest is not the hash that splits units, so a cell says nothing about a variant.
    """
    return int(unit[:4], 16) >> 6


def increments(event: Event, arm: Arm) -> dict[str, int]:
    """What an event adds to the fields of one of its arms.

    Count an event once per arm: de-duplication by slate and event id is the store's part.
    """
    if isinstance(event, Exposure):
        return _exposure_increments(event)
    total, cell = ("impressions", "i") if event.kind == "impression" else ("clicks", "c")
    return {total: 1, f"{cell}{cell_of(arm.unit)}": 1}


def _exposure_increments(exposure: Exposure) -> dict[str, int]:
    sketch = "h" if exposure.cache_result in _ANSWERED_BY_CACHE else "l"
    added = {
        "exposures": 1,
        "candidates": exposure.candidates,
        "cache_hits": exposure.cache_hits,
        "cache_misses": exposure.cache_misses,
        f"{sketch}{bucket_of(exposure.latency_ms)}": 1,
        f"cache:{exposure.cache_result}": 1,
        f"engine:{exposure.engine}": 1,
    }
    if exposure.degraded is not None:
        added[f"degraded:{exposure.degraded}"] = 1
    return added


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
    """Shape ``[CELLS]`` each."""
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

    @classmethod
    def from_fields(cls, fields: Mapping[str, int]) -> "VariantStatistics":
        """Read the sums back; names that this version does not know are left out.

        Leaving out is for a newer version's fields, while both run.
        """
        return cls(
            users=fields.get("users", 0),
            exposures=fields.get("exposures", 0),
            impressions=fields.get("impressions", 0),
            clicks=fields.get("clicks", 0),
            candidates=fields.get("candidates", 0),
            cache_hits=fields.get("cache_hits", 0),
            cache_misses=fields.get("cache_misses", 0),
            crossovers=fields.get("crossovers", 0),
            cell_impressions=_cells(_numbered(fields, "i")),
            cell_clicks=_cells(_numbered(fields, "c")),
            cached_latency=_numbered(fields, "h"),
            computed_latency=_numbered(fields, "l"),
            cache_results=_named(fields, "cache:"),
            engines=_named(fields, "engine:"),
            degraded=_named(fields, "degraded:"),
        )

    @property
    def latency(self) -> dict[int, int]:
        """The sketch of all slates, end to end."""
        return merged(self.cached_latency, self.computed_latency)

    @property
    def ctr_sample(self) -> RatioSample:
        """Clicks over impressions, by cell."""
        return RatioSample(self.cell_clicks, self.cell_impressions)


def _numbered(fields: Mapping[str, int], prefix: str) -> dict[int, int]:
    return {
        int(name[1:]): count
        for name, count in fields.items()
        if name.startswith(prefix) and name[1:].isdecimal()
    }


def _named(fields: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): count
        for name, count in fields.items()
        if name.startswith(prefix)
    }


def _cells(counts: Mapping[int, int]) -> Cells:
    sums = np.zeros(CELLS, np.int64)
    for cell, count in counts.items():
        sums[cell] = count
    return sums
