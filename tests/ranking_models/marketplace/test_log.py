"""Logs are drawn from the truth, and say no more than a real log could."""

import hashlib

import numpy as np
import pytest
from scipy import stats

from ranking_models.marketplace import (
    ANONYMOUS,
    LONGEST_SLATE,
    ClickLog,
    Marketplace,
    MarketplaceSpec,
    Sessions,
    examination,
)
from ranking_models.marketplace.spec import FIRST_SECOND

GOLDEN = "4caac076037978a9340326378892a8297f36dafc8e329de61c0da248821600d5"
"""SHA-256 of the small marketplace and its log; the same on every machine."""


def digest(marketplace: Marketplace, log: ClickLog) -> str:
    items, users, tastes = (
        marketplace.population.items,
        marketplace.population.users,
        marketplace.tastes,
    )
    sha = hashlib.sha256()
    for part in (items, users, tastes, log.context, log):
        for name in part.__struct_fields__:
            value = getattr(part, name)
            if isinstance(value, float):
                sha.update(value.hex().encode())
            elif isinstance(value, np.ndarray):
                little = value.astype(value.dtype.newbyteorder("<"), order="C")
                sha.update(f"{name} {little.dtype} {little.shape}\n".encode() + little.tobytes())
    return sha.hexdigest()


def test_the_same_spec_and_seed_give_the_same_bits_on_every_machine(marketplace, log):
    assert digest(marketplace, log) == GOLDEN


def test_another_seed_gives_another_log_of_the_same_marketplace(marketplace, log):
    other = marketplace.log(sessions=4_000, seed=4)

    assert (other.item != log.item).mean() > 0.5


def test_every_session_is_one_slate_with_positions_from_1(log):
    positions = log.position.reshape(-1, LONGEST_SLATE)

    assert len(log) == 40_000
    assert (positions == np.arange(1, LONGEST_SLATE + 1)).all()
    assert (np.diff(log.session.reshape(-1, LONGEST_SLATE), axis=1) == 0).all()
    assert all(len(set(slate)) == LONGEST_SLATE for slate in log.item.reshape(-1, LONGEST_SLATE))


def test_time_only_goes_forward_and_stays_within_the_weeks(marketplace, log):
    assert (np.diff(log.second) >= 0).all()
    assert log.second[0] >= FIRST_SECOND
    assert log.second[-1] < FIRST_SECOND + marketplace.population.spec.weeks * 7 * 86_400


def test_the_hour_of_the_context_is_the_hour_of_the_time(log):
    assert (log.context.hour == log.second // 3600 % 24).all()
    assert set(log.context.hour.tolist()) == set(range(24))


def test_clicks_happen_as_often_as_their_probability_says(log):
    """Pearson's chi-square over 20 groups of equal size by probability."""
    order = np.argsort(log.click_probability)
    groups = np.array_split(order, 20)
    expected = np.array([log.click_probability[group].sum() for group in groups])
    spread = np.array(
        [(log.click_probability[g] * (1 - log.click_probability[g])).sum() for g in groups]
    )
    clicks = np.array([log.clicked[group].sum() for group in groups])

    chi_square = ((clicks - expected) ** 2 / spread).sum()

    assert stats.chi2.sf(chi_square, df=20) > 0.001
    assert chi_square > stats.chi2.ppf(0.001, df=20)  # better than chance would be no chance


def test_clicks_fall_with_the_position_as_examination_does(log):
    clicks, expected, spread = (
        np.bincount(log.position, weights)[1:]
        for weights in (
            log.clicked,
            log.click_probability,
            log.click_probability * (1 - log.click_probability),
        )
    )

    assert stats.chi2.sf(((clicks - expected) ** 2 / spread).sum(), df=LONGEST_SLATE) > 0.001
    assert clicks[0] > 2 * clicks[-1]


def test_the_stored_probability_is_the_marketplaces(marketplace, log):
    told = marketplace.click_probability(log.user, log.item, log.context, log.position)

    assert (told == log.click_probability).all()


def test_position_is_not_confounded_with_the_item(log):
    """What stands first is no better than what stands last, so bias can be told from merit."""
    relevance = log.click_probability / examination(log.position, log.context.device)
    first, last = relevance[log.position == 1], relevance[log.position == 10]

    error = np.sqrt(first.var() / len(first) + last.var() / len(last))
    assert abs(first.mean() - last.mean()) < 3 * error
    often = np.bincount(log.item) >= 400
    assert often.sum() > 10
    for item in np.flatnonzero(often):
        assert set(log.position[log.item == item].tolist()) == set(range(1, 11))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_click_rates_are_like_those_of_a_shop(seed):
    log = Marketplace.generate(MarketplaceSpec(seed=seed)).log(sessions=2_000, seed=1)

    assert 0.05 < log.clicked.mean() < 0.15


def test_few_items_and_users_make_most_of_the_traffic(log):
    items = np.sort(np.bincount(log.item, minlength=300))[::-1]
    users = np.sort(np.bincount(log.user[log.user != ANONYMOUS], minlength=200))[::-1]

    assert items[:30].sum() > 0.3 * items.sum()
    assert users[:20].sum() > 0.2 * users.sum()


def test_some_shoppers_are_anonymous(marketplace, log):
    assert (log.user == ANONYMOUS).mean() == pytest.approx(
        marketplace.population.spec.anonymous, abs=0.02
    )


def test_candidates_are_distinct_and_an_item_is_not_shown_on_its_own_page(marketplace):
    (drawn,) = marketplace.sessions(500, seed=9, candidates=50)

    assert drawn.candidates.shape == (500, 50)
    assert all(len(set(row)) == 50 for row in drawn.candidates.tolist())
    on_item_page = drawn.context.surface == 2
    assert ((drawn.anchor >= 0) == on_item_page).all()
    assert not (drawn.candidates == drawn.anchor[:, None])[on_item_page].any()


def test_candidates_come_mostly_from_the_category_of_an_item_page(marketplace):
    (drawn,) = marketplace.sessions(500, seed=9, candidates=20)
    category = marketplace.population.items.category
    beside = drawn.anchor >= 0

    same = category[drawn.candidates[beside]] == category[drawn.anchor[beside]][:, None]

    assert same.mean() > 0.6


def test_sessions_of_a_large_catalogue_come_in_bounded_pieces_in_order_of_time():
    large = Marketplace.generate(MarketplaceSpec(items=20_000, users=50))

    pieces: list[Sessions] = list(large.sessions(300, seed=1, candidates=20))

    assert [len(piece) for piece in pieces] == [104, 104, 92]
    assert (np.diff(np.concatenate([piece.second for piece in pieces])) >= 0).all()


@pytest.mark.parametrize("candidates", [0, 300, 5_000])
def test_more_candidates_than_items_are_refused(marketplace, candidates):
    with pytest.raises(ValueError, match="candidates must be 1 to 299"):
        next(marketplace.sessions(10, seed=1, candidates=candidates))


def test_a_log_without_sessions_is_refused(marketplace):
    with pytest.raises(ValueError, match="at least one session"):
        marketplace.log(sessions=0, seed=1)
