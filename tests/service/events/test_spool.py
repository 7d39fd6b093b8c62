"""What the spool took is on the disk, in order, until somebody has it elsewhere."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from service.events import segments
from service.events.segments import MAGIC, SUFFIX, frame, parse_segment
from service.events.spool import Spool, SpoolFailed
from service.testing import FakeClock

RECORDS = [b"first", b"second " * 100, b"\x00third"]
INTACT = MAGIC + b"".join(map(frame, RECORDS))


@pytest.fixture
def make_spool(tmp_path):
    """A spool in the same directory as the others, each as if in a process of its own."""

    def make(max_bytes=1 << 20, **options) -> Spool:
        return Spool(tmp_path / "spool", max_bytes, FakeClock(), **options)

    return make


async def drain(spool: Spool) -> list[bytes]:
    """Everything that can be replayed, gone from the spool afterwards."""
    drained = []
    while (segment := await spool.take()) is not None:
        records, damaged = await spool.read(segment)
        await spool.finish(segment, damaged=damaged)
        drained += records
    return drained


async def test_records_come_back_in_order_and_once(spool):
    for record in RECORDS:
        await spool.append(record)

    assert await drain(spool) == RECORDS
    assert await drain(spool) == []
    await spool.close()


async def test_the_next_process_gets_what_the_last_one_left(make_spool):
    before, after = make_spool(), make_spool()
    await before.append(b"kept")
    await before.close()

    assert await drain(after) == [b"kept"]
    await after.close()


async def test_a_living_process_keeps_the_segment_that_it_writes(make_spool):
    writer, other = make_spool(), make_spool()
    await writer.append(b"mine")

    assert await drain(other) == []
    assert await drain(writer) == [b"mine"]
    await writer.close()
    await other.close()


async def test_a_segment_is_replayed_by_one_process_at_a_time(make_spool):
    writer, one, two = make_spool(), make_spool(), make_spool()
    await writer.append(b"once")
    await writer.close()
    segment = await one.take()

    assert await two.take() is None
    segment.release()
    assert await drain(two) == [b"once"]
    for spool in (one, two):
        await spool.close()


async def test_a_new_segment_that_a_replay_found_first_is_made_again(spool, monkeypatch):
    """Between making a file and locking it, another process can lock it or even remove it."""
    spool_open, thieves = os.open, []

    def stolen_twice(path, flags, *mode):
        descriptor = spool_open(path, flags, *mode)
        if flags & os.O_CREAT and len(thieves) < 2:
            thieves.append(segments.lock_first([path]))
            if len(thieves) == 2:
                thieves[1].remove()
        return descriptor

    monkeypatch.setattr(segments.os, "open", stolen_twice)
    await spool.append(b"kept")
    thieves[0].remove()

    assert await drain(spool) == [b"kept"]
    await spool.close()


async def test_it_is_known_how_much_waits_until_somebody_has_replayed_it(make_spool):
    mine, other = make_spool(), make_spool()
    await mine.append(b"one", events=20)
    await mine.append(b"two", events=5)
    assert mine.waiting_events == 25

    (await mine.take()).release()  # sealed, but the replay failed
    assert (mine.waiting_events, mine.counts.waiting_bytes > 0) == (25, True)
    assert await drain(other) == [b"one", b"two"]
    assert await mine.take() is None
    assert (mine.waiting_events, mine.counts.waiting_bytes) == (0, 0)
    for spool in (mine, other):
        await spool.close()


async def test_a_replay_that_failed_can_be_tried_again(spool):
    await spool.append(b"again")
    segment = await spool.take()
    segment.release()

    assert await drain(spool) == [b"again"]
    await spool.close()


async def test_waiting_appends_share_one_fsync(spool, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(segments.os, "fsync", lambda fd: (synced.append(fd), fsync(fd)))

    await asyncio.gather(*(spool.append(b"%d" % n) for n in range(200)))

    assert await drain(spool) == [b"%d" % n for n in range(200)]
    # Two for the new segment and its name, one for the first record, one for
    # the 199 that waited meanwhile; or they all came before the disk began.
    assert len(synced) <= 5
    await spool.close()


async def test_a_caller_that_goes_away_disturbs_nobody(spool):
    gone = asyncio.create_task(spool.append(b"gone"))
    stays = asyncio.create_task(spool.append(b"stays"))
    await asyncio.sleep(0)
    gone.cancel()
    await stays

    assert await drain(spool) == [b"gone", b"stays"]
    await spool.close()


async def test_a_large_spool_has_many_segments_in_order(make_spool, tmp_path):
    spool = make_spool(segment_bytes=100)
    records = [b"%03d" % n * 10 for n in range(30)]
    for record in records:
        await spool.append(record)

    assert len(list((tmp_path / "spool").glob(f"*{SUFFIX}"))) == 10
    assert await drain(spool) == records
    await spool.close()


async def test_a_full_spool_refuses_and_takes_again_after_a_replay(make_spool, tmp_path):
    spool, other = make_spool(max_bytes=1000), make_spool(max_bytes=1000)
    await spool.append(b"x" * 600)

    with pytest.raises(SpoolFailed, match="of 1000 bytes are waiting"):
        await spool.append(b"y" * 400)
    with pytest.raises(SpoolFailed):  # the bound is for all processes together
        await other.append(b"y" * 400)
    assert await drain(spool) == [b"x" * 600]
    await spool.append(b"y" * 400)

    assert (spool.counts.appended, spool.counts.failed) == (2, 1)
    for one in (spool, other):
        await one.close()


@contextmanager
def disk_that_is_full_after(size: int):
    """Files may not grow beyond `size` bytes: the write that crosses it is cut short."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_is_full_in_the_middle_of_a_record_costs_that_record_only(spool):
    await spool.append(b"before")
    with disk_that_is_full_after(1000), pytest.raises(SpoolFailed, match="File too large"):
        await spool.append(b"too much" * 1000)
    await spool.append(b"after")

    assert await drain(spool) == [b"before", b"after"]
    assert spool.counts.damaged_segments == 0
    await spool.close()


