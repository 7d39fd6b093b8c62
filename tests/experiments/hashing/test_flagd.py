"""The rows of flagd's testbed for `fractional`, through our code."""

import pytest

from experiments.hashing.flagd import _as_cbor
from tests.support.hash_vectors import experiment, place, vectors

ROWS = vectors("flagd")


def test_all_of_the_published_rows_are_here():
    assert (len(ROWS["v2"]), len(ROWS["v3"])) == (16, 34)


@pytest.mark.parametrize(
    ("version", "salt", "weights", "unit", "at"),
    [(version, *row) for version in ("v2", "v3") for row in ROWS[version]],
)
def test_an_experiment_decides_as_flagd_does(version, salt, weights, unit, at):
    e = experiment(f"flagd-{version}", weights, split_salt=salt)

    assert place(e, unit) == at


def test_the_salt_of_the_experiment_is_the_flag_key_where_none_is_given():
    for version in ("v2", "v3"):
        for salt, weights, unit, at in ROWS[version]:
            if "{unit}" not in salt:
                assert place(experiment(f"flagd-{version}", weights, salt=salt), unit) == at


def test_basis_points_split_as_weights_of_the_same_proportion_do():
    for salt, weights, unit, at in ROWS["v3"]:
        e = experiment("flagd-v3", weights, split_salt=salt)

        assert (
            place(experiment("flagd-v3", [v.share_bp for v in e.variants], split_salt=salt), unit)
            == at
        )


@pytest.mark.parametrize(
    ("salt", "unit", "encoded"),
    [
        ("{unit}", "IETF", "6449455446"),  # RFC 8949, appendix A, from here
        ("{unit}", "ü", "62c3bc"),
        ("{unit}", "水", "63e6b0b4"),
        ("{unit}", "", "60"),
        ("a", "b", "8261616162"),  # a list of the two
    ],
)
def test_ids_are_hashed_as_canonical_cbor(salt, unit, encoded):
    assert _as_cbor(salt)(unit.encode()).hex() == encoded


@pytest.mark.parametrize(
    ("size", "head"),
    [(23, "77"), (24, "7818"), (255, "78ff"), (256, "790100"), (65_535, "79ffff")],
)
def test_lengths_are_written_in_the_fewest_bytes(size, head):
    assert _as_cbor("{unit}")(b"x" * size).hex() == head + "78" * size


def test_an_id_of_more_than_two_bytes_of_length_has_four():
    assert _as_cbor("{unit}")(b"x" * 65_536).hex().startswith("7a0001000078")
