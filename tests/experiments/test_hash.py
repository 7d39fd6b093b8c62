"""The hash is a promise: a change would move everybody to another variant."""

import os
import subprocess
import sys

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.assignment import BUCKETS, bucket
from experiments.hashing.murmur import seed_of

# murmur3 x86_32 vectors that other implementations publish.
PUBLISHED = [
    ("", 0, 0x00000000),
    ("", 1, 0x514E28B7),
    ("", 0xFFFFFFFF, 0x81F16F39),
    ("test", 0, 0xBA6BD213),
    ("test", 0x9747B28C, 0x704B81DC),
    ("Hello, world!", 0, 0xC0363E43),
    ("Hello, world!", 0x9747B28C, 0x24884CBA),
    ("hello, world", 0, 0x149BBB7F),
    ("The quick brown fox jumps over the lazy dog", 0, 0x2E4FF723),
    ("The quick brown fox jumps over the lazy dog", 0x9747B28C, 0x2FA826CD),
    ("ππππππππ", 0x9747B28C, 0xD58063C1),
]

# Keys of the flagd testbed (v3.9.0) whose murmur3 under seed 0 is at an edge.
EDGES = [
    ("ejOoVL", 0, 0),
    ("bY9fO-", 1, 0),
    ("SI7p-", 2**31 - 1, 4_999_999),
    ("6LvT0", 2**31, 5_000_000),
    ("ceQdGm", 2**32 - 1, 9_999_999),
]

# Ours, pinned: never edit these numbers, add a new hash id instead.
SALTS = ("podium.holdout", "deployment", "demo-ranker.gate", "demo-ranker.split")
GOLDEN = {
    "u42": (1402157, 4925356, 1264181, 1053202),
    "12345": (943032, 7984677, 8698908, 1547186),
    "012345": (6698658, 6009119, 2917590, 3949174),
    "a": (74894, 2957564, 3782918, 5484556),
    "Åsa": (5915323, 377459, 4973716, 3082152),
    "ユーザー": (4808394, 4927327, 8029820, 4791733),
    "👩\u200d🚀": (4598140, 4912409, 922199, 8030847),
    " u42": (9116263, 6380182, 6214110, 3217105),
    "U42": (5034312, 36666, 7030448, 103336),
    "": (5712923, 2696252, 7287072, 5897334),
}


def murmur3(data: bytes, seed: int) -> int:
    """Murmur3 x86_32 from its public description, to check the library against."""

    def rotated(x: int, by: int) -> int:
        return (x << by | x >> (32 - by)) & 0xFFFFFFFF

    def mixed(k: int) -> int:
        return rotated(k * 0xCC9E2D51 & 0xFFFFFFFF, 15) * 0x1B873593 & 0xFFFFFFFF

    h, whole = seed, len(data) // 4 * 4
    for at in range(0, whole, 4):
        h ^= mixed(int.from_bytes(data[at : at + 4], "little"))
        h = (rotated(h, 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    if data[whole:]:
        h ^= mixed(int.from_bytes(data[whole:], "little"))
    h ^= len(data)
    h = (h ^ h >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    h = (h ^ h >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ h >> 16


@pytest.mark.parametrize(("text", "seed", "expected"), PUBLISHED)
def test_the_library_computes_the_published_murmur3(text, seed, expected):
    assert mmh3.hash(text.encode(), seed, False) == expected
    assert murmur3(text.encode(), seed) == expected


@pytest.mark.parametrize(("unit", "h", "slot"), EDGES)
def test_the_edges_of_the_hash_are_the_edges_of_the_buckets(unit, h, slot):
    assert mmh3.hash(unit.encode(), 0, False) == h
    assert bucket(unit, "") == slot  # the empty salt has the seed 0


@pytest.mark.parametrize("unit", GOLDEN)
def test_a_unit_stays_in_its_bucket_for_ever(unit):
    assert tuple(bucket(unit, salt) for salt in SALTS) == GOLDEN[unit]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(alphabet="abc.é", max_size=20))
def test_the_readme_is_enough_to_compute_a_bucket(unit, salt):
    seed = murmur3(salt.encode(), 0)

    assert bucket(unit, salt) == murmur3(unit.encode(), seed) * 10_000_000 >> 32


def test_a_unit_that_is_no_text_is_refused_and_not_converted():
    with pytest.raises(AttributeError):
        bucket(12345, "demo.split")  # type: ignore[arg-type]


def test_a_lone_surrogate_is_an_error_and_not_a_crash():
    """mmh3 5.3.1 ends the process with SIGSEGV on such a str; bytes are safe."""
    with pytest.raises(UnicodeEncodeError):
        bucket("\ud800", "demo.split")


def test_another_process_with_another_hash_seed_agrees():
    code = (
        "from experiments.assignment import Assigner, Units, bucket\n"
        "from experiments.source import parse_experiments\n"
        "e = parse_experiments('''[[experiment]]\\nkey = 'demo-ranker'\\n"
        "overrides = {q2 = 'b', q1 = 'a'}\\n"
        "variant = [{name = 'a', share_bp = 5000}, {name = 'b', share_bp = 5000}]''', where='x')\n"
        "a = Assigner(e)\n"
        "print(a.digest, [a.decide(Units(f'ü{n}')).assignments[0].variant for n in range(99)])\n"
        "print([bucket(f'u{n}', 'demo-ranker.split') for n in range(20)])"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }

    assert len(said) == 1


def slots(salt: str, n: int = 100_000) -> list[int]:
    return [bucket(f"user-{number}", salt) for number in range(n)]


def joint(one: list[int], other: list[int], parts: int = 10) -> float:
    """p-value of the chi-square test that two draws are independent."""
    table = [[0] * parts for _ in range(parts)]
    for x, y in zip(one, other, strict=True):
        table[x * parts // BUCKETS][y * parts // BUCKETS] += 1
    return float(stats.chi2_contingency([[n + 1 for n in row] for row in table]).pvalue)


def test_the_four_draws_are_independent():
    drawn = [slots(salt) for salt in SALTS]

    for at, one in enumerate(drawn):
        for other in drawn[:at]:
            assert joint(one, other) > 0.001
        assert joint(one, one) < 1e-9  # the test would notice


def test_two_experiments_split_independently():
    assert joint(slots("a.split"), slots("b.split")) > 0.001


@pytest.mark.parametrize("salt", SALTS)
def test_buckets_are_uniform(salt):
    counts = [0] * 1000
    for slot in slots(salt):
        counts[slot * 1000 // BUCKETS] += 1

    assert stats.chisquare(counts).pvalue > 0.001


def test_seeds_are_what_the_readme_says():
    assert seed_of("demo-ranker.split") == murmur3(b"demo-ranker.split", 0) == 0x2963B13E
