"""Eppo's SDK test data, through our code."""

import pytest

from tests.support.hash_vectors import experiment, place, placing, vectors

DATA = vectors("eppo")


def test_all_of_the_published_rows_are_here():
    assert [len(flag["assigned"]) for flag in DATA["assignment-v2"]] == [1000, 953, 4, 4]
    assert len(DATA["ufc"]) == 37


@pytest.mark.parametrize("flag", DATA["assignment-v2"], ids=lambda flag: flag["flag"])
def test_an_experiment_decides_as_the_older_configurations_do(flag):
    place = placing(
        experiment(
            "eppo-md5",
            flag["weights"],
            gate_salt=f"exposure-{{unit}}-{flag['flag']}",
            split_salt=f"assignment-{{unit}}-{flag['flag']}",
            traffic_bp=round(flag["exposure"] * 10_000),
        )
    )
    units = [flag["prefix"] + subject for subject in flag["subjects"].split()]

    found = "".join("-" if (at := place(unit)) < 0 else str(at) for unit in units)

    assert found == flag["assigned"]


@pytest.mark.parametrize(("gate", "traffic_bp", "split", "weights", "unit", "at"), DATA["ufc"])
def test_an_experiment_decides_as_the_present_configurations_do(
    gate, traffic_bp, split, weights, unit, at
):
    e = experiment("eppo-md5", weights, gate_salt=gate, split_salt=split, traffic_bp=traffic_bp)

    assert place(e, unit) == at


def test_the_salts_are_named_after_eppos_own_where_none_is_given():
    for gate, traffic_bp, split, weights, unit, at in DATA["ufc"]:
        if gate == f"traffic-{split.removeprefix('split-')}":
            salt = split.removeprefix("split-")
            e = experiment("eppo-md5", weights, salt=salt, traffic_bp=traffic_bp)

            assert place(e, unit) == at
