"""A simulated marketplace whose true click probabilities are known.

Training data, demonstrations and the proof of the A/B statistics need a ground
truth that no real log has. `truth` gives the equation, `exact` the reason why
the same spec gives the same marketplace to the bit wherever it runs.
"""

from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.marketplace.exact import Float64
from ranking_models.marketplace.log import ClickLog, draw_log
from ranking_models.marketplace.population import Population
from ranking_models.marketplace.sessions import Sessions, draw_sessions
from ranking_models.marketplace.spec import LONGEST_SLATE, MarketplaceSpec
from ranking_models.marketplace.truth import (
    ANONYMOUS,
    Context,
    Tastes,
    examination,
    generate_tastes,
    relevance,
)

__all__ = [
    "ANONYMOUS",
    "LONGEST_SLATE",
    "ClickLog",
    "Context",
    "Marketplace",
    "MarketplaceSpec",
    "Sessions",
    "examination",
]


class Marketplace(msgspec.Struct, frozen=True, kw_only=True):
    """Items, users and what they like. Never changes; safe to share."""

    population: Population
    tastes: Tastes

    @staticmethod
    def generate(spec: MarketplaceSpec) -> "Marketplace":
        """Make the marketplace that follows from a spec."""
        population = Population.generate(spec)
        return Marketplace(population=population, tastes=generate_tastes(population))

    def click_probability(
        self,
        users: npt.ArrayLike,
        items: npt.ArrayLike,
        context: Context,
        positions: npt.ArrayLike,
    ) -> Float64:
        """The true probability of a click: ``examination * sigmoid(relevance)``, see `truth`.

        Args:
            users: User indices, `ANONYMOUS` for shoppers without an account.
            items: Item indices.
            context: Where and when; int arrays.
            positions: Places in the slate as shown, 1 is first.

        Returns:
            float64 in (0, 1), of the shape that the arguments broadcast to.
        """
        who, what = np.asarray(users), np.asarray(items)
        likes = relevance(self.population, self.tastes, who, what, context)
        return examination(positions, context.device) * likes

    def sessions(self, count: int, *, seed: int, candidates: int = 50) -> Iterator[Sessions]:
        """Draw shoppers' sessions in order of time, some hundred at a time."""
        return draw_sessions(self.population, count=count, candidates=candidates, seed=seed)

    def log(self, *, sessions: int, seed: int) -> ClickLog:
        """What a marketplace without a ranking model would have recorded."""
        drawn = self.sessions(sessions, seed=seed)
        return draw_log(self.population, drawn, self.click_probability, seed=seed)
