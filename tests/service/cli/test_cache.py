"""``podium cache`` on its own: how calls become one, what is said, what is refused."""

import pytest

from ranking_models.errors import InputError
from service.cli import run
from service.cli.cache import entry_words, view_words
from service.cli.cache_warm import warmed
from service.cli.running_service import address
from service.errors import StartupError
from service.messages import ModelRef
from service.warming.values import (
    CacheView,
    EntryView,
    KeyCount,
    LookupCounts,
    ServerFigures,
    WarmReply,
    WarmRequest,
)

MODEL = ModelRef(name="tiny", version="1", precision="fp32", engine="cpu")
LOOKUPS = LookupCounts(
    workers=2,
    hits=70,
    process_hits=40,
    stale=20,
    misses=10,
    errors=1,
    left_alone=2,
    writes=30,
    write_errors=0,
    writes_skipped=0,
    process_entries=5,
    process_bytes=4000,
)


def service(top=10, pages=4, **changes):
    """A service that warms so many pages per call; `changes` are of replies by their number."""
    asked = []

    def ask(wanted):
        first = wanted.first or 0
        asked.append(first)
        done = {
            "deployment": "ranker",
            "model": MODEL,
            "epoch": 0,
            "top": top,
            "first": first,
            "next": min(top, first + pages),
            "computed": min(top, first + pages) - first,
            "cached": 0,
            "empty": 0,
            "failed": 0,
            "waited_s": 0.5,
        }
        return WarmReply(**done | changes.get(f"reply_{len(asked)}", {}))

    return ask, asked


def test_calls_go_on_where_the_last_one_ended_until_all_is_done():
    ask, asked = service(top=10, pages=4)
    drawn = []

    done = warmed(WarmRequest(top=10, first=0), ask, drawn.append)

    assert asked == [0, 4, 8]
    assert (done.first, done.next, done.computed, done.waited_s) == (0, 10, 10, 1.5)
    assert [one.next for one in drawn] == [4, 8, 10]


def test_a_call_that_live_traffic_left_no_time_for_is_made_again():
    ask, asked = service(top=8, pages=4, reply_2={"next": 4, "computed": 0})

    assert warmed(WarmRequest(top=8, first=0), ask, lambda _: None).next == 8
    assert asked == [0, 4, 4]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epoch": 1}, "the cache was purged"),
        ({"model": ModelRef(name="tiny", version="2", precision="fp32", engine="cpu")}, "model"),
    ],
)
def test_a_purge_or_another_model_in_between_is_told_and_not_warmed_over(change, words):
    ask, _ = service(reply_2=change)

    with pytest.raises(InputError, match=words):
        warmed(WarmRequest(top=10, first=0), ask, lambda _: None)


def test_the_view_says_what_was_found_stale_answers_among_it():
    view = CacheView(
        state="connected",
        problem=None,
        epoch=3,
        modes={"ranker": "exact"},
        lookups=LOOKUPS,
        server=ServerFigures(
            nodes=1,
            keys=1234,
            used_memory_bytes=2_000_000,
            max_memory_bytes=0,
            policy="allkeys-lfu",
            evicted=0,
            expired=7,
        ),
        keys=KeyCount(slates=9, is_complete=False),
    )

    words = view_words(view)

    assert "90.0 % found" in words
    assert "no limit" in words
    assert "and more, not counted" in words


def test_nobody_asked_is_no_hit_rate():
    assert LookupCounts(**dict.fromkeys(LookupCounts.__struct_fields__, 0)).hit_share is None


def test_an_entry_is_fresh_stale_unreadable_or_not_there():
    there = {
        "key": "k",
        "is_present": True,
        "size_bytes": 9,
        "age_s": 5.0,
        "computed_ms": 0.3,
        "candidates": 2,
    }

    assert "not there" in entry_words(EntryView(key="k", is_present=False))
    assert "fresh for 7 s" in entry_words(EntryView(**there, is_readable=True, fresh_for_s=7.0))
    assert "stale" in entry_words(EntryView(**there, is_readable=True, fresh_for_s=-7.0))
    assert "unreadable" in entry_words(EntryView(**there, is_readable=False))


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:81"),
        ("0.0.0.0", "http://127.0.0.1:81"),
        ("::", "http://[::1]:81"),
        ("ranker.internal", "http://ranker.internal:81"),
    ],
)
def test_the_settings_tell_where_the_service_is(tmp_path, host, url):
    file = tmp_path / "podium.toml"
    file.write_text(f'[server]\nhost = "{host}"\nport = 81\n[deployments.ranker]\nmodel = "tiny"\n')

    assert address(None, file) == url


def test_settings_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(StartupError):
        address(None, tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    "arguments",
    [
        ["warm", "--top", "0"],
        ["warm", "--rate", "0"],
        ["warm", "--url", "http://x", "--config", "podium.toml"],
        ["warm", "--context", "device=ios", "--context", "device=web"],
        ["inspect", "--item", "i1", "--key", "k"],
        ["inspect", "--count", "--item", "i1"],
        ["inspect", "--surface", "home"],
        ["flush", "--model", "tiny"],
    ],
)
def test_wrong_usage_is_one_line_and_code_2(arguments, capsys):
    assert run(["cache", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
