"""Shoppers speak the public API, click by the truth, and hide no failure."""

import asyncio
import socket
from itertools import pairwise

import httpx
import msgspec
import pytest

from ranking_models.errors import InputError
from ranking_models.marketplace import ANONYMOUS
from ranking_models.marketplace.names import item_indices
from service.loadgen.outcome import Tally, render_outcome
from service.loadgen.shoppers import RETURNS, Shoppers, play_shoppers
from service.loadgen.visits import visits
from service.messages import EventResult, EventsReply


def problem(status, code):
    return httpx.Response(status, json={"status": status, "code": code})


def planned(marketplace, sessions=60):
    return list(visits(marketplace, sessions=sessions, seed=5))


async def play(marketplace, client, sessions=60, concurrency=4, longest_s=60.0):
    shoppers = Shoppers(marketplace, client, seed=5, done=lambda _: None)
    return await shoppers.play(
        planned(marketplace, sessions), concurrency=concurrency, longest_s=longest_s
    )


async def test_every_visit_gets_a_slate_and_reports_it(marketplace, client, service):
    outcome = await play(marketplace, client)

    assert outcome.failures == {}
    slates = outcome.everything.slates
    assert slates == len(service.replies)
    assert outcome.everything.impressions == 10 * slates
    assert outcome.events == {"accepted": 10 * slates + outcome.everything.clicks}
    assert outcome.degraded == {"popularity": 1}


async def test_some_shoppers_come_back_to_the_page_and_ask_for_it_again(
    marketplace, client, service
):
    outcome = await play(marketplace, client, sessions=400, concurrency=1)

    asked = [r for r in service.requests if r.url.path != "/v1/events"]
    again = [
        (one.url, one.content) == (next_one.url, next_one.content)
        for one, next_one in pairwise(asked)
    ]
    assert len(asked) == 400 + sum(again) == outcome.everything.slates
    assert sum(again) / 400 == pytest.approx(RETURNS, abs=0.07)


async def test_known_and_anonymous_shoppers_visit_home_search_and_item_pages(
    marketplace, client, service
):
    await play(marketplace, client)

    pages = [r for r in service.requests if r.url.path.endswith("/recommendations")]
    assert 5 < len(pages) < 30
    assert {asked.context["surface"] for asked in service.ranked} == {"home", "search"}
    assert {page.url.params["surface"] for page in pages} == {"item"}
    for ids in (
        [asked.user.id for asked in service.ranked],
        [page.url.params.get("user_id") for page in pages],
    ):
        assert None in ids
        assert any(ids)
    assert all(asked.session_id for asked in service.ranked)
    assert all(len(asked.candidates) == 50 and asked.k == 10 for asked in service.ranked)


async def test_events_name_slate_item_position_and_token_of_what_was_shown(
    marketplace, client, service
):
    await play(marketplace, client)

    impressions = [e for e in service.events if e.type == "impression"]
    clicks = [e for e in service.events if e.type == "click"]
    for event in service.events:
        reply = service.replies[event.slate_id]
        assert event.item_id == reply.items[event.position - 1].id
        assert event.exposure == reply.exposure
    assert len({e.event_id for e in service.events}) == len(service.events)
    assert len(impressions) == sum(len(reply.items) for reply in service.replies.values())
    shown = {(e.slate_id, e.position) for e in impressions}
    assert clicks
    assert {(e.slate_id, e.position) for e in clicks} <= shown


async def test_the_tallies_hold_the_truth_of_what_was_shown(marketplace, client, service):
    outcome = await play(marketplace, client)

    expected = {"kept": 0.0, "reversed": 0.0}
    shoppers = {f"shopper-5-{visit.number}": visit for visit in planned(marketplace)}
    for session, reply in zip(service.sessions, service.replies.values(), strict=True):
        visit = shoppers[session]
        shown = item_indices([item.id for item in reply.items], 300)
        truth = marketplace.click_probability(visit.user, shown, visit.context, range(1, 11))
        expected[reply.experiments[0].variant] += truth.sum()
    for variant, clicks in expected.items():
        assert outcome.variants["order", variant].expected_clicks == pytest.approx(clicks)
    assert outcome.everything.expected_clicks == pytest.approx(sum(expected.values()))


async def test_clicks_happen_as_often_as_the_truth_says(marketplace, client):
    outcome = await play(marketplace, client, sessions=500)

    everything = outcome.everything
    spread = everything.expected_clicks**0.5  # at least that of a sum of Bernoulli draws
    assert abs(everything.clicks - everything.expected_clicks) < 4 * spread
    assert everything.clicks > 100


