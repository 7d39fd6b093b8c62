"""Which events count, for whom, and how often; on a real server."""

import asyncio

import msgspec
import pytest

from experiments.events import Event, Feedback
from service.errors import EventsUnavailable
from service.events.event_log import EventLog
from service.events.intake import MAX_AHEAD_S, EventIntake
from service.events.names import COUNTS, STREAM
from service.events.signing import SigningKeys
from service.events.slates import SlateIds
from service.events.spool import Spool
from service.events.stream import EventStream
from service.events.tokens import Claims, ExposureTokens, items_digest
from service.messages import EventResult
from service.settings import EventSettings

FOREIGN = SigningKeys({"k1": b"2" * 32}, "k1")


async def entries(client) -> list[Feedback]:
    return [
        msgspec.msgpack.decode(fields[b"e"], type=Event)
        for _, fields in await client.xrange(STREAM)
    ]


async def counts(client) -> dict[bytes, bytes]:
    return await client.hgetall(COUNTS)


def statuses(reply) -> list[str]:
    return [result.status for result in reply.results]


async def test_an_event_with_its_token_is_accepted_for_the_variants_that_made_the_slate(
    intake, client, event, token, arm, slates, clock
):
    slate_id = slates.new(clock.wall())
    arms = (arm("fp16"), arm("b", experiment="layout"))
    click = event(slate_id=slate_id, exposure=token(slate_id, *arms), position=3)
    reply = await intake.accept([click])

    assert reply.results == (EventResult(event_id=click.event_id, status="accepted"),)
    assert await entries(client) == [
        Feedback(
            event_id=click.event_id,
            kind="click",
            slate_id=slate_id,
            item_id="i1",
            position=3,
            at=1_750_000_000.0,
            arms=arms,
            exposed_at=1_750_000_000.0,
        )
    ]


async def test_an_event_without_a_token_counts_for_no_variant(intake, client, event):
    reply = await intake.accept([event(exposure=None)])

    assert statuses(reply) == ["accepted"]
    assert (await entries(client))[0].arms == ()
    assert await counts(client) == {b"accepted": b"1", b"unattributed": b"1"}
    assert (intake.counts.accepted, intake.counts.unattributed) == (1, 1)


async def test_an_event_for_a_slate_that_is_not_ours_is_an_orphan(intake, client, event, clock):
    foreign = SlateIds(FOREIGN).new(clock.wall())
    orphans = [event(slate_id=one, exposure=None) for one in ("s1", "ü" * 256, foreign)]
    reply = await intake.accept(orphans)

    assert statuses(reply) == ["orphan"] * 3
    assert len(await entries(client)) == 3
    assert await counts(client) == {b"orphan": b"3"}
    assert intake.counts.orphan == 3


@pytest.mark.parametrize(
    ("make_token", "code"),
    [
        (lambda claims: "junk", "token_malformed"),
        (lambda claims: "", "token_malformed"),
        (lambda claims: ExposureTokens(FOREIGN).sign(claims), "token_forged"),
        (
            lambda claims: ExposureTokens(SigningKeys({"x": b"1" * 32}, "x")).sign(claims),
            "token_unknown_key",
        ),
    ],
)
async def test_a_forged_token_is_rejected_and_the_other_events_go_on(
    intake, client, event, slates, clock, make_token, code, until
):
    slate_id = slates.new(clock.wall())
    claims = Claims(slate_id=slate_id, issued=0, expires=2**40, arms=(), items="")
    forged = event(slate_id=slate_id, exposure=make_token(claims))
    reply = await intake.accept([event(), forged, event()])

    assert statuses(reply) == ["accepted", "rejected", "accepted"]
    assert reply.results[1].code == code
    assert len(await entries(client)) == 2
    assert intake.counts.rejected == {code: 1}

    async def counted() -> bool:
        return (await counts(client)).get(f"rejected:{code}".encode()) == b"1"

    await until(counted)


async def test_a_token_of_another_slate_is_rejected(intake, client, event, token, slates, clock):
    mine, other = slates.new(clock.wall()), slates.new(clock.wall())
    reply = await intake.accept([event(slate_id=mine, exposure=token(other))])

    assert reply.results[0].code == "token_foreign_slate"
    assert other in reply.results[0].detail
    assert await entries(client) == []


async def test_an_expired_token_is_rejected_as_late(intake, event, clock, settings):
    late = event()
    clock.advance(settings.token_ttl_s - 1)
    in_time = await intake.accept([late])
    clock.advance(1)
    reply = await intake.accept([msgspec.structs.replace(late, event_id="again")])

    assert statuses(in_time) == ["accepted"]
    assert reply.results[0].code == "token_expired"


