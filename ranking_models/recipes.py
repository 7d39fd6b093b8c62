"""What the bundles of the simulated marketplace follow from: without torch."""

import hashlib

import msgspec

from ranking_models.architectures import Architecture, DCNv2
from ranking_models.fit_options import FitOptions
from ranking_models.manifest import FORMAT
from ranking_models.marketplace.spec import LOG_SESSIONS, MarketplaceSpec

NAME = "marketplace"
"""Of the demonstration's model."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated, and what is trained on it.

    The defaults are the demonstration's: small enough for a repository (the
    bundle is under 2 MB) and for one core.
    """

    name: str = NAME
    """Of the model."""
    spec: MarketplaceSpec = MarketplaceSpec()
    sessions: int = LOG_SESSIONS
    architecture: Architecture = DCNv2(embedding_dim=8, cross_layers=2, hidden=(64, 32))
    # Every option stands here, so that other defaults make no other bundle.
    options: FitOptions = FitOptions(
        learning_rate=2e-3,
        weight_decay=0.1,
        batch_size=2048,
        epochs=40,
        patience=2,
        hidden_share=0.02,
        seed=1,
        double=True,  # so that another machine makes the same scores
    )
    precisions: tuple[str, ...] = ("fp32", "fp16", "int8")
    cache_modes: bool = True
    """Whether the manifest says what the cache's modes cost."""

    @property
    def digest(self) -> str:
        """Names what this recipe makes: another recipe, or another format, has another one."""
        return hashlib.sha256(msgspec.json.encode([FORMAT, self])).hexdigest()[:12]


DEMONSTRATION = Recipe()

STORY = Recipe(
    name="story-ranker",
    sessions=20_000,
    # About 1.1 million multiplications for a row, twenty times the demonstration's.
    architecture=DCNv2(embedding_dim=16, cross_layers=2, hidden=(1024, 512, 256)),
    options=FitOptions(
        learning_rate=1e-3,
        weight_decay=0.1,
        batch_size=2048,
        epochs=2,
        patience=1,
        hidden_share=0.02,
        seed=1,
        double=False,  # which would take twice as long; nobody compares two makings of it
    ),
    precisions=("fp32", "int8-cpu"),
    cache_modes=False,  # the story is told with exact scores
)
"""The ranker of ``podium bench --story``: of a size that is served, not of one that fits into a
repository. Made where it is measured, in about a minute on two cores."""
