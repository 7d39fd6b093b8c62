"""The click log of a marketplace that does not rank by a model yet."""

from collections.abc import Callable, Iterable

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.marketplace.exact import Draws, Float64, Int64
from ranking_models.marketplace.population import Population
from ranking_models.marketplace.sessions import Sessions
from ranking_models.marketplace.spec import LONGEST_SLATE
from ranking_models.marketplace.truth import Context

_LOG = 6  # name of the random stream
_POPULAR_FIRST = 0.5
"""Weight of popularity against chance (1.0) in what is shown."""

ClickProbability = Callable[[Int64, Int64, Context, Int64], Float64]


class ClickLog(msgspec.Struct, frozen=True, kw_only=True):
    """Impressions in order of time, one entry per impression in every array."""

    session: Int64
    second: Int64
    """Unix seconds; all impressions of a session have the same."""
    user: Int64
    """User index or `ANONYMOUS`."""
    item: Int64
    position: Int64
    """1 to `LONGEST_SLATE`."""
    context: Context
    clicked: npt.NDArray[np.bool_]
    click_probability: Float64
    """The truth that ``clicked`` was drawn from; no real log has it."""

    def __len__(self) -> int:
        return len(self.second)


def draw_log(
    population: Population,
    sessions: Iterable[Sessions],
    click_probability: ClickProbability,
    *,
    seed: int,
) -> ClickLog:
    """Show each session a slate and draw its clicks.

    The logging policy shows popular items more often, and in random order:
    every item is seen at every position, so position bias can be told from
    the items. An item's clicks do not depend on what else was shown.
    """
    parts: list[ClickLog] = []
    first = 0
    for number, chunk in enumerate(sessions):
        draws = Draws(population.spec.seed, _LOG, seed, number)
        parts.append(_shown(population, chunk, click_probability, draws, first))
        first += len(chunk)
    if not parts:
        raise ValueError("a log needs at least one session")
    return _joined(parts)


def _shown(
    population: Population,
    chunk: Sessions,
    click_probability: ClickProbability,
    draws: Draws,
    first: int,
) -> ClickLog:
    item = _slates(population.items.popularity[chunk.candidates], chunk.candidates, draws)
    n, length = item.shape
    position = np.broadcast_to(np.arange(1, length + 1), item.shape)
    context = chunk.context.map(lambda values: values[:, None])
    probability = click_probability(chunk.user[:, None], item, context, position)
    per_row = np.repeat(np.arange(n), length)
    return ClickLog(
        session=first + per_row,
        second=chunk.second[per_row],
        user=chunk.user[per_row],
        item=item.ravel(),
        position=position.ravel(),
        context=chunk.context.map(lambda values: values[per_row]),
        clicked=(draws.uniform(n, length) < probability).ravel(),
        click_probability=probability.ravel(),
    )


def _slates(popularity: Float64, candidates: Int64, draws: Draws) -> Int64:
    """The logging policy: popularity and chance decide what is shown, chance alone where."""
    popular_first = np.argsort(-popularity, axis=1, kind="stable")
    rank = np.argsort(popular_first, axis=1, kind="stable")
    key = _POPULAR_FIRST * rank / candidates.shape[1] + draws.uniform(*candidates.shape)
    chosen = np.argsort(key, axis=1, kind="stable")[:, :LONGEST_SLATE]
    # Candidates come in random order; the chosen ones keep it.
    return np.take_along_axis(candidates, np.sort(chosen, axis=1), axis=1)


def _joined(parts: list[ClickLog]) -> ClickLog:
    return ClickLog(
        session=np.concatenate([part.session for part in parts]),
        second=np.concatenate([part.second for part in parts]),
        user=np.concatenate([part.user for part in parts]),
        item=np.concatenate([part.item for part in parts]),
        position=np.concatenate([part.position for part in parts]),
        context=Context.concatenate([part.context for part in parts]),
        clicked=np.concatenate([part.clicked for part in parts]),
        click_probability=np.concatenate([part.click_probability for part in parts]),
    )
