"""Variants may divide the range in another order than they are written in."""

import pytest

from experiments.assignment import Assigner, Units, bucket
from experiments.definition import Experiment, Variant
from experiments.source import parse_experiments
from experiments.standing import digest_of_split

NAMES = ("off", "on", "max")
SHARES = {"off": 7_000, "on": 1_000, "max": 2_000}


def experiment(*order, **changes):
    variants = tuple(
        Variant(name=name, share_bp=SHARES[name], deployment=f"to-{name}") for name in NAMES
    )
    return Experiment(key="test", variants=variants, draw_order=order, **changes)


def test_the_range_is_divided_in_the_order_given_and_the_control_stays_the_first_written():
    reordered = experiment("on", "max", "off")
    assigner = Assigner((reordered,))

    assert reordered.control.name == "off"
    for n in range(300):
        slot = bucket(f"u{n}", "test.split")
        (decided,) = assigner.decide(Units(user=f"u{n}")).assignments
        name = "on" if slot < 1_000_000 else "max" if slot < 3_000_000 else "off"
        assert decided.variant == name
        assert decided.deployment == f"to-{name}"
        assert decided.propensity == SHARES[name] / 10_000


def test_the_order_as_written_changes_nothing_but_another_order_is_another_split():
    as_written, same, other = experiment(), experiment(*NAMES), experiment("on", "off", "max")
    decisions = [
        [Assigner((e,)).decide(Units(user=f"u{n}")).assignments[0].variant for n in range(300)]
        for e in (as_written, same, other)
    ]

    assert decisions[0] == decisions[1] != decisions[2]
    assert digest_of_split(as_written) != digest_of_split(other)


def test_an_interleaving_stays_with_the_control_whatever_the_order():
    pair = (
        Variant(name="old", share_bp=5_000, deployment="a"),
        Variant(name="new", share_bp=5_000, deployment="b"),
    )
    mixed = Experiment(key="mix", variants=pair, method="interleave", draw_order=("new", "old"))
    (decided,) = Assigner((mixed,)).decide(Units(user="u")).assignments

    assert (decided.variant, decided.deployment) == ("old", "a")


@pytest.mark.parametrize("order", [("on",), ("on", "off", "off"), ("on", "off", "new")])
def test_an_order_that_does_not_name_every_variant_once_is_refused(order):
    with pytest.raises(ValueError, match="draw_order must name each of its variants once: off, on"):
        experiment(*order)


def test_a_file_can_say_it():
    text = "[[experiment]]\nkey = 'k'\ndraw_order = ['b', 'a']\n" + "".join(
        f"[[experiment.variant]]\nname = '{name}'\nshare_bp = 5000\n" for name in "ab"
    )
    (read,) = parse_experiments(text, where="test")

    assert [variant.name for variant in read.in_draw_order] == ["b", "a"]