async def test_a_rejected_event_can_be_sent_again_when_it_is_right(intake, event):
    click = event()
    wrong = msgspec.structs.replace(click, exposure="junk")

    assert statuses(await intake.accept([wrong])) == ["rejected"]
    assert statuses(await intake.accept([click])) == ["accepted"]


async def test_a_timestamp_may_be_a_little_ahead_but_not_a_day(intake, event, clock):
    clock.jump(-MAX_AHEAD_S)
    reply = await intake.accept(
        [
            event(timestamp="2025-06-15T15:06:40Z"),
            event(timestamp="2025-06-15T15:06:40.001Z"),
            event(timestamp="9999-12-31T23:59:59-14:00"),
            event(timestamp="0001-01-01T00:00:00+14:00", exposure=None),
        ]
    )

    assert statuses(reply) == ["accepted", "rejected", "rejected", "accepted"]
    assert reply.results[1].code == "timestamp_in_future"


async def test_an_event_id_counts_once_within_a_call_and_across_calls(intake, client, event):
    click = event()
    first = await intake.accept([click, event(), click])
    second = await intake.accept([click])

    assert statuses(first) == ["accepted", "accepted", "duplicate"]
    assert statuses(second) == ["duplicate"]
    assert len(await entries(client)) == 2
    assert intake.counts.duplicate == 2


async def test_orphans_and_unattributed_events_count_once_as_well(intake, event):
    orphan, bare = event(slate_id="s1", exposure=None), event(exposure=None)

    assert statuses(await intake.accept([orphan, bare])) == ["orphan", "accepted"]
    assert statuses(await intake.accept([orphan, bare])) == ["duplicate", "duplicate"]


async def test_an_item_of_a_slate_is_shown_once_and_clicked_once(
    intake, client, event, token, slates, clock
):
    """However many ids a sender gives to the same click."""
    slate_id = slates.new(clock.wall())
    same = {"slate_id": slate_id, "exposure": token(slate_id)}
    reply = await intake.accept(
        [
            event(**same, type="impression"),
            event(**same, type="click"),
            event(**same, type="click"),
            event(**same, type="impression"),
            event(**same, type="click", item_id="i2"),
        ]
    )
    again = await intake.accept([event(**same, type="click", item_id="i2")])

    assert statuses(reply) == ["accepted", "accepted", "duplicate", "duplicate", "accepted"]
    assert statuses(again) == ["duplicate"]
    assert "same item of the slate" in again.results[0].detail
    assert len(await entries(client)) == 3


async def test_a_slate_is_forgotten_when_its_token_has_expired(intake, client, event, settings):
    await intake.accept([event(), event()])
    ttls = [await client.ttl(key) async for key in client.scan_iter("podium:slate:*")]

    assert len(ttls) == 2
    assert all(0 < ttl <= settings.token_ttl_s for ttl in ttls)


async def test_a_flood_of_clicks_on_one_slate_counts_once(intake, client, event, token, slates):
    slate_id = slates.new(1_750_000_000)
    exposure = token(slate_id)
    flood = [event(slate_id=slate_id, exposure=exposure) for _ in range(1000)]
    replies = await asyncio.gather(
        *(intake.accept(flood[at : at + 100]) for at in range(0, 1000, 100))
    )

    assert sum(statuses(reply).count("accepted") for reply in replies) == 1
    assert len(await entries(client)) == 1


async def test_what_was_no_event_keeps_its_place(intake, event):
    bad = EventResult(event_id="bad", status="rejected", code="invalid_event", detail="$[1]: x")
    first, last = event(), event()
    reply = await intake.accept([first, bad, last])

    assert [result.event_id for result in reply.results] == [first.event_id, "bad", last.event_id]
    assert reply.results[1] is bad
    assert intake.counts.rejected == {"invalid_event": 1}


async def test_nothing_to_keep_asks_nobody(server, intake):
    server.kill()
    bad = EventResult(event_id=None, status="rejected", code="invalid_event")

    assert statuses(await intake.accept([])) == []
    assert statuses(await intake.accept([bad])) == ["rejected"]


async def test_without_a_server_events_are_accepted_still(server, intake, log, event):
    server.kill()
    click = event()
    reply = await intake.accept([click, event(slate_id="s1", exposure=None), click])

    assert statuses(reply) == ["accepted", "orphan", "duplicate"]
    assert log.counts.spooled == 2


async def test_when_nothing_can_keep_them_nothing_is_accepted(
    server, client, settings, tokens, slates, clock, tmp_path, event
):
    log = EventLog(EventStream(client, settings), Spool(tmp_path, 10, clock), clock)
    intake = EventIntake(log, tokens, slates, settings, clock)
    server.kill()
    with pytest.raises(EventsUnavailable):
        await intake.accept([event(), event()])

    assert (intake.counts.accepted, intake.counts.duplicate) == (0, 0)
    await log.stop()


