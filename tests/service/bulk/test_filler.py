"""What one process of many does, without the many: the real model and a real cache server."""

import shutil
import socket
import tempfile
from pathlib import Path

import msgspec
import pytest

from service.bulk.chunks import Chunk, ChunkDone
from service.bulk.filler import Filler, Order
from service.bulk.parts import warming_parts
from service.bulk.spread import look_for, spread
from service.errors import StartupError
from service.settings import load_settings
from service.warming.values import WarmRequest

SETTINGS = """
state_directory = "state"
[engine]
calibrate = false
[deployments.ranker]
model = "marketplace"
[surfaces]
default = "ranker"
"""
WANTED = WarmRequest(top=40, first=0, rate_per_s=None)


@pytest.fixture
def home():
    home = Path(tempfile.mkdtemp(prefix="podium-bulk-"))
    yield home
    shutil.rmtree(home, ignore_errors=True)


def loaded(home, url=None):
    file = home / "podium.toml"
    file.write_text(SETTINGS + (f'[redis]\nurl = "{url}"\n' if url else ""))
    return load_settings(file, environ={})


class TinyDesk:
    """Chunks by the number of the task, and those that have ended."""

    def __init__(self, cut):
        self.cut = cut
        self.over = set()

    def take(self, task):
        return self.cut[task] if task < len(self.cut) else None

    def ended(self, chunk):
        self.over.add(chunk)

    def is_over(self, chunk):
        return chunk in self.over


def slates(valkey):
    """Entries of pages: a reply of SCAN with all keys of a small server."""
    return {
        word
        for word in valkey.command("KEYS", "podium:*:R:*").split(b"\r\n")
        if word.startswith(b"podium:") and not word.endswith(b":lock")
    }


def test_a_task_that_runs_again_finds_its_pages_and_changes_nothing(home, valkey):
    settings = loaded(home, valkey.url)
    order = Order(settings=settings.settings, directory=str(settings.directory), wanted=WANTED)
    desk = TinyDesk([Chunk(0, 20), Chunk(0, 40), Chunk(0, 40)])
    filler = Filler(order.encode(), desk)

    def run(task):
        return msgspec.json.decode(filler({"task": task})["done"], type=ChunkDone)

    # Its process died in the middle: half of the pages are there.
    half, whole = run(0), run(1)
    kept = slates(valkey)
    again, kept_again = run(2), slates(valkey)
    nothing = filler({"task": 3})
    filler.close()

    assert (half.computed, half.cached) == (20, 0)
    assert (whole.computed, whole.cached) == (20, 20)
    assert (again.computed, again.cached) == (0, 40)
    assert kept_again == kept
    assert len(kept) == 40
    assert nothing == {"done": b"", "failed": ""}


def test_a_failure_is_none_when_another_process_has_done_the_chunk_meanwhile(home, valkey):
    settings = loaded(home, valkey.url)
    nobody = msgspec.structs.replace(WANTED, deployment="nobody")
    order = Order(settings=settings.settings, directory=str(settings.directory), wanted=nobody)
    desk = TinyDesk([Chunk(0, 20)])
    filler = Filler(order.encode(), desk)

    failed = filler({"task": 0})
    desk.ended(Chunk(0, 20))
    not_needed = filler({"task": 0})
    filler.close()

    assert (failed["done"], failed["failed"][:24]) == (b"", "no deployment 'nobody'; ")
    assert not_needed == {"done": b"", "failed": ""}


def test_without_ray_one_is_told_how_to_get_it(home, valkey):
    settings = loaded(home, valkey.url)

    with pytest.raises(StartupError, match=r"pip install 'podium\[ray\]'"):
        spread(settings, WANTED, workers=1, address=None, draw=lambda _: None)


def test_a_cluster_that_is_not_there_is_missed_at_once():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
            with pytest.raises(StartupError, match=r"refused; --ray-address is the port of"):
                look_for(address)
        nobody.listen()
        look_for(f"127.0.0.1:{port}")
    with pytest.raises(StartupError, match="--ray-address"):
        look_for("127.0.0.1:99999")
    look_for("auto")


async def test_a_cache_that_only_one_service_reaches_is_refused(home):
    with pytest.raises(StartupError, match=r"redis\.url is not set"):
        async with warming_parts(loaded(home)):
            pass
