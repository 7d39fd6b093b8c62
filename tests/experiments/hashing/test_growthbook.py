"""GrowthBook's own cases, through our code."""

import pytest

from experiments.hashing.growthbook import bucket_ranges, choose, in_namespace, slot
from tests.support.hash_vectors import experiment, place, vectors

CASES = vectors("growthbook")
HASHES = [case for case in CASES["hash"] if case[2] in (1, 2)]
RANGES = [
    (variations, coverage, weights, ranges)
    for _, (variations, coverage, weights), ranges in CASES["getBucketRange"]
    # The others are mistakes that GrowthBook repairs and we refuse.
    if 0 <= coverage <= 1 and (weights is None or len(weights) == variations)
    if weights is None or 0.99 <= sum(weights) <= 1.01
]


def test_all_of_the_published_cases_are_here():
    assert (len(HASHES), len(RANGES)) == (14, 8)
    assert [len(CASES[kind]) for kind in ("chooseVariation", "inNamespace", "run")] == [13, 16, 44]


@pytest.mark.parametrize(("seed", "value", "version", "n"), HASHES)
def test_hash(seed, value, version, n):
    assert slot(seed, value, version) == n


@pytest.mark.parametrize(("variations", "coverage", "weights", "ranges"), RANGES)
def test_bucket_range(variations, coverage, weights, ranges):
    found = bucket_ranges(weights or [1 / variations] * variations, coverage)

    assert [[round(start, 9), round(end, 9)] for start, end in found] == ranges


@pytest.mark.parametrize(("name", "n", "ranges", "expected"), CASES["chooseVariation"])
def test_choose_variation(name, n, ranges, expected):
    assert choose(n, ranges) == expected


@pytest.mark.parametrize(("name", "unit", "namespace", "inside"), CASES["inNamespace"])
def test_namespace(name, unit, namespace, inside):
    assert in_namespace(unit, *namespace) is inside


@pytest.mark.parametrize(
    ("name", "unit", "seed", "version", "variations", "weights", "coverage", "namespace", "at"),
    CASES["run"],
)
def test_an_experiment_decides_as_growthbook_does(
    name, unit, seed, version, variations, weights, coverage, namespace, at
):
    layer = {}
    if namespace is not None:
        part = tuple(round(bound * 10_000) for bound in namespace[1:])
        layer = {"layer": namespace[0], "layer_range_bp": part}
    e = experiment(
        f"growthbook-v{version}",
        [round(weight * 10_000) for weight in weights] if weights else [1] * variations,
        split_salt=seed,
        traffic_bp=round(coverage * 10_000),
        **layer,
    )

    assert place(e, unit) == at


def test_the_salt_of_the_experiment_is_the_seed_where_none_is_given():
    assert place(experiment("growthbook-v2", [1, 1], salt="foo"), "ab") == 0
    assert slot("foo", "ab", 2) == 0.2575


def test_characters_count_as_in_javascript():
    """U+1F680 is two units there: the hash of "\\ud83d" "\\ude80", not of one code point."""
    hashed = 0x811C9DC5
    for unit in (0xD83D, 0xDE80):
        hashed = (hashed ^ unit) * 0x01000193 % 2**32

    assert slot("", "\U0001f680", 1) == hashed % 1000 / 1000
