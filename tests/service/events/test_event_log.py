"""Events are kept on the server, else on disk, and end up on the server once."""

import msgspec
import pytest

from service.errors import EventsUnavailable
from service.events.batches import Entry, FeedbackBatch, ObservationBatch, new_batch_id
from service.events.event_log import EventLog
from service.events.names import COUNTS, STREAM
from service.events.spool import Spool
from service.events.stream import EventStream, Fate
from service.testing import FakeClock


def feedback(*event_ids: str) -> FeedbackBatch:
    return FeedbackBatch(
        tuple(
            Entry(event_id=one, slate_id="s", member=b"", counter="accepted", event=one.encode())
            for one in event_ids
        )
    )


def exposures(*payloads: str) -> ObservationBatch:
    return ObservationBatch(new_batch_id(), tuple(map(str.encode, payloads)))


async def stream_of(client) -> list[str]:
    return [fields[b"e"].decode() for _, fields in await client.xrange(STREAM)]


async def counts_of(client) -> dict[str, int]:
    return {name.decode(): int(n) for name, n in (await client.hgetall(COUNTS)).items()}


async def counted(client, name: str, n: int) -> bool:
    return (await counts_of(client)).get(name) == n


async def test_what_the_server_took_is_in_the_stream_in_order(log, client):
    assert await log.keep_feedback(feedback("a", "b")) == [Fate.NEW, Fate.NEW]
    await log.keep_observations(exposures("x", "y"))

    assert await stream_of(client) == ["a", "b", "x", "y"]
    assert await counts_of(client) == {"accepted": 2, "unattributed": 2, "exposures": 2}
    assert (log.counts.appended, log.counts.spooled) == (4, 0)


async def test_an_event_id_counts_once(log, client):
    await log.keep_feedback(feedback("a", "b"))

    assert await log.keep_feedback(feedback("b", "c")) == [Fate.EVENT_SEEN, Fate.NEW]
    assert await stream_of(client) == ["a", "b", "c"]
    assert (await counts_of(client))["duplicate"] == 1


async def test_event_ids_are_forgotten_when_no_token_lives_any_more(log, client, settings):
    await log.keep_feedback(feedback("a"))
    keys = [key async for key in client.scan_iter("podium:event:*")]

    assert len(keys) == 1
    assert 0 < await client.ttl(keys[0]) <= settings.token_ttl_s


async def test_without_a_server_events_go_to_disk_and_later_to_the_server(
    server, log, client, clock, until
):
    server.kill()
    assert await log.keep_feedback(feedback("a", "b")) == [Fate.NEW, Fate.NEW]
    await log.keep_observations(exposures("x"))
    assert (log.breaker.is_open, log.waiting_events) == (True, 3)

    server.start()
    clock.advance(2)
    await until(lambda: log.spool.counts.waiting_bytes == 0)

    assert await stream_of(client) == ["a", "b", "x"]
    assert (log.waiting_events, log.breaker.is_open) == (0, False)


async def test_nobody_asks_a_server_that_is_known_to_be_away(server, impatient, client):
    await impatient.keep_feedback(feedback("before"))
    server.freeze()
    await impatient.keep_feedback(feedback("a"))
    await impatient.keep_feedback(feedback("b"))
    await impatient.keep_observations(exposures("x"))
    server.thaw()
    await client.ping()

    assert impatient.counts.spooled == 3
    assert await stream_of(client) == ["before", "a"]


async def test_a_call_without_an_answer_counts_once_though_the_server_took_it(
    server, impatient, client, clock, until
):
    """The server is frozen with the call in its hands: it takes it when it thaws."""
    await impatient.keep_feedback(feedback("before"))
    server.freeze()
    assert await impatient.keep_feedback(feedback("a")) == [Fate.NEW]
    server.thaw()
    await client.ping()
    assert "a" in await stream_of(client)

    clock.advance(2)
    await impatient.start()
    await until(lambda: impatient.waiting_events == 0)

    assert await stream_of(client) == ["before", "a"]
    assert (await counts_of(client))["replayed_duplicate"] == 1
    assert "duplicate" not in await counts_of(client)


async def test_exposures_without_an_answer_count_once_though_the_server_took_them(
    server, impatient, client, clock, until
):
    await impatient.keep_observations(exposures("before"))
    server.freeze()
    await impatient.keep_observations(exposures("x", "y"))
    server.thaw()
    await client.ping()

    clock.advance(2)
    await impatient.start()
    await until(lambda: impatient.waiting_events == 0)
    await impatient.keep_observations(exposures("after"))

    assert await stream_of(client) == ["before", "x", "y", "after"]
    assert (await counts_of(client))["exposures"] == 4


async def test_the_server_remembers_only_the_last_batch_of_exposures(log, client):
    for n in range(20):
        await log.keep_observations(exposures(f"x{n}"))

    assert len([key async for key in client.scan_iter("podium:batch:*")]) == 1


