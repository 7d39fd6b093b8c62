"""Who and what is in a marketplace: sellers, items and users, and what they show of themselves."""

import msgspec
import numpy as np

from ranking_models.marketplace.exact import Draws, Float64, Int64, exp, zipf
from ranking_models.marketplace.spec import AGE_GROUPS, MarketplaceSpec

PERSONAL = 3
"""Dimensions of personal taste."""
TAGS_PER_ITEM = 3
"""Most tags that an item has; it has at least one."""

_SELLERS, _ITEMS, _USERS = 1, 2, 3  # names of the random streams
_AGE_SHARES = np.array([0.2, 0.3, 0.25, 0.15, 0.1])
assert len(_AGE_SHARES) == len(AGE_GROUPS)


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """The catalogue, one entry per item in every array."""

    seller: Int64
    category: Int64
    price: Float64
    """In cents, whole numbers, log-normal within a category."""
    price_level: Float64
    """How dear the item is for its category, in standard deviations of the log price."""
    age_days: Int64
    """Since it was listed, when the log begins."""
    tags: Int64
    """Shape ``[items, TAGS_PER_ITEM]``, distinct, -1 where there are fewer."""
    rating: Float64
    """1.0 to 5.0 stars: what can be seen of the quality."""
    quality: Float64
    """Hidden: what really makes the item good, and its seller's share in it."""
    taste: Float64
    """Hidden: shape ``[items, PERSONAL]``, how it meets personal taste."""
    popularity: Float64
    """Weight of being a candidate: Zipf over an order that quality moves a little."""


class Users(msgspec.Struct, frozen=True, kw_only=True):
    """The shoppers with an account, one entry per user in every array."""

    segment: Int64
    age_group: Int64
    price_preference: Float64
    """The `price_level` that the user likes best, two decimals."""
    taste: Float64
    """Hidden: shape ``[users, PERSONAL]``."""
    activity: Float64
    """Weight of starting a session: Zipf."""


class Population(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody and everything, as far as it does not depend on what users like."""

    spec: MarketplaceSpec
    items: Items
    users: Users

    @staticmethod
    def generate(spec: MarketplaceSpec) -> "Population":
        """Draw the sellers, items and users of a spec."""
        return Population(spec=spec, items=_items(spec), users=_users(spec))


def _items(spec: MarketplaceSpec) -> Items:
    seller_quality = Draws(spec.seed, _SELLERS).normal(spec.sellers)
    draws = Draws(spec.seed, _ITEMS)
    n = spec.items
    # Sellers and categories of Zipf size; the flattening keeps the smallest well filled.
    seller = draws.pick(zipf(np.arange(1, spec.sellers + 1), 20.0), n)
    category = draws.pick(zipf(np.arange(1, spec.categories + 1), 10.0), n)
    typical_price = 3.5 + 0.7 * draws.normal(spec.categories)
    price_level = draws.normal(n)
    quality = 0.9 * draws.normal(n) + 0.45 * seller_quality[seller]
    rating = np.rint(10.0 * (3.6 + 0.5 * quality + 0.35 * draws.normal(n))) / 10.0
    liked_first = np.argsort(draws.normal(n) + 0.5 * quality, kind="stable")[::-1]
    popularity = np.empty(n)
    popularity[liked_first] = zipf(np.arange(1, n + 1), 10.0)
    return Items(
        seller=seller,
        category=category,
        price=np.rint(100.0 * exp(typical_price[category] + 0.6 * price_level)),
        price_level=price_level,
        age_days=(365.0 * draws.uniform(n) * draws.uniform(n)).astype(np.int64),
        tags=_distinct_tags(draws, spec),
        rating=np.minimum(np.maximum(rating, 1.0), 5.0),
        quality=quality,
        taste=draws.normal(n, PERSONAL),
        popularity=popularity,
    )


def _users(spec: MarketplaceSpec) -> Users:
    draws = Draws(spec.seed, _USERS)
    n = spec.users
    segment = draws.pick(zipf(np.arange(1, spec.segments + 1), 3.0), n)
    leaning = 1.2 * draws.normal(spec.segments)
    preference = leaning[segment] + 0.5 * draws.normal(n)
    activity = np.empty(n)
    activity[draws.permutation(n)] = zipf(np.arange(1, n + 1), 20.0)
    return Users(
        segment=segment,
        age_group=draws.pick(_AGE_SHARES, n),
        price_preference=np.rint(100.0 * preference) / 100.0,
        taste=draws.normal(n, PERSONAL),
        activity=activity,
    )


def _distinct_tags(draws: Draws, spec: MarketplaceSpec) -> Int64:
    shuffled = np.argsort(draws.uniform(spec.items, spec.tags), axis=1, kind="stable")
    tags = shuffled[:, :TAGS_PER_ITEM].astype(np.int64)
    count = 1 + draws.below(TAGS_PER_ITEM, spec.items)
    tags[np.arange(TAGS_PER_ITEM) >= count[:, None]] = -1
    return tags
