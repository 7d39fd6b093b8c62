"""The click probability is the published equation, and known for everybody, everywhere."""

from math import exp

import numpy as np
import pytest

from ranking_models.marketplace import ANONYMOUS, Context, Marketplace, MarketplaceSpec
from ranking_models.marketplace.spec import COUNTRIES, DEVICES, SURFACES
from ranking_models.marketplace.truth import EXAMINATION_DECAY

EVENING = Context.of(device="ios", country="SE", hour=21, surface="home")


def everything(marketplace: Marketplace, position: int = 1) -> np.ndarray:
    """Probabilities of all users (the last row is anonymous) and all items, in one context."""
    users = np.append(np.arange(marketplace.population.spec.users), ANONYMOUS)
    items = np.arange(marketplace.population.spec.items)
    return marketplace.click_probability(users[:, None], items, EVENING, position)


def test_the_probability_is_the_equation_of_the_documentation(marketplace):
    users, items = marketplace.population.users, marketplace.population.items
    tastes = marketplace.tastes
    for user, item, hour, position in [(0, 0, 0, 1), (17, 250, 6, 4), (199, 299, 23, 10)]:
        category = items.category[item]
        tags = [tag for tag in items.tags[item] if tag >= 0]
        logit = (
            -2.9
            + 0.35  # search
            + tastes.country[COUNTRIES.index("DE")]
            + items.quality[item]
            + 0.5 * exp(-items.age_days[item] / 30)
            - 0.3 * min((items.price_level[item] - users.price_preference[user]) ** 2, 9)
            + tastes.interest[users.segment[user], category]
            + tastes.device_taste[DEVICES.index("web"), category]
            + tastes.mood[hour // 6, category]
            + sum(tastes.tag_taste[users.age_group[user], tag] for tag in tags) / len(tags)
            + 0.25 * sum(users.taste[user] * items.taste[item])
        )
        context = Context.of(device="web", country="DE", hour=hour, surface="search")

        told = marketplace.click_probability(user, item, context, position)

        assert told == pytest.approx(1 / (1 + 0.12 * (position - 1)) / (1 + exp(-logit)), rel=1e-12)


def test_an_anonymous_shopper_is_the_mean_of_the_users_tastes_without_a_personal_one(marketplace):
    users, items = marketplace.population.users, marketplace.population.items
    tastes, item = marketplace.tastes, 42
    category, tags = items.category[item], items.tags[item][items.tags[item] >= 0]
    interest = np.mean([tastes.interest[s, category] for s in users.segment])
    tag_taste = np.mean([tastes.tag_taste[a, tags].mean() for a in users.age_group])
    gap = items.price_level[item] - users.price_preference.mean()
    logit = (
        -2.9
        + tastes.country[COUNTRIES.index("SE")]
        + items.quality[item]
        + 0.5 * exp(-items.age_days[item] / 30)
        - 0.3 * min(gap**2, 9)
        + interest
        + tastes.device_taste[DEVICES.index("ios"), category]
        + tastes.mood[3, category]
        + tag_taste
    )

    told = marketplace.click_probability(ANONYMOUS, item, EVENING, 1)

    assert told == pytest.approx(1 / (1 + exp(-logit)), rel=1e-12)


def test_everything_has_a_probability_between_0_and_1(marketplace):
    told = everything(marketplace)

    assert told.shape == (201, 300)
    assert told.dtype == np.float64
    assert told.min() > 0.0
    assert told.max() < 1.0


@pytest.mark.parametrize("device", DEVICES)
def test_the_same_item_is_clicked_less_the_lower_it_stands(marketplace, device):
    context = Context.of(device=device, country="US", hour=12, surface="home")
    items = np.arange(300)

    by_position = marketplace.click_probability(5, items[:, None], context, np.arange(1, 11))

    assert (np.diff(by_position, axis=1) < 0).all()


def test_position_and_relevance_are_separate_factors(marketplace):
    """So the order by probability at position 1 is the best order at any position."""
    ratio = everything(marketplace, position=7) / everything(marketplace, position=1)

    np.testing.assert_allclose(ratio, 1 / (1 + EXAMINATION_DECAY[0] * 6), rtol=1e-12)


def test_arguments_broadcast_and_rows_do_not_depend_on_their_neighbours(marketplace):
    together = everything(marketplace)

    assert marketplace.click_probability(3, 77, EVENING, 1) == together[3, 77]
    assert marketplace.click_probability(ANONYMOUS, 77, EVENING, 1) == together[-1, 77]


@pytest.mark.parametrize(
    ("other", "what"),
    [
        ({"device": "web"}, "device"),
        ({"hour": 3}, "hour"),
        ({"surface": "search"}, "surface"),
        ({"country": "JP"}, "country"),
    ],
)
def test_every_part_of_the_context_matters(marketplace, other, what):
    usual = {"device": "ios", "country": "SE", "hour": 21, "surface": "home"}
    changed = Context.of(**{**usual, **other})

    told = marketplace.click_probability(1, np.arange(300), changed, 1)

    assert (told != everything(marketplace)[1]).any(), what


def test_users_want_different_things(marketplace):
    """Personal order is worth something: the best ten of one user are not those of another."""
    relevance = everything(marketplace)
    best = np.argsort(-relevance, axis=1)[:, :10]
    common = np.argsort(-relevance[:-1].mean(axis=0))[:10]

    own = np.take_along_axis(relevance, best, axis=1)[:-1].mean()

    assert own > 1.25 * relevance[:-1, common].mean()


def test_names_that_the_marketplace_does_not_know_are_refused():
    with pytest.raises(ValueError, match="not in tuple"):
        Context.of(device="fridge", country="SE", hour=21, surface="home")


def test_all_surfaces_have_an_effect(marketplace):
    by_surface = [
        marketplace.click_probability(
            ANONYMOUS, 0, Context.of(device="ios", country="SE", hour=1, surface=surface), 1
        ).item()
        for surface in SURFACES
    ]

    assert len(set(by_surface)) == len(SURFACES)


def test_another_seed_is_another_marketplace(marketplace):
    spec = marketplace.population.spec
    other = Marketplace.generate(MarketplaceSpec(seed=8, items=spec.items, users=spec.users))

    assert (everything(other) != everything(marketplace)).any(axis=1).all()
