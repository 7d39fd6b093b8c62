"""Two requests share an entry if and only if nothing that the score depends on differs."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranking_models.schema import FeatureBatch
from service.cache import SlateKey, slate_key


def row(dense=(), ids=(), **multi) -> FeatureBatch:
    return FeatureBatch(
        dense=np.array([dense], np.float32).reshape(1, len(dense)),
        ids=np.array([ids], np.int32).reshape(1, len(ids)),
        multi={name: np.array([values], np.int32) for name, values in multi.items()},
    )


def key(**changes) -> SlateKey:
    parts = {
        "score_hash": "cafe0123",
        "epoch": 0,
        "user": row([0.5], [3]),
        "context": row([], [1, 2]),
        "items": ["i1", "i2"],
        "overrides": {},
    }
    return slate_key(**(parts | changes))


def test_a_key_is_readable_in_front_and_hashed_behind():
    text = key(epoch=7).text

    assert re.fullmatch(r"podium:7:cafe0123:R(:[\w-]{22}){3}", text)
    assert key().count == 2


def test_a_key_has_no_braces_which_would_pick_its_cluster_slot():
    text = key(items=["{i1}"], overrides={"{i1}": {"{x}": "{}"}}).text

    assert not set("{}") & set(text)


def test_an_arm_that_keeps_to_itself_is_in_the_namespace():
    text = key(arm="price:{x}/b").text

    assert re.fullmatch(r"podium:0:cafe0123~[\w-]{22}:R(:[\w-]{22}){3}", text)
    assert text.split(":")[3:] == key().text.split(":")[3:]


def test_the_same_request_has_the_same_key_in_every_process():
    """Replicas share entries, so this key may only change together with the value's version."""
    assert key().text == PINNED


def test_users_the_model_cannot_tell_apart_share_an_entry():
    assert key(user=row([0.5], [3])) == key(user=row([0.5], [3]))


def test_the_order_of_candidates_is_the_order_of_the_scores():
    assert key(items=["i1", "i2"]) != key(items=["i2", "i1"])


def test_an_override_that_says_nothing_is_none():
    assert key(overrides={"i1": {}}) == key()


def test_the_order_in_which_overrides_are_written_says_nothing():
    one = {"i1": {"x": 1, "y": 2}, "i2": {"x": 3}}
    other = {"i2": {"x": 3}, "i1": {"y": 2, "x": 1}}

    assert key(overrides=one) == key(overrides=other)


def test_user_and_context_do_not_change_places():
    a, b = row([0.5], [3]), row([0.25], [4])

    assert key(user=a, context=b) != key(user=b, context=a)


PINNED = "podium:0:cafe0123:R:c2uG6xXuh7OH1m2nUt6K0Q:xPyDlB1Ae3bwkW93T5OTPg:i0QFcg5dys3UmYizERGw4w"

# Small alphabets of values that a careless encoding confuses, so that drawing
# twice often draws the same, and often draws a near miss.
ids = st.sampled_from(["a", "b", "ab", "a,b", 'a","b', "a\0b", "", "1", "é", "e\u0301", "[", ":"])
scalars = st.sampled_from([1, 1.0, "1", True, 0, 0.0, -0.0, False, "true", "", 2**70, 1e16, 10**16])
values = st.one_of(scalars, st.none(), st.lists(scalars, max_size=2))
features = st.dictionaries(st.sampled_from(["x", "y", "x:y"]), values, max_size=2)
rows = st.builds(
    row,
    st.lists(st.sampled_from([0.0, 1.0, -1.0, 0.5]), min_size=1, max_size=2),
    st.lists(st.sampled_from([0, 1, 256, 1 << 24]), min_size=1, max_size=2),
    m=st.lists(st.integers(0, 1), min_size=1, max_size=2),
)


@st.composite
def requests(draw):
    items = draw(st.lists(ids, min_size=1, max_size=3, unique=True))
    return {
        "score_hash": draw(st.sampled_from(["cafe", "caff"])),
        "epoch": draw(st.integers(0, 1)),
        "user": draw(rows),
        "context": draw(rows),
        "items": items,
        "overrides": draw(st.dictionaries(st.sampled_from(items), features, max_size=2)),
        "arm": draw(st.sampled_from(["", "e/a", "e/b", "e/a,f/a"])),
    }


@st.composite
def pairs(draw):
    """Two requests that differ in few parts, or in none."""
    first, other = draw(requests()), draw(requests())
    differing = draw(st.sets(st.sampled_from(sorted(first)), max_size=2))
    return first, first | {part: other[part] for part in differing}


def meaning(request) -> list[object]:
    """What the score depends on, spelled with types and without the key's encoding."""
    given = {item: features for item, features in request["overrides"].items() if features}
    return [
        request["score_hash"],
        request["epoch"],
        request["arm"],
        *([a.tolist() for a in request[who].inputs().values()] for who in ("user", "context")),
        list(request["items"]),
        sorted((item, sorted((n, repr(v)) for n, v in f.items())) for item, f in given.items()),
    ]


@given(pairs())
def test_two_requests_share_an_entry_iff_nothing_that_the_score_depends_on_differs(pair):
    first, second = pair

    assert (slate_key(**first) == slate_key(**second)) == (meaning(first) == meaning(second))
