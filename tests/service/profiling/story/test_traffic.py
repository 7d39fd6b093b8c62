"""The same requests for everybody: seeded, mostly pages, the popular ones most."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from ranking_models.bundle import Bundle, write_bundle
from ranking_models.errors import InputError
from service.messages import RankRequest
from service.profiling.story.traffic import PAGE_SHARE, ZIPF, Page, Rank, Shoppers
from tests.support.bundles import tiny_contents, write_tiny_bundle

COUNT = 20_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles"), items=200))


def test_the_same_seed_gives_the_same_requests_and_another_one_others(bundle):
    shoppers = Shoppers(bundle)

    assert shoppers.stream(500, seed=3) == shoppers.stream(500, seed=3)
    first, second = shoppers.stream(500, seed=3), shoppers.stream(500, seed=4)
    assert {r for r in first.requests if isinstance(r, Rank)}.isdisjoint(second.requests)


def test_nine_of_ten_are_pages_by_zipfs_law_over_the_popularity_order(bundle):
    shoppers = Shoppers(bundle)

    stream = shoppers.stream(COUNT, seed=1)

    asked = [stream.requests[index] for index in stream.order]
    pages = [request.item_id for request in asked if isinstance(request, Page)]
    assert len(pages) / COUNT == pytest.approx(PAGE_SHARE, abs=0.01)
    weights = np.arange(1, shoppers.items + 1) ** -ZIPF
    for place, page in list(enumerate(shoppers.popular(200).requests))[:5]:
        expected = weights[place] / weights.sum()
        assert pages.count(page.item_id) / len(pages) == pytest.approx(expected, rel=0.15)


def test_a_page_is_kept_once_and_pages_come_first(bundle):
    stream = Shoppers(bundle).stream(2000, seed=1)

    pages, ranks = stream.requests[: stream.pages], stream.requests[stream.pages :]
    assert all(isinstance(page, Page) for page in pages)
    assert len(set(pages)) == len(pages)
    assert all(isinstance(rank, Rank) for rank in ranks)
    assert len(set(ranks)) == len(ranks)
    assert sorted(set(stream.order)) == [*range(len(stream.requests))]
    assert sum(index >= stream.pages for index in stream.order) == len(ranks)


def test_a_rank_request_is_one_that_podium_takes(bundle):
    stream = Shoppers(bundle).stream(200, seed=1)

    for rank in stream.requests[stream.pages :]:
        request = msgspec.json.decode(rank.body, type=RankRequest)
        assert len(set(request.candidates)) == 100
        assert request.user.id in bundle.user_ids
        assert rank.encode().endswith(b"content-length: %d\r\n\r\n" % len(rank.body) + rank.body)


def test_a_small_catalogue_gives_all_of_its_items(tmp_path):
    small = Bundle.open(write_tiny_bundle(tmp_path, items=50))

    stream = Shoppers(small).stream(50, seed=1)

    request = msgspec.json.decode(stream.requests[-1].body, type=RankRequest)
    assert {*request.candidates} == {*small.item_ids.tolist()}


def test_a_path_quotes_the_item():
    assert Page("a b?&é").encode().startswith(b"GET /v1/items/a%20b%3F%26%C3%A9/recommendations?")


def test_predictions_are_the_candidates_asked_for(bundle):
    shoppers = Shoppers(bundle)

    stream = shoppers.stream(COUNT, seed=2)

    at = {item: place for place, item in enumerate(bundle.item_ids.tolist())}
    beside = (bundle.candidates >= 0).sum(axis=1)
    each = [beside[at[r.item_id]] if isinstance(r, Page) else 100 for r in stream.requests]
    mean = np.mean([each[index] for index in stream.order])
    assert shoppers.predictions_per_request == pytest.approx(mean, rel=0.02)


def test_a_bundle_without_candidates_is_refused(tmp_path: Path):
    contents = tiny_contents()
    nothing = np.full_like(contents.arrays.candidates, -1)
    arrays = msgspec.structs.replace(contents.arrays, candidates=nothing)
    bundle = Bundle.open(write_bundle(tmp_path, msgspec.structs.replace(contents, arrays=arrays)))

    with pytest.raises(InputError, match="no item pages"):
        Shoppers(bundle)
