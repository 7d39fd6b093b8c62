"""One small marketplace for all tests of this folder."""

import pytest

from ranking_models.marketplace import ClickLog, Marketplace, MarketplaceSpec

SPEC = MarketplaceSpec(seed=7, items=300, users=200, sellers=20, categories=6, segments=3)


@pytest.fixture(scope="session")
def marketplace() -> Marketplace:
    return Marketplace.generate(SPEC)


@pytest.fixture(scope="session")
def log(marketplace: Marketplace) -> ClickLog:
    return marketplace.log(sessions=4_000, seed=3)