async def test_the_variants_add_up_to_everything(marketplace, client):
    outcome = await play(marketplace, client)

    assert set(outcome.variants) == {("order", "kept"), ("order", "reversed")}
    for field in ("slates", "impressions", "clicks"):
        parts = [getattr(tally, field) for tally in outcome.variants.values()]
        assert sum(parts) == getattr(outcome.everything, field)


async def test_the_same_seed_plays_the_same_shoppers_however_many_at_a_time(marketplace, client):
    alone = await play(marketplace, client, concurrency=1)
    together = await play(marketplace, client, concurrency=16)

    assert together.everything.clicks == alone.everything.clicks
    assert together.everything.expected_clicks == pytest.approx(alone.everything.expected_clicks)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_no_more_shoppers_than_allowed_are_about_at_a_time(marketplace, service, concurrency):
    about, most = 0, 0

    async def answer(request):
        nonlocal about, most
        about += 1
        most = max(most, about)
        await asyncio.sleep(0)
        response = await service.answer(request)
        about -= 1
        return response

    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(base_url="http://memory", transport=transport) as client:
        await play(marketplace, client, concurrency=concurrency)

    assert most == concurrency


def refuse(request):
    raise httpx.ConnectError("refused", request=request)


REJECTED = EventsReply(
    results=(EventResult(event_id="e", status="rejected", code="invalid_token"),)
)


@pytest.mark.parametrize(
    ("path", "response", "failure"),
    [
        ("/v1/rank", lambda _: problem(429, "queue_full"), "rank: 429 queue_full"),
        ("/v1/rank", lambda _: httpx.Response(502, text="gateway"), "rank: 502"),
        ("/v1/rank", lambda _: httpx.Response(500, json=["odd"]), "rank: 500"),
        ("/v1/rank", refuse, "rank: ConnectError"),
        ("/v1/rank", lambda _: httpx.Response(200, text="{"), "rank: DecodeError"),
        ("/v1/rank", lambda _: httpx.Response(200, text="{}"), "rank: ValidationError"),
        (
            "/v1/events",
            lambda _: problem(503, "events_unavailable"),
            "events: 503 events_unavailable",
        ),
        (
            "/v1/events",
            lambda _: httpx.Response(202, content=msgspec.json.encode(REJECTED)),
            "events: rejected as invalid_token",
        ),
    ],
)
async def test_a_failure_is_counted_and_the_other_visits_go_on(
    marketplace, client, service, path, response, failure
):
    seen = 0

    def every_fifth(_number, request):
        nonlocal seen
        seen += request.url.path == path
        if request.url.path == path and seen % 5 == 0:
            return response(request)
        return None

    service.fail = every_fifth

    outcome = await play(marketplace, client)

    assert outcome.failures == {failure: seen // 5}
    assert outcome.everything.slates == len(service.replies)
    assert len(service.replies) > 50
    assert f"FAILED: {failure} {seen // 5}" in render_outcome(outcome)


async def test_items_of_another_marketplace_end_the_play(marketplace, client, service):
    service.fail = lambda _number, request: (
        service._reply(["x9"], "u1", 10) if request.url.path == "/v1/rank" else None
    )

    with pytest.raises(InputError, match="'x9' is not in this marketplace of 300 items"):
        await play(marketplace, client)


async def test_play_is_bounded_in_time(marketplace, client, service):
    outcome = await play(marketplace, client, longest_s=0.0)

    assert service.requests == []
    assert outcome.failures == {"sessions were left after 0 s": 1}


async def test_nobody_at_the_address_is_one_line(marketplace):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can take it
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"

        with pytest.raises(InputError, match=f"^{url}: no service answers .*podium serve"):
            await play_shoppers(marketplace, url, sessions=1, seed=1, concurrency=1)


def test_an_empty_tally_has_no_ctr():
    assert str(Tally().ctr) == str(Tally().true_ctr) == "nan"


def test_anonymous_shoppers_come_as_often_as_the_spec_says(marketplace):
    users = [visit.user for visit in planned(marketplace, 2000)]

    assert users.count(ANONYMOUS) / 2000 == pytest.approx(0.15, abs=0.03)


async def test_the_summary_says_what_was_shown_and_clicked(marketplace, client):
    outcome = await play(marketplace, client)

    text = render_outcome(outcome)

    tally = outcome.variants["order", "kept"]
    assert text.startswith(f"{outcome.everything.slates} slates in ")
    assert f"order / kept: {tally.slates} slates, {tally.clicks} clicks on" in text
    assert f"true CTR {tally.true_ctr:.2%}" in text
    assert "degraded slates: popularity 1" in text
    assert "FAILED" not in text
