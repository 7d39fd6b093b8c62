"""What holds of every hash."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.assignment import Assigner, Units
from experiments.definition import HashId
from experiments.hashing import draws, picker
from experiments.hashing.murmur import BUCKETS, bucket, limit_of
from experiments.hashing.terms import Terms
from experiments.together import check_together
from tests.support.hash_vectors import experiment, placing

HASHES: tuple[HashId, ...] = get_args(HashId)
STAGES_BP = (0, 100, 500, 2_000, 5_000, 10_000)
ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@pytest.mark.parametrize("hash_id", HASHES)
def test_a_ramp_only_adds_units_and_moves_none(hash_id):
    members: dict[str, int] = {}
    for traffic_bp in STAGES_BP:
        place = placing(experiment(hash_id, [2000, 3000, 5000], traffic_bp=traffic_bp))
        now = {unit: at for n in range(2000) if (at := place(unit := f"user-{n}")) >= 0}

        assert members.items() <= now.items()
        assert len(now) / 2000 == pytest.approx(traffic_bp / 10_000, abs=0.04)
        members = now
    assert len(members) == 2000


@pytest.mark.parametrize("hash_id", HASHES)
@given(unit=ids, salt=ids)
def test_a_larger_traffic_keeps_the_variant_of_any_unit(hash_id, unit, salt):
    before = -1
    for traffic_bp in STAGES_BP:
        gate, split = ("", salt) if "growth" in hash_id else (f"g{salt}", f"s{salt}")
        terms = (
            Terms(traffic_bp=traffic_bp, weights=(1, 2, 3), gate_salt=gate, split_salt=split)
            if hash_id != "m3x32-v1"
            else Terms(
                traffic_bp=traffic_bp, weights=(1000, 2000, 7000), gate_salt=gate, split_salt=split
            )
        )
        at = picker(hash_id, terms)(unit, unit.encode())

        assert before in (-1, at)
        before = at
    assert before >= 0


@pytest.mark.parametrize("hash_id", HASHES)
def test_variants_get_their_shares(hash_id):
    place = placing(experiment(hash_id, [2000, 3000, 5000], traffic_bp=5_000))
    counts = [0, 0, 0]
    for n in range(8000):
        at = place(f"user-{n}")
        if at >= 0:
            counts[at] += 1

    expected = [share * sum(counts) for share in (0.2, 0.3, 0.5)]
    assert stats.chisquare(counts, expected).pvalue > 0.001


@pytest.mark.parametrize("hash_id", [h for h in HASHES if "growthbook" not in h])
def test_gate_and_split_are_two_draws(hash_id):
    """Drawn from one hash, the gate would let some variants through and others not."""
    inside, outside = [0] * 2, [0] * 2
    gated = placing(experiment(hash_id, [5000, 5000], traffic_bp=5_000))
    everybody = placing(experiment(hash_id, [5000, 5000]))
    for n in range(8000):
        unit = f"user-{n}"
        (inside if gated(unit) >= 0 else outside)[everybody(unit)] += 1

    assert stats.chi2_contingency([inside, outside]).pvalue > 0.001


@given(st.integers(0, 10_000), st.integers(0, 2**32 - 1))
def test_limits_on_hashes_are_limits_on_buckets(share_bp, h):
    assert (h < limit_of(share_bp)) is ((h * BUCKETS) >> 32 < share_bp * 1000)


@pytest.mark.parametrize("h", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_the_edges_of_the_hash_are_on_the_right_side_of_half(h):
    assert (h < limit_of(5_000)) is (h < 2**31)
    assert h < limit_of(10_000)
    assert h >= limit_of(0)


@pytest.mark.parametrize(
    ("unit", "variant"),
    [("ejOoVL", "0"), ("bY9fO-", "0"), ("SI7p-", "0"), ("6LvT0", "1"), ("ceQdGm", "1")],
)
def test_units_at_the_edges_of_the_hash_get_the_variant_of_their_bucket(unit, variant):
    """Their murmur3 under seed 0 is 0, 1, 2^31 - 1, 2^31 and 2^32 - 1; "" is a salt of seed 0."""
    e = experiment("m3x32-v1", [1, 1], split_salt="", holdout_bp=0)

    assert Assigner([e]).decide(Units(unit)).assignments[0].variant == variant
    assert (bucket(unit, "") >= BUCKETS // 2) is (variant == "1")


@pytest.mark.parametrize("hash_id", HASHES)
def test_two_experiments_may_not_draw_alike(hash_id):
    one = experiment(hash_id, [1, 1], key="one", salt="s")
    other = experiment(hash_id, [1, 1], key="other", salt="s")

    assert len({draw for draw, _ in draws(hash_id, one.terms)}) == len(draws(hash_id, one.terms))
    with pytest.raises(ValueError, match="draw the same buckets"):
        check_together([one, other])


@pytest.mark.parametrize(
    ("hash_id", "changes", "says"),
    [
        ("m3x32-v1", {"weights": (1, 1)}, "weights are for the hash of another system"),
        ("flagd-v3", {"weights": (1,)}, "2 variants and 1 weights"),
        ("flagd-v3", {"weights": (1, -1)}, "at least 0 and sum to 1"),
        ("flagd-v3", {"weights": (2**31, 2**31)}, "sum to 1 to 2147483647"),
        ("flagd-v3", {"weights": (1, 2)}, "say different things"),
        ("growthbook-v2", {"gate_salt": "x"}, "draws gate and split at once, by split_salt"),
        ("eppo-md5", {"gate_salt": "x", "split_salt": "x"}, "must differ"),
        ("m3x32-v1", {"gate_salt": "x", "split_salt": "x"}, "must differ"),
        ("unleash", {"split_salt": "\ud800"}, "lone surrogate"),
        ("unleash", {"gate_salt": "x" * 129}, "at most 128"),
    ],
)
def test_terms_that_the_hash_cannot_keep_are_refused(hash_id, changes, says):
    with pytest.raises(ValueError, match=says):
        experiment(hash_id, [1, 1], **changes)


def test_experiments_of_one_layer_draw_it_alike():
    ours = experiment("m3x32-v1", [1, 1], key="a", layer="ui", layer_range_bp=(0, 5000))
    theirs = experiment("growthbook-v2", [1, 1], key="b", layer="ui", layer_range_bp=(5000, 10_000))

    with pytest.raises(ValueError, match="draw the layer 'ui' by m3x32-v1 and growthbook-v1"):
        check_together([ours, theirs])