async def test_a_duplicate_across_an_outage_is_found_at_the_replay(
    server, log, client, clock, until
):
    await log.keep_feedback(feedback("a"))
    server.kill()
    await log.keep_feedback(feedback("a", "b"))
    await log.keep_feedback(feedback("b"))
    server.start()
    clock.advance(2)
    await until(lambda: log.waiting_events == 0)

    assert await stream_of(client) == ["a", "b"]


async def test_what_is_kept_survives_a_restart_of_both(
    server, client, settings, clock, tmp_path, until
):
    def process() -> EventLog:
        spool = Spool(tmp_path / "spool", 1 << 20, clock)
        return EventLog(EventStream(client, settings), spool, clock, tend_s=0.005)

    server.kill()
    first, second = process(), process()
    await first.keep_feedback(feedback("a"))
    await first.stop()
    server.start()
    await second.start()
    await until(lambda: second.counts.replayed == 1)

    assert await stream_of(client) == ["a"]
    await second.stop()


async def test_a_server_that_refuses_writes_is_as_good_as_away(log, client, clock, until):
    await client.config_set("maxmemory", "1")
    assert await log.keep_feedback(feedback("a")) == [Fate.NEW]
    refused = (await client.info("stats"))["total_error_replies"]
    clock.advance(2)

    async def refused_again() -> bool:
        return (await client.info("stats"))["total_error_replies"] > refused

    await until(refused_again)
    assert (log.breaker.is_open, log.waiting_events) == (True, 1)

    await client.config_set("maxmemory", "0")
    clock.advance(2)
    await until(lambda: log.waiting_events == 0)
    assert await stream_of(client) == ["a"]


async def test_when_neither_can_keep_them_the_caller_is_told(server, client, settings, tmp_path):
    clock = FakeClock()
    log = EventLog(EventStream(client, settings), Spool(tmp_path / "spool", 10, clock), clock)
    server.kill()

    with pytest.raises(EventsUnavailable, match="send them again"):
        await log.keep_feedback(feedback("a", "b"))
    with pytest.raises(EventsUnavailable):
        await log.keep_observations(exposures("x"))
    assert log.counts.refused == 3
    await log.stop()


async def test_a_record_of_another_release_is_set_aside_and_the_rest_replayed(
    server, log, client, clock, spool, tmp_path, until
):
    server.kill()
    await log.keep_feedback(feedback("a"))
    await spool.append(msgspec.msgpack.encode(["feedback.9", []]))
    await log.keep_feedback(feedback("b"))
    server.start()
    clock.advance(2)
    await until(lambda: spool.counts.damaged_segments == 1)

    assert await stream_of(client) == ["a", "b"]
    assert [path.suffix for path in (tmp_path / "spool").iterdir()] == [".damaged"]


async def test_counts_reach_the_server_now_or_after_an_outage(server, log, client, clock, until):
    log.count("rejected:token_forged", 3)
    await until(lambda: counted(client, "rejected:token_forged", 3))
    server.kill()
    await log.keep_feedback(feedback("a"))
    log.count("rejected:token_forged", 4)
    server.start()
    clock.advance(2)
    await until(lambda: counted(client, "rejected:token_forged", 7))


async def test_a_server_that_is_away_from_the_start_is_noticed_without_any_event(
    server, client, settings, spool, clock, until
):
    server.kill()
    log = EventLog(EventStream(client, settings), spool, clock, tend_s=0.005)
    await log.start()
    await until(lambda: log.breaker.is_open)
    await log.stop()


async def test_a_server_that_went_away_is_noticed_without_any_event(server, log, clock, until):
    server.kill()
    clock.advance(2)
    await until(lambda: log.breaker.is_open)


async def test_a_spool_that_cannot_be_used_is_said_at_the_start(
    client, settings, clock, tmp_path, caplog
):
    (tmp_path / "file").write_text("in the way")
    spool = Spool(tmp_path / "file" / "spool", 1000, clock)
    log = EventLog(EventStream(client, settings), spool, clock)
    await log.start()
    await log.stop()

    assert "events will be refused" in caplog.text
    assert "Not a directory" in caplog.text


async def test_stop_tells_the_last_counts(client, settings, spool, clock):
    log = EventLog(EventStream(client, settings), spool, clock)
    log.count("rejected:x")
    await log.stop()

    assert (await counts_of(client))["rejected:x"] == 1


async def test_a_server_that_lost_everything_is_filled_again(server, log, client):
    """Scripts and data gone: the next call brings its script along."""
    await log.keep_feedback(feedback("a"))
    await client.flushall()
    await client.script_flush()

    assert await log.keep_feedback(feedback("b")) == [Fate.NEW]
    assert await stream_of(client) == ["b"]
