"""Rank requests ask for slates while that costs less than to score them, and else leave it."""

import pytest

from service.cache.slate_worth import (
    EXPLORED,
    LOOK_EVERY_S,
    MOST_KINDS,
    REMEMBERED,
    SlateWorth,
)
from service.messages import RankRequest, UserRef

LOOKUP_S, SCORING_S = 1e-4, 3e-4
REQUESTS = 4_000


class Process:
    """Requests of a process that is as busy as it is told, against a store that has a share."""

    def __init__(self, mode="auto", busy=1.0):
        self.now_s = self.cpu_s = 0.0
        self.busy = busy
        self.worth = SlateWorth(mode, now=lambda: self.now_s, cpu_s=lambda: self.cpu_s)

    def run(self, *, found, requests=REQUESTS, lookup_s=LOOKUP_S, first=0, **fields):
        """Share of the requests that asked."""
        asked = met = 0
        for number in range(first, first + requests):
            self.now_s += 0.001
            self.cpu_s += 0.001 * self.busy
            request = ranking(number, **fields)
            self.worth.scored(SCORING_S)
            if self.worth.asks(request):
                asked += 1
                met += found
                hit = met >= 1
                met -= hit
                self.worth.looked_up(request, found=bool(hit), cpu_s=lookup_s)
        return asked / requests


def ranking(number, surface="search", user="u1", **fields):
    return RankRequest(
        candidates=(f"i{number}", f"i{number + 1}"),
        user=UserRef(id=user),
        context={"surface": surface},
        **fields,
    )


def test_what_is_found_often_enough_is_always_asked_for():
    process = Process()

    assert process.run(found=0.9) == 1
    assert process.worth.report().declined == 0


def test_what_is_hardly_ever_found_is_left_but_for_some_keys():
    process = Process()
    process.run(found=0.0)

    assert process.run(found=0.0, first=10_000) == pytest.approx(1 / EXPLORED, rel=0.4)
    report = process.worth.report()
    assert (report.declined, report.scoring_s) == (1, pytest.approx(SCORING_S))
    assert report.lookup_s == pytest.approx(LOOKUP_S)


def test_the_keys_that_are_explored_are_the_same_in_every_process():
    one, other = Process(), Process()
    for process in (one, other):
        process.run(found=0.0)
    later = [ranking(number) for number in range(10_000, 12_000)]

    explored = [request for request in later if one.worth.asks(request)]

    assert 0 < len(explored) < len(later) / 10
    assert explored == [request for request in later if other.worth.asks(request)]


def test_demand_that_comes_back_is_noticed():
    """By the explored ones alone: none of these requests came before."""
    process = Process()
    process.run(found=0.0)

    for round_ in range(1, 20):
        process.run(found=1.0, first=round_ * REQUESTS)

    assert process.run(found=1.0, first=20 * REQUESTS) == 1


def test_what_comes_again_is_in_demand_whatever_its_kind():
    process = Process()
    process.run(found=0.0)
    process.run(found=0.0, requests=1_000, first=10_000)

    assert process.run(found=0.0, requests=1_000, first=10_000) == 1
    assert process.run(found=0.0, requests=1_000, first=20_000) < 0.1


def test_what_came_long_ago_is_forgotten():
    process = Process()
    process.run(found=0.0)
    process.run(found=0.0, requests=1_000, first=10_000)
    process.run(found=0.0, requests=2 * REMEMBERED, first=20_000)

    assert process.run(found=0.0, requests=1_000, first=10_000) < 0.1


def test_what_the_process_knows_itself_costs_no_lookup():
    """Redis is dear here, and seldom asked."""
    process = Process()
    for number in range(REQUESTS):
        request = ranking(number)
        process.worth.scored(SCORING_S)
        if number % 10:
            process.worth.known_here(request)
        else:
            process.worth.looked_up(request, found=True, cpu_s=4 * LOOKUP_S)

    assert process.worth.report().declined == 0


def test_who_has_time_to_spare_asks_in_any_case():
    process = Process()
    process.run(found=0.0)
    process.busy = 0.1
    process.run(found=0.0, requests=int(2000 * LOOK_EVERY_S))

    assert process.run(found=0.0) == 1
    assert not process.worth.declines


def test_dear_lookups_need_more_hits_than_cheap_ones():
    cheap, dear = Process(), Process()

    assert cheap.run(found=0.5) == 1
    dear.run(found=0.5, lookup_s=4 * LOOKUP_S)
    assert dear.run(found=0.5, lookup_s=4 * LOOKUP_S, first=10_000) < 0.1


@pytest.mark.parametrize("other", [{"surface": "home"}, {"user": None}], ids=["surface", "user"])
def test_each_kind_of_request_is_judged_by_its_own_hits(other):
    process = Process()
    process.run(found=0.0)

    assert process.run(found=0.9, **other) == 1
    assert process.run(found=0.0, first=10_000) < 0.1
    assert process.worth.report().declined == 1


def test_item_pages_always_ask_and_say_nothing_about_rankings():
    process = Process()

    assert process.run(found=0.0, anchor_item="i0") == 1
    assert process.run(found=0.0, anchor_item="i0") == 1
    assert process.worth.report().lookup_s is None


def test_callers_cannot_fill_the_memory_with_surfaces():
    process = Process()
    for number in range(10 * MOST_KINDS):
        one = ranking(number, surface=f"s{number}")
        process.worth.looked_up(one, found=False, cpu_s=LOOKUP_S)
    process.worth.scored(SCORING_S)

    assert len(process.worth._demand) <= MOST_KINDS + 1


@pytest.mark.parametrize(("mode", "asks"), [("always", True), ("never", False)])
def test_the_settings_decide_if_they_say_so(mode, asks):
    process = Process(mode)

    assert process.run(found=0.0) == asks
    assert process.worth.declines != asks
