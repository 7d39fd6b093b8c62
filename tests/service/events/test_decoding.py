"""Bodies become events; what is wrong is refused alone and says where it is wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest, MalformedBody
from service.events.decoding import decode_events, unix_seconds
from service.messages import EventResult, FeedbackEvent

GOOD = {
    "event_id": "e1",
    "type": "click",
    "slate_id": "s1",
    "item_id": "i1",
    "position": 1,
    "timestamp": "2026-11-21T10:00:00+01:00",
}
EVENT = FeedbackEvent(**GOOD)
BOMB = "[" * 100_000 + "]" * 100_000


def decoded(body: object, *, lines: bool = False, max_events: int = 10):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode_events(raw, lines=lines, max_events=max_events)


def only_rejection(body: object, **options) -> EventResult:
    (result,) = decoded(body, **options)
    assert isinstance(result, EventResult)
    assert (result.status, result.code) == ("rejected", "invalid_event")
    return result


def test_one_event_or_many():
    assert decoded(GOOD) == [EVENT]
    assert decoded([GOOD, GOOD]) == [EVENT, EVENT]
    assert decoded([]) == []


def test_an_event_on_each_line():
    line = json.dumps(GOOD).encode()

    assert decoded(line + b"\n\n" + line + b"\r\n", lines=True) == [EVENT, EVENT]
    assert decoded(b"", lines=True) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"position": 0}, "$[1].position: Expected `int` >= 1"),
        ({"position": 1.5}, "$[1].position: Expected `int`, got `float`"),
        ({"position": "1"}, "$[1].position: Expected `int`, got `str`"),
        ({"position": 1001}, "$[1].position: Expected `int` <= 1000"),
        ({"type": "view"}, "$[1].type: Invalid enum value 'view'"),
        ({"item_id": ""}, "$[1].item_id: Expected `str` of length >= 1"),
        ({"slate_id": "x" * 257}, "$[1].slate_id: Expected `str` of length <= 256"),
        ({"exposure": "x" * 8193}, "$[1].exposure: Expected `str` of length <= 8192"),
        ({"price": 3}, "$[1]: Object contains unknown field `price`"),
        ({"timestamp": "2026-11-21T10:00:00"}, "$[1].timestamp: Expected `datetime` with a"),
        ({"timestamp": "yesterday"}, "$[1].timestamp: Invalid RFC3339 encoded datetime"),
        ({"timestamp": "2026-02-30T10:00:00Z"}, "$[1].timestamp: Invalid RFC3339"),
        ({"timestamp": 1_763_719_200}, "$[1].timestamp: Expected `str`, got `int`"),
        ({"event_id": None}, "$[1].event_id: Expected `str`, got `null`"),
    ],
)
def test_a_bad_event_is_refused_alone_with_its_path(change, where):
    first, bad, last = decoded([GOOD, {**GOOD, "event_id": "bad", **change}, GOOD])

    assert (first, last) == (EVENT, EVENT)
    assert (bad.status, bad.code) == ("rejected", "invalid_event")
    assert bad.detail.startswith(where)
    assert bad.event_id == change.get("event_id", "bad")


def test_each_missing_field_is_named():
    for name in GOOD:
        without = {key: value for key, value in GOOD.items() if key != name}
        assert only_rejection(without).detail == f"$: Object missing required field `{name}`"


def test_what_is_no_object_is_refused_at_its_place():
    results = decoded([1, "x", None, [GOOD], GOOD, True])

    assert [isinstance(r, EventResult) for r in results] == [True] * 4 + [False, True]
    assert results[3].detail == "$[3]: Expected `object`, got `array`"
    assert results[3].event_id is None


def test_an_event_id_that_is_too_long_to_be_one_is_not_echoed():
    assert only_rejection({**GOOD, "event_id": "x" * 300}).event_id is None


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "(byte 0)"),
        (b"{", "(byte 1)"),
        (b'[{"event_id": "e1"', "truncated (byte 18)"),
        (b'{"event_id": e1}', "(byte 13)"),
        (b"[1,]", "(byte 3)"),
        (b'[{"position": NaN}]', "(byte 14)"),
        (b'[{"position": 01}]', "(byte 15)"),
        (b"{} x", "trailing characters"),
        (b'{"event_id": "\xff"}', "not UTF-8 at byte 14"),
        ('[{"event_id": "e1"}]'.encode("utf-16"), "not UTF-8 at byte 0"),
        (b"\xef\xbb\xbf[]", "(byte 0)"),
        (b'[{"event_id": "\\ud800\\u0041"}]', "surrogate pair (byte 27)"),
    ],
)
def test_a_body_that_is_not_json_is_refused_with_the_place(body, says):
    with pytest.raises(MalformedBody) as refused:
        decoded(body)
    assert says in str(refused.value)


@pytest.mark.parametrize("body", [5, "text", None, True])
def test_json_that_holds_no_events_is_refused(body):
    with pytest.raises(InvalidRequest, match="an event is an object"):
        decoded(body)


def test_too_many_events_are_refused_as_a_whole():
    assert len(decoded([GOOD] * 10)) == 10
    with pytest.raises(InvalidRequest, match="11 events in one call, the limit is 10"):
        decoded([GOOD] * 11)
    with pytest.raises(InvalidRequest, match="11 events"):
        decoded(b"\n".join([b"{}"] * 11), lines=True)


def test_a_broken_line_is_refused_alone():
    line = json.dumps(GOOD).encode()
    first, broken, last = decoded(line + b"\n" + line[:40] + b"\n" + line, lines=True)

    assert (first, last) == (EVENT, EVENT)
    assert broken.code == "invalid_event"
    assert broken.detail.startswith("$[1]: ")


def test_json_over_several_lines_is_no_ndjson():
    with pytest.raises(MalformedBody, match=r"line 1: .*\(byte 1\)"):
        decoded(json.dumps([GOOD], indent=2).encode(), lines=True)


@pytest.mark.parametrize(
    "element",
    [
        BOMB,
        '{"event_id": ' + BOMB + "}",
        '{"event_id": "bad", "more": ' + BOMB + "}",
        '{"event_id": "[\\\\", "more": ["\\"]", ' + BOMB + "]}",
        '{"a":' * 50_000 + "1" + "}" * 50_000,
    ],
)
def test_a_nested_bomb_is_refused_alone(element):
    good = json.dumps({**GOOD, "item_id": 'a,"]}\\'})
    first, bomb, last = decoded(f"[{good}, {element} ,{good}]".encode())

    assert first == last == FeedbackEvent(**{**GOOD, "item_id": 'a,"]}\\'})
    assert (bomb.status, bomb.code) == ("rejected", "invalid_event")


@pytest.mark.parametrize("body", ["[" * 500_000, BOMB[:-1], "[" + '{"a":' * 99_999])
def test_a_bomb_without_an_end_is_malformed(body):
    with pytest.raises(MalformedBody, match="nested too deeply"):
        decoded(body.encode())


def test_bombs_in_the_other_forms_are_refused_alone():
    assert only_rejection(('{"a":' + BOMB + "}").encode()).detail.startswith("$: ")
    line = json.dumps(GOOD)
    assert decoded(f"{BOMB}\n{line}".encode(), lines=True)[1] == EVENT


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(st.lists(JSON | st.just(GOOD), max_size=8))
def test_any_array_gives_one_result_for_each_element(elements):
    try:
        raw = json.dumps(elements, allow_nan=False).encode()
    except ValueError:
        return
    results = decoded(raw)

    assert len(results) == len(elements)
    assert [r == EVENT for r in results] == [e == GOOD for e in elements]


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_give_results_or_a_clear_refusal(body, lines):
    try:
        results = decode_events(body, lines=lines, max_events=5)
    except (MalformedBody, InvalidRequest):
        return
    assert all(isinstance(result, FeedbackEvent | EventResult) for result in results)


def test_times_are_seconds_whatever_their_zone():
    assert unix_seconds("1970-01-01T00:00:01Z") == 1.0
    assert unix_seconds("1970-01-01T02:00:00.5+02:00") == 0.5
    assert unix_seconds("1969-12-31t23:59:59z") == -1.0
