"""What one process of many does, without the many: the real model and a real cache server."""

import shutil
import tempfile
from pathlib import Path

import msgspec
import pytest

from service.bulk.chunks import ChunkDone
from service.bulk.filler import Filler, Order
from service.bulk.parts import warming_parts
from service.bulk.spread import spread
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
    filler = Filler(order.encode())

    def run(first, end):
        row = filler({"first": first, "end": end})
        return msgspec.json.decode(row["done"], type=ChunkDone)

    # Its process died in the middle: half of the pages are there.
    half, whole = run(0, 20), run(0, 40)
    kept = slates(valkey)
    again = run(0, 40)
    filler.close()

    assert (half.computed, half.cached) == (20, 0)
    assert (whole.computed, whole.cached) == (20, 20)
    assert (again.computed, again.cached) == (0, 40)
    assert slates(valkey) == kept
    assert len(kept) == 40


def test_without_ray_one_is_told_how_to_get_it(home, valkey):
    settings = loaded(home, valkey.url)

    with pytest.raises(StartupError, match=r"pip install 'podium\[ray\]'"):
        spread(settings, WANTED, workers=1, address=None, draw=lambda _: None)


async def test_a_cache_that_only_one_service_reaches_is_refused(home):
    with pytest.raises(StartupError, match=r"redis\.url is not set"):
        async with warming_parts(loaded(home)):
            pass
