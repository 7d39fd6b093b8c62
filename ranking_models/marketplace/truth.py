"""The true click probability: the ground that models and statistics are measured against.

A click needs two things: the shopper examines the position, and finds the
item relevant. With u the user, i the item, c its category, p the position:

    P(click)    = examination(p, device) * sigmoid(relevance)
    examination = 1 / (1 + decay[device] * (p - 1))
    relevance   = base + surface + country
                + quality[i] + freshness(age[i])                        the item
                - 0.3 * min((price_level[i] - price_preference[u])^2, 9)
                + interest[segment[u], c] + device_taste[device, c] + mood[part of day, c]
                + mean over the tags of i of tag_taste[age group[u], tag]
                + taste[u] . taste[i]                                   personal

All but the first two lines are interactions: a logistic regression on the
same features cannot express them, a cross network can. The truth does not
change over time, and it is exact (`exact`): same spec, same bits.

An **anonymous** shopper is neutral: ``interest`` and ``tag_taste`` are the
means over the users, ``price_preference`` their mean preference, and there is
no personal term.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from ranking_models.marketplace.exact import Draws, Float64, Int64, exp, sigmoid
from ranking_models.marketplace.population import PERSONAL, TAGS_PER_ITEM, Items, Population, Users
from ranking_models.marketplace.spec import (
    AGE_GROUPS,
    COUNTRIES,
    DEVICES,
    SURFACES,
)

ANONYMOUS = -1
"""The user index of a shopper without an account."""

PARTS_OF_DAY = 4
"""Night, morning, afternoon, evening: six hours each."""

EXAMINATION_DECAY = np.array([0.22, 0.25, 0.12])
"""By device: a phone shows fewer positions at once than a web page."""

_TASTES = 4  # name of the random stream
_BASE = -2.9
_SURFACE = np.array([0.0, 0.35, 0.15])
assert len(EXAMINATION_DECAY) == len(DEVICES)
assert len(_SURFACE) == len(SURFACES)


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """Where and when something is shown; int arrays that broadcast with each other."""

    device: Int64
    country: Int64
    hour: Int64
    """0 to 23."""
    surface: Int64

    @staticmethod
    def of(*, device: str, country: str, hour: int, surface: str) -> "Context":
        """One context, from the names as they stand on the wire."""
        return Context(
            device=np.array(DEVICES.index(device)),
            country=np.array(COUNTRIES.index(country)),
            hour=np.array(hour),
            surface=np.array(SURFACES.index(surface)),
        )

    def map(self, change: Callable[[Int64], Int64]) -> "Context":
        """The contexts with one and the same change made to every array."""
        return Context(
            device=change(self.device),
            country=change(self.country),
            hour=change(self.hour),
            surface=change(self.surface),
        )

    @staticmethod
    def concatenate(contexts: Sequence["Context"]) -> "Context":
        """The contexts of several arrays, one after the other."""
        return Context(
            device=np.concatenate([c.device for c in contexts]),
            country=np.concatenate([c.country for c in contexts]),
            hour=np.concatenate([c.hour for c in contexts]),
            surface=np.concatenate([c.surface for c in contexts]),
        )


class Tastes(msgspec.Struct, frozen=True, kw_only=True):
    """What the population likes. The last row of a user table is the anonymous shopper."""

    interest: Float64
    """``[segments + 1, categories]``."""
    device_taste: Float64
    """``[devices, categories]``."""
    mood: Float64
    """``[PARTS_OF_DAY, categories]``."""
    tag_taste: Float64
    """``[age groups + 1, tags + 1]``; the last tag is "none" and weighs nothing."""
    country: Float64
    """``[countries]``."""
    neutral_price: float
    """The price preference of the anonymous shopper."""


def generate_tastes(population: Population) -> Tastes:
    """Draw what the population likes."""
    spec, users = population.spec, population.users
    draws = Draws(spec.seed, _TASTES)
    interest = 1.1 * draws.normal(spec.segments, spec.categories)
    tag_taste = np.zeros((len(AGE_GROUPS), spec.tags + 1))
    tag_taste[:, :-1] = 0.8 * draws.normal(len(AGE_GROUPS), spec.tags)
    return Tastes(
        interest=_with_mean_row(interest, users.segment),
        device_taste=0.45 * draws.normal(len(DEVICES), spec.categories),
        mood=0.4 * draws.normal(PARTS_OF_DAY, spec.categories),
        tag_taste=_with_mean_row(tag_taste, users.age_group),
        country=0.1 * draws.normal(len(COUNTRIES)),
        neutral_price=float(np.cumsum(users.price_preference)[-1] / spec.users),
    )


def examination(positions: npt.ArrayLike, device: Int64) -> Float64:
    """Probability that a position (1 is first) is looked at; 1 at the top, then falling."""
    probability: Float64 = 1.0 / (1.0 + EXAMINATION_DECAY[device] * (np.asarray(positions) - 1))
    return probability


def relevance(
    population: Population, tastes: Tastes, who: Int64, what: Int64, context: Context
) -> Float64:
    """Probability that an examined item is clicked.

    Args:
        population, tastes: The marketplace.
        who: User indices, or `ANONYMOUS`.
        what: Item indices; with ``who`` and ``context`` it broadcasts to the result's shape.
        context: Where and when.
    """
    users, items = population.users, population.items
    known = who != ANONYMOUS
    segment = np.where(known, users.segment[who], len(tastes.interest) - 1)
    age_group = np.where(known, users.age_group[who], len(tastes.tag_taste) - 1)
    preference = np.where(known, users.price_preference[who], tastes.neutral_price)
    category = items.category[what]
    logit = _BASE + _SURFACE[context.surface]
    logit = logit + tastes.country[context.country]
    logit = logit + items.quality[what]
    logit = logit + _freshness(items.age_days[what])
    gap = items.price_level[what] - preference
    logit = logit - 0.3 * np.minimum(gap * gap, 9.0)
    logit = logit + tastes.interest[segment, category]
    logit = logit + tastes.device_taste[context.device, category]
    logit = logit + tastes.mood[context.hour // (24 // PARTS_OF_DAY), category]
    logit = logit + _tag_taste(items, tastes, age_group, what)
    return sigmoid(logit + np.where(known, _personal(users, items, who, what), 0.0))


def _freshness(age_days: Int64) -> Float64:
    return 0.5 * exp(age_days / -30.0)


def _tag_taste(items: Items, tastes: Tastes, age_group: Int64, what: Int64) -> Float64:
    tags = items.tags[what]
    total: Float64 = tastes.tag_taste[age_group, tags[..., 0]]
    for at in range(1, TAGS_PER_ITEM):
        total = total + tastes.tag_taste[age_group, tags[..., at]]  # -1: the "none" column
    total /= (tags >= 0).sum(axis=-1)
    return total


def _personal(users: Users, items: Items, who: Int64, what: Int64) -> Float64:
    # Dimension by dimension: the order of additions inside a BLAS product is not fixed.
    total: Float64 = users.taste[who, 0] * items.taste[what, 0]
    for at in range(1, PERSONAL):
        total = total + users.taste[who, at] * items.taste[what, at]
    return 0.25 * total


def _with_mean_row(table: Float64, members: Int64) -> Float64:
    """The table and, below it, the mean of its rows over the users."""
    counts = np.bincount(members, minlength=len(table))
    total = counts[0] * table[0]
    for at in range(1, len(table)):
        total = total + counts[at] * table[at]
    return np.vstack([table, total / counts.sum()])
