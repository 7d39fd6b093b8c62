"""Both clients against a running service: what they ask is understood, and what comes back too."""

import asyncio

import pytest
from msgspec.structs import replace
from podium_client import (
    AsyncClient,
    Candidate,
    InvalidRequest,
    NotFound,
    Settings,
    UserRef,
    events,
)

PATIENT = Settings(rank_timeout_s=10.0, timeout_s=10.0)
ITEMS = ["i1", "i2", "i3", "i4"]


def test_a_ranking_is_the_candidates_best_first(client):
    reply = client.rank(ITEMS, user="u1", k=3, request_id="r-1", context={"surface": "default"})

    assert [item.rank for item in reply.items] == [1, 2, 3]
    assert {item.id for item in reply.items} <= set(ITEMS)
    scores = [item.score for item in reply.items]
    assert scores == sorted(scores, reverse=True)
    assert reply.request_id == "r-1"


def test_whatever_may_be_said_with_a_ranking_is_understood(client):
    reply = client.rank(
        ["i1", Candidate(id="i2"), "i3"],
        user=UserRef(id="u1"),
        session_id="s1",
        anchor_item="i9",
        priority="low",
        explain=True,
        force={"model": "popularity"},
        external={"model": "ranker"},
    )

    assert reply.explain is not None
    assert [(e.variant, e.reason) for e in reply.experiments] == [("popularity", "FORCED")]


def test_a_page_is_told_decisions_and_context_in_its_address(client):
    reply = client.item_recommendations(
        "i1", k=2, user_id="u1", context={"surface": "default"}, external={"model": "popularity"}
    )

    assert len(reply.items) == 2
    assert [(e.variant, e.reason) for e in reply.experiments] == [("popularity", "EXTERNAL")]


def test_events_are_counted_once_however_often_they_are_sent(client):
    reply = client.rank(ITEMS, user="u1")
    shown = [reply.items[1].id, reply.items[0].id]
    reported = [*events.impressions(reply, shown=shown), *events.click(reply, shown[1])]

    first, again = client.events(reported), client.events(reported)

    assert [result.event_id for result in first.results] == [e.event_id for e in reported]
    assert {result.status for result in first.results} == {"accepted"}
    assert {result.status for result in again.results} == {"duplicate"}


def test_an_event_built_in_a_later_process_is_the_same_event(client):
    reply = client.rank(ITEMS, user="u1")
    (now,) = events.click(reply, reply.items[0].id)
    later = events.event(
        "click",
        slate_id=reply.slate_id,
        item_id=reply.items[0].id,
        position=1,
        exposure=reply.exposure,
    )

    assert replace(later, timestamp=now.timestamp) == now
    assert client.events([later]).results[0].status == "accepted"


def test_experiments_are_read_and_changed(client):
    known = client.experiment("model")
    paused = client.pause("model", reason="a test", if_generation=known.standing.generation)
    started = client.start("model", reason="a test")

    assert client.experiments().experiments[0].key == "model"
    assert (paused.state, started.state) == ("paused", "running")
    assert client.report("model").variants[0].name == "ranker"
    last = client.decisions("model", limit=1).decisions[0]
    assert last.reason == "a test"


def test_models_and_health_are_told(client):
    assert client.models().deployments[0].engines[0].status == "ready"
    assert client.health().status in ("ready", "degraded")


def test_a_refusal_is_an_error_of_its_kind_with_its_place(client):
    with pytest.raises(InvalidRequest) as invalid:
        client.rank(["i1", "i1"])
    with pytest.raises(NotFound) as unknown:
        client.report("nothing")

    assert (invalid.value.code, invalid.value.path) == ("invalid_request", "$.candidates[1]")
    assert (unknown.value.code, unknown.value.status) == ("unknown_experiment", 404)


def test_awaiting_gives_the_same_as_blocking(client, base_url):
    async def ask():
        async with AsyncClient(base_url, settings=PATIENT) as awaited:
            replies = await asyncio.gather(*(awaited.rank(ITEMS, user="u2") for _ in range(20)))
            await awaited.events(events.impressions(replies[0]))
            with pytest.raises(InvalidRequest):
                await awaited.rank([])
            return [*replies, await awaited.rank_or_input_order(ITEMS, user="u2")]

    *replies, slate = asyncio.run(ask())

    expected = [item.id for item in client.rank(ITEMS, user="u2").items]
    assert all([item.id for item in reply.items] == expected for reply in replies)
    assert list(slate.items) == expected
    assert slate.is_ranked
