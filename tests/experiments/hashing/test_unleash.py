"""The cases of Unleash's client specification, through our code."""

import pytest

from experiments.assignment import Assigner, Units
from tests.support.hash_vectors import experiment, place, vectors

CASES = vectors("unleash")


def test_all_of_the_published_cases_are_here():
    assert (len(CASES["rollout"]), len(CASES["variant"])) == (19, 15)


@pytest.mark.parametrize(("group", "percent", "unit", "enabled"), CASES["rollout"])
def test_a_unit_takes_part_where_unleash_enables_the_feature(group, percent, unit, enabled):
    e = experiment("unleash", [500, 500], gate_salt=group, traffic_bp=percent * 100)

    assert (place(e, unit) >= 0) is enabled


@pytest.mark.parametrize(("group", "weights", "unit", "at"), CASES["variant"])
def test_an_experiment_picks_the_variant_that_unleash_picks(group, weights, unit, at):
    assert place(experiment("unleash", weights, split_salt=group), unit) == at


def test_without_weights_the_shares_count_in_thousandths_as_unleash_keeps_them():
    for number in range(200):
        given = experiment("unleash", [500, 500], salt="f")
        left_out = experiment("unleash", [500, 500], salt="f", weights=None)

        assert place(given, f"u{number}") == place(left_out, f"u{number}")


def test_the_salt_is_the_group_of_rollout_and_variants():
    e = experiment("unleash", [1, 1], salt="Feature.flexibleRollout.10", traffic_bp=1000)
    assigner = Assigner([e])

    assert assigner.decide(Units("174")).assignments[0].reason == "SPLIT"
    assert assigner.decide(Units("499")).assignments[0].reason == "TRAFFIC"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"traffic_bp": 150}, "whole percents"),
        ({"weights": None, "weights_bp": [3333, 6667]}, "counts shares in thousandths"),
    ],
)
def test_what_unleash_cannot_count_is_refused(changes, says):
    weights = changes.pop("weights_bp", [500, 500])
    with pytest.raises(ValueError, match=says):
        experiment("unleash", weights, **changes)
