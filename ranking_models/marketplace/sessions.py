"""Who comes when, from where, and among which candidates: the demand side."""

from collections.abc import Iterator

import msgspec
import numpy as np

from ranking_models.marketplace.exact import Draws, Float64, Int64, zipf
from ranking_models.marketplace.population import Population
from ranking_models.marketplace.spec import COUNTRIES, FIRST_SECOND
from ranking_models.marketplace.truth import ANONYMOUS, Context

_SESSIONS = 5  # name of the random stream
_DAY_S = 86_400
_DEVICE_SHARES = np.array([0.4, 0.35, 0.25])
_SURFACE_SHARES = np.array([0.5, 0.25, 0.25])
_HOUR_SHARES = np.array(
    [2, 1, 1, 1, 1, 2, 3, 4, 5, 5, 5, 6, 7, 6, 5, 5, 6, 7, 9, 10, 11, 10, 7, 4], np.float64
)
_ITEM_SURFACE = 2
_SAME_CATEGORY_BOOST = np.array([8.0, 30.0, 60.0])
"""By surface: how much likelier a candidate of the wanted category is than another."""
_CELLS_PER_CHUNK = 2**21  # sessions times items held at once: 16 MB of weights


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """Sessions in order of time, one entry per session in every array."""

    second: Int64
    """Unix seconds."""
    user: Int64
    """User index or `ANONYMOUS`."""
    context: Context
    anchor: Int64
    """On the item surface the item whose page it is, else -1."""
    candidates: Int64
    """Shape ``[sessions, candidates]``: distinct item indices in random order."""

    def __len__(self) -> int:
        return len(self.second)


def draw_sessions(
    population: Population, *, count: int, candidates: int, seed: int
) -> Iterator[Sessions]:
    """Draw ``count`` sessions, a bounded number at a time.

    Args:
        population: Of the marketplace.
        count: Sessions in all.
        candidates: Items to choose from in each, fewer than the catalogue has.
        seed: Of the demand; independent of the marketplace's own.

    Raises:
        ValueError: more candidates than the catalogue can give.
    """
    spec = population.spec
    if not 1 <= candidates < spec.items:
        raise ValueError(f"candidates must be 1 to {spec.items - 1}, got {candidates}")
    step = min(max(_CELLS_PER_CHUNK // spec.items, 1), 1024)
    for first in range(0, count, step):
        index = np.arange(first, min(first + step, count))
        draws = Draws(spec.seed, _SESSIONS, seed, first)
        yield _chunk(population, draws, index, count, candidates)


def _chunk(
    population: Population,
    draws: Draws,
    index: Int64,
    count: int,
    candidates: int,
) -> Sessions:
    spec, items, n = population.spec, population.items, len(index)
    # One session in each of `count` equal spans: in order of time, chunk by chunk.
    second = _second((index + draws.uniform(n)) / count * (7 * spec.weeks))
    user = draws.pick(population.users.activity, n)
    user[draws.uniform(n) < spec.anonymous] = ANONYMOUS
    surface = draws.pick(_SURFACE_SHARES, n)
    context = Context(
        device=draws.pick(_DEVICE_SHARES, n),
        country=draws.pick(zipf(np.arange(1, len(COUNTRIES) + 1), 1.0), n),
        hour=(second % _DAY_S) // 3600,
        surface=surface,
    )
    wanted = draws.pick(items.popularity, n)  # its category is what the shopper is after
    return Sessions(
        second=second,
        user=user,
        context=context,
        anchor=np.where(surface == _ITEM_SURFACE, wanted, -1),
        candidates=_candidates(population, draws, wanted, context.surface, candidates),
    )


def _second(day: Float64) -> Int64:
    """Unix seconds of a time in days; the part of the day follows the hours' shares."""
    whole = np.floor(day)
    bounds = np.concatenate([[0.0], np.cumsum(_HOUR_SHARES)])
    at = (day - whole) * bounds[-1]
    hour = np.minimum(np.searchsorted(bounds, at, side="right") - 1, 23)
    second_of_hour = np.minimum(np.floor((at - bounds[hour]) / _HOUR_SHARES[hour] * 3600), 3599)
    second: Int64 = (FIRST_SECOND + whole * _DAY_S + hour * 3600 + second_of_hour).astype(np.int64)
    return second


def _candidates(
    population: Population, draws: Draws, wanted: Int64, surface: Int64, count: int
) -> Int64:
    """Draw distinct items by popularity and wanted category.

    Sequential Poisson sampling: the items with the smallest ``uniform / weight``
    are a sample without replacement whose chances are nearly proportional to
    the weights. Source: Ohlsson (1998), Journal of Official Statistics 14(2).
    """
    items = population.items
    same = items.category == items.category[wanted][:, None]
    weight = items.popularity * np.where(same, _SAME_CATEGORY_BOOST[surface][:, None], 1.0)
    key = draws.uniform(*weight.shape) / weight
    beside = np.flatnonzero(surface == _ITEM_SURFACE)
    key[beside, wanted[beside]] = np.inf  # an item is not recommended on its own page
    # The partition's own order is not fixed between machines, so the set is put in order.
    chosen = np.sort(np.argpartition(key, count - 1, axis=1)[:, :count], axis=1)
    shuffled = np.argsort(draws.uniform(*chosen.shape), axis=1, kind="stable")
    return np.take_along_axis(chosen, shuffled, axis=1).astype(np.int64)