async def test_a_thousand_events_are_one_call_to_the_server(intake, client, event):
    reply = await intake.accept([event() for _ in range(1000)])
    calls = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]

    assert statuses(reply) == ["accepted"] * 1000
    assert calls <= 2  # the first finds that the script is not there yet


async def test_what_the_slate_does_not_hold_cannot_be_seen_or_clicked_on_it(intake, event):
    reply = await intake.accept([event(item_id="i3"), event(item_id="made up")])

    assert statuses(reply) == ["accepted", "rejected"]
    assert reply.results[1].code == "item_not_in_slate"


async def test_an_event_cannot_be_much_older_than_its_slate(intake, event):
    hours_before = "2025-06-15T09:06:40Z"  # a zone set wrongly
    reply = await intake.accept(
        [event(timestamp=hours_before), event(timestamp="2020-01-01T00:00:00Z")]
    )

    assert statuses(reply) == ["accepted", "rejected"]
    assert reply.results[1].code == "timestamp_before_slate"


MADE = "2025-06-15T15:06:40Z"
"""When the slates here were made."""


@pytest.fixture
def impatient_intake(log, tokens, slates, clock):
    """Attributes what happens within a minute."""
    settings = EventSettings(attribution_window_s=60.0)
    return EventIntake(log, tokens, slates, settings, clock)


async def test_what_happens_after_the_window_is_kept_as_late(impatient_intake, client, event, arm):
    in_time = event(timestamp="2025-06-15T15:07:40Z")
    late = event(timestamp="2025-06-15T15:07:40.001Z")
    reply = await impatient_intake.accept([in_time, late])

    assert statuses(reply) == ["accepted", "late"]
    assert reply.results[1].detail == "it happened more than 60 s after its slate was made"
    assert [one.late for one in await entries(client)] == [False, True]
    assert (await entries(client))[1].arms == (arm(),)
    assert await counts(client) == {b"accepted": b"1", b"late": b"1"}
    assert (impatient_intake.counts.accepted, impatient_intake.counts.late) == (1, 1)


async def test_a_late_event_counts_once_as_well(impatient_intake, client, event):
    late = event(timestamp="2025-06-15T16:00:00Z")
    again = msgspec.structs.replace(late, event_id="again")

    assert statuses(await impatient_intake.accept([late])) == ["late"]
    assert statuses(await impatient_intake.accept([late, again])) == ["duplicate", "duplicate"]
    assert await counts(client) == {b"late": b"1", b"duplicate": b"2"}


async def test_what_is_delivered_hours_later_is_not_late(intake, event, clock, settings):
    click = event(timestamp=MADE)
    clock.advance(settings.token_ttl_s - 1)

    assert statuses(await intake.accept([click])) == ["accepted"]


async def test_a_clock_that_goes_backwards_loses_no_event(intake, event, clock):
    """A slate then comes from the future, and so does what happened to it."""
    click, late = event(timestamp=MADE), event(timestamp="2025-06-15T17:06:40Z")
    clock.jump(-7200)

    assert statuses(await intake.accept([click, late])) == ["accepted", "late"]


async def test_a_sender_whose_clock_is_behind_loses_no_event(impatient_intake, event):
    assert statuses(await impatient_intake.accept([event(timestamp="2025-06-15T09:06:40Z")])) == [
        "accepted"
    ]


async def test_a_click_on_an_interleaved_slate_knows_whose_pick_it_was(
    intake, client, event, tokens, slates, clock, arm
):
    slate_id = slates.new(clock.wall())
    claims = Claims(
        slate_id=slate_id,
        issued=int(clock.wall()),
        expires=int(clock.wall()) + 60,
        arms=(arm("interleaved"),),
        items=items_digest(["i1", "i2", "i3"]),
        teams=("fp32", "fp16"),
        picks="011",
    )
    clicked = [
        event(slate_id=slate_id, exposure=tokens.sign(claims), item_id=item)
        for item in ("i1", "i3", "i2")
    ]
    assert statuses(await intake.accept(clicked)) == ["accepted"] * 3

    assert [one.team for one in await entries(client)] == ["fp32", "fp16", "fp16"]


async def test_a_token_cannot_be_moved_into_another_arm(intake, client, event, slates, clock, arm):
    """Nor can anybody raise what a click is worth: the propensity is signed like the rest."""
    slate_id = slates.new(clock.wall())
    mine = msgspec.structs.replace(arm(), propensity=0.01)
    now = int(clock.wall())
    forged = ExposureTokens(FOREIGN).sign(
        Claims(slate_id=slate_id, issued=now, expires=now + 60, arms=(mine,), items="")
    )

    reply = await intake.accept([event(slate_id=slate_id, exposure=forged)])
    assert reply.results[0].code == "token_forged"
    assert await entries(client) == []
