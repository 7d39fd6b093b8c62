"""Two requests share a row if and only if nothing that its scores depend on differs."""

import re

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranking_models.schema import FeatureBatch
from service.cache.row_keys import row_space


def context(dense=(), ids=(), **multi) -> FeatureBatch:
    return FeatureBatch(
        dense=np.array([dense], np.float32).reshape(1, len(dense)),
        ids=np.array([ids], np.int32).reshape(1, len(ids)),
        multi={name: np.array([values], np.int32) for name, values in multi.items()},
    )


def space(**changes):
    parts = {"score_hash": "cafe" * 16, "epoch": 0, "context": context([0.5], [1, 2])}
    return row_space(**(parts | changes))


def test_a_key_names_epoch_model_context_and_item():
    assert re.fullmatch(r"podium:7:cafecafe:S:[\w-]{16}:42", space(epoch=7).key(42))


def test_the_same_context_has_the_same_keys_and_tags_in_every_process():
    """Replicas share rows, so these may only change together with the value's version."""
    assert space().key(5) == "podium:0:cafecafe:S:iOVTbt7kiWUAEunc:5"
    assert space().tags([5]).tolist() == [821962110859982027]


def test_models_whose_hashes_begin_alike_share_no_rows():
    one, other = (space(score_hash="cafe" * 4 + end * 48) for end in "01")

    assert one.prefix != other.prefix
    assert one.seed != other.seed


numbers = st.lists(
    st.floats(width=32, allow_nan=False).filter(lambda x: str(x) != "-0.0"), max_size=3
)
contexts = st.builds(
    context,
    numbers,
    st.lists(st.integers(0, 9), max_size=3),
    tags=st.lists(st.integers(0, 3), max_size=2),
)
asked = st.fixed_dictionaries(
    {
        "score_hash": st.sampled_from(["a" * 64, "a" * 63 + "b", "b" * 64]),
        "epoch": st.integers(0, 12),
        "context": contexts,
        "arm": st.sampled_from(["", "x:a", "x:b"]),
        "item": st.integers(0, 120),
    }
)


def meaning(one):
    read = {name: (a.shape, a.tolist()) for name, a in one["context"].inputs().items()}
    return (one["score_hash"], one["epoch"], one["arm"], one["item"], sorted(read.items()))


@given(asked, asked, st.sets(st.sampled_from(["score_hash", "epoch", "context", "arm", "item"])))
def test_requests_share_a_row_if_and_only_if_all_that_it_depends_on_is_equal(one, other, same):
    other = other | {name: one[name] for name in same}
    spaces = [row_space(**{k: v for k, v in r.items() if k != "item"}) for r in (one, other)]
    keys = [s.key(r["item"]) for s, r in zip(spaces, (one, other), strict=True)]
    tags = [s.tags([r["item"]])[0] for s, r in zip(spaces, (one, other), strict=True)]

    alike = meaning(one) == meaning(other)

    assert (keys[0] == keys[1]) == alike
    assert (tags[0] == tags[1]) == alike


def test_no_two_items_of_a_space_have_one_tag():
    assert len(np.unique(space().tags(np.arange(200_000)))) == 200_000
