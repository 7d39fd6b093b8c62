"""Events keep the order of the page and the ids of their content."""

from datetime import UTC, datetime

import msgspec
import pytest
from podium_client import RankReply, Unreachable, events
from podium_client.fallback import in_input_order, ranked

REPLY = msgspec.convert(
    {
        "slate_id": "s",
        "items": [{"id": name, "score": 0.5, "rank": n} for n, name in enumerate("abc", 1)],
        "model": {"name": "m", "version": "v", "precision": "fp32", "engine": "e"},
        "experiments": [],
        "exposure": "token",
        "cache": {"result": "miss", "hits": 0, "misses": 3},
        "degraded": None,
        "timing_ms": {"total": 1.0},
    },
    RankReply,
)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_impressions_stand_in_the_order_shown():
    reported = events.impressions(REPLY, shown=["c", "a"], at=AT)

    assert [(e.item_id, e.position, e.type) for e in reported] == [
        ("c", 1, "impression"),
        ("a", 2, "impression"),
    ]
    assert {(e.slate_id, e.exposure) for e in reported} == {("s", "token")}
    assert reported[0].timestamp == "2026-01-02T03:04:05.000+00:00"


def test_the_whole_slate_was_shown_where_nothing_else_is_said():
    assert [e.item_id for e in events.impressions(ranked(REPLY))] == ["a", "b", "c"]


def test_an_id_says_what_happened_and_not_when():
    (first,) = events.click(REPLY, "b", at=AT)
    (again,) = events.click(REPLY, "b")
    others = [*events.click(REPLY, "a"), *events.impressions(REPLY)]

    assert first.event_id == again.event_id
    assert len({e.event_id for e in (first, *others)}) == 5


def test_ids_that_run_into_each_other_are_kept_apart():
    assert events.event_id("click", "s:1", "a", 1) != events.event_id("click", "s", "1:a", 1)


def test_a_page_in_input_order_has_nothing_to_report():
    slate = in_input_order(["a", "b"], 20, Unreachable("gone"))

    assert events.impressions(slate) == events.click(slate, "a") == ()


@pytest.mark.parametrize("shown", [["a", "a"], ["z"]])
def test_what_was_not_in_the_slate_was_not_shown(shown):
    with pytest.raises(ValueError, match="shown"):
        events.impressions(REPLY, shown=shown)


def test_what_was_not_shown_was_not_clicked():
    with pytest.raises(ValueError, match="not shown"):
        events.click(REPLY, "c", shown=["a", "b"])


def test_a_time_without_zone_is_refused():
    with pytest.raises(ValueError, match="zone"):
        events.click(REPLY, "a", at=datetime(2026, 1, 1))
