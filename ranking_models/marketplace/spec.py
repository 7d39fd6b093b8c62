"""What a simulated marketplace is made of: its size, and the names of its parts."""

from typing import Annotated

import msgspec
from msgspec import Meta

DEVICES = ("ios", "android", "web")
COUNTRIES = ("US", "DE", "GB", "FR", "SE", "JP")
SURFACES = ("home", "search", "item")
AGE_GROUPS = ("18-24", "25-34", "35-49", "50-64", "65+")
SEGMENTS = (
    "bargain", "trend", "family", "collector", "home", "sport", "tech", "gift",
)  # fmt: skip
CATEGORIES = (
    "shoes", "dresses", "coats", "bags", "watches", "jewellery", "phones", "laptops",
    "audio", "cameras", "games", "toys", "books", "records", "furniture", "lamps",
    "kitchen", "garden", "tools", "bicycles", "camping", "fitness", "beauty", "art",
)  # fmt: skip
TAGS = (
    "new", "vintage", "handmade", "organic", "limited", "refurbished", "local", "imported",
    "waterproof", "wireless", "leather", "wooden", "black", "white", "red", "blue",
)  # fmt: skip

LONGEST_SLATE = 10
"""Positions go from 1 to this."""

FIRST_SECOND = 1_767_571_200
"""Unix time of the first day of every log: 2026-01-05T00:00:00Z, a Monday."""


LOG_SESSIONS = 60_000
LOG_SEED = 1
"""The log that the demonstration's model is trained on."""
SHOPPERS_SEED = 2
"""The demonstration's shoppers: none of the sessions in the log."""

SEED = Meta(ge=0, le=2**63 - 1)
ITEMS = Meta(ge=100, le=99_999)
USERS = Meta(ge=10, le=99_999)


class MarketplaceSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that a marketplace follows from; equal specs, equal marketplaces."""

    seed: Annotated[int, SEED] = 1
    items: Annotated[int, ITEMS] = 2_000
    users: Annotated[int, USERS] = 3_000
    sellers: Annotated[int, Meta(ge=1, le=9_999)] = 200
    categories: Annotated[int, Meta(ge=2, le=len(CATEGORIES))] = 16
    segments: Annotated[int, Meta(ge=1, le=len(SEGMENTS))] = 6
    tags: Annotated[int, Meta(ge=4, le=len(TAGS))] = 12
    weeks: Annotated[int, Meta(ge=1, le=520)] = 4
    """Length of a log."""
    anonymous: Annotated[float, Meta(ge=0, lt=1)] = 0.15
    """Share of sessions without a user."""