async def test_a_disk_that_is_full_from_the_start_leaves_nothing_behind(spool, tmp_path):
    with disk_that_is_full_after(3), pytest.raises(SpoolFailed):
        await spool.append(b"lost")

    assert list((tmp_path / "spool").iterdir()) == []
    await spool.append(b"kept")
    assert await drain(spool) == [b"kept"]
    await spool.close()


async def test_a_directory_that_cannot_be_made_is_refused_and_said_once(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    spool = Spool(tmp_path / "file" / "spool", 1000, FakeClock())
    for _ in range(3):
        with pytest.raises(SpoolFailed, match="Not a directory"):
            await spool.append(b"lost")

    assert len(caplog.records) == 1
    await spool.close()


def test_a_torn_last_frame_loses_nothing_before_it():
    ends = [len(MAGIC) + len(b"".join(map(frame, RECORDS[:n]))) for n in range(len(RECORDS) + 1)]
    for cut in range(len(MAGIC), len(INTACT)):
        whole = sum(end <= cut for end in ends[1:])
        assert parse_segment(INTACT[:cut]) == (RECORDS[:whole], False)


@pytest.mark.parametrize("zeros", [1, 7, 8, 9, 5000])
def test_zeros_where_the_last_write_was_lost_are_a_torn_frame(zeros):
    assert parse_segment(INTACT + b"\0" * zeros) == (RECORDS, False)


@pytest.mark.parametrize("header", [b"", b"podium", MAGIC])
def test_a_segment_that_was_only_begun_is_empty(header):
    assert parse_segment(header) == ([], False)


def test_a_changed_byte_is_noticed_and_never_a_wrong_record():
    for at in range(len(INTACT)):
        changed = INTACT[:at] + bytes([INTACT[at] ^ 0x10]) + INTACT[at + 1 :]
        records, _ = parse_segment(changed)
        assert records == RECORDS[: len(records)]
        assert len(records) < len(RECORDS)


async def test_a_damaged_segment_is_set_aside_for_a_person(spool, tmp_path):
    await spool.append(b"good")
    await spool.append(b"bad one")
    await spool.append(b"out of reach")
    (path,) = (tmp_path / "spool").iterdir()
    path.write_bytes(path.read_bytes().replace(b"bad", b"mad"))

    assert await drain(spool) == [b"good"]
    assert [p.suffix for p in (tmp_path / "spool").iterdir()] == [".damaged"]
    assert spool.counts.damaged_segments == 1
    assert await drain(spool) == []
    await spool.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from service.clock import SystemClock
from service.events.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), 1 << 30, SystemClock(), segment_bytes=5000)
    async def write(worker):
        n = 0
        while True:
            record = b"%d-%d" % (worker, n)
            await spool.append(record)
            print(record.decode(), flush=True)
            n += 1
    await asyncio.gather(*(write(worker) for worker in range(8)))

asyncio.run(main())
"""


def killed_while_writing(directory) -> set[bytes]:
    """Let a process write to the spool until SIGKILL; what it was told is kept."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE
    ) as writer:
        told = [writer.stdout.readline() for _ in range(300)]
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.readlines()
    return {line.strip() for line in told if line.endswith(b"\n")}


async def test_what_was_acknowledged_survives_sigkill(make_spool, tmp_path):
    spool = make_spool()
    for _ in range(3):
        acknowledged = killed_while_writing(tmp_path / "spool")
        kept = await drain(spool)

        assert acknowledged <= set(kept)
        assert len(kept) == len(set(kept))
        assert len(kept) - len(acknowledged) <= 8  # written, not yet told
    await spool.close()
