"""What item pages are made of: remembered, and never another page's."""

import msgspec
import numpy as np
import pytest

from service import known_pages
from service.deployments import Deployments
from service.errors import UnknownItem
from service.known_pages import KnownPages
from service.messages import RankRequest, UserRef
from service.testing import FakeEngine
from tests.support.rankers import deployment_of


@pytest.fixture
def deployment(tiny_bundle, clock):
    return deployment_of(tiny_bundle, FakeEngine("one"), clock=clock)


@pytest.fixture
def pages(deployment):
    return KnownPages(Deployments([deployment]))


def page(item="i3", user=None, **context):
    return RankRequest(candidates=(item,), anchor_item=item, user=UserRef(id=user), context=context)


def rows_of(known):
    return known.rows.user.inputs() | known.rows.context.inputs()


def fresh(page, deployment):
    """The page as it is made without a memory."""
    return KnownPages(Deployments([deployment])).of(page, deployment)


ASKED = [
    page(),
    page("i4"),
    page(user="u1"),
    page(user="u2"),
    page(user="nobody"),
    page(device="ios"),
    page(device="android"),
    page(hour=7),
    page(hour=7.5),
    page(hour=0),
    page(device="ios", hour=7),
]


def test_whatever_was_asked_before_a_page_is_made_of_its_own_rows(pages, deployment):
    for _ in range(2):
        for asked in ASKED:
            known, made = pages.of(asked, deployment), fresh(asked, deployment)
            assert (
                known.candidates == made.candidates == deployment.candidates_of(asked.anchor_item)
            )
            np.testing.assert_array_equal(known.rows.items, made.rows.items)
            for name, rows in rows_of(made).items():
                np.testing.assert_array_equal(rows_of(known)[name], rows)


def test_a_page_asked_for_again_is_not_made_again(pages, deployment):
    assert pages.of(page(user="u1"), deployment) is pages.of(page(user="u1"), deployment)


def test_the_same_request_for_a_page_is_made_once_and_another_by_its_own_terms(pages, deployment):
    asked = page()
    known = pages.of(asked, deployment)

    assert known.asked_as(asked) is known.asked_as(asked)
    other = RankRequest(candidates=("i3",), anchor_item="i3", k=3, timeout_ms=7)
    made = pages.of(other, deployment).asked_as(other)
    assert (made.k, made.timeout_ms, made.candidates) == (3, 7, known.candidates)
    assert known.asked_as(asked).k == asked.k


def test_the_remembered_part_of_the_key_is_the_one_that_is_worked_out(pages, deployment):
    keys = set()
    for asked in ASKED:
        rows = pages.of(asked, deployment).rows
        key = deployment.key(rows, 3, "arm")
        assert rows.digests
        assert key == deployment.key(msgspec.structs.replace(rows, digests=""), 3, "arm")
        keys.add(key.text)
    assert len(keys) > 5


def test_it_remembers_only_so_many_those_asked_for_last(pages, deployment, monkeypatch):
    monkeypatch.setattr(known_pages, "MOST_PAGES", 2)
    first, second = pages.of(page("i1"), deployment), pages.of(page("i2"), deployment)
    assert pages.of(page("i1"), deployment) is first

    pages.of(page("i3"), deployment)

    assert pages.of(page("i1"), deployment) is first
    assert pages.of(page("i2"), deployment) is not second


def test_when_another_version_serves_its_own_rows_are_made(tiny_bundle, deployment, clock):
    deployments = Deployments([deployment])
    pages = KnownPages(deployments)
    before = pages.of(page(), deployment)

    other = deployment_of(tiny_bundle, FakeEngine("two"), clock=clock)
    deployments.replace([other])

    assert pages.of(page(), other) is not before
    assert pages.of(page(), other).deployment is other


def test_an_item_that_nobody_knows_has_no_page(pages, deployment):
    with pytest.raises(UnknownItem):
        pages.of(page("nothing"), deployment)
