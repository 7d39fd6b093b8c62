"""What tea-tasting, GrowthBook's gbstats and spotify-confidence compute from the same inputs.

The numbers and the inputs are in oracles.json; each package is named there with its version.
"""

import json
from math import exp, inf, log
from pathlib import Path

import numpy as np
import pytest

from experiments.stats import Estimate
from experiments.stats.cuped import Paired, cuped, cuped_difference
from experiments.stats.delta import Moments, Scale, change_of, moments
from experiments.stats.estimate import (
    interval,
    lower_bound,
    one_sided_p,
    p_value,
    relative,
    turned,
)
from experiments.stats.inferiority import non_inferior
from experiments.stats.power import power_of, users_needed
from experiments.stats.ratio import RatioSample, log_change, ratio_difference
from experiments.stats.sequential import (
    always_valid_interval,
    always_valid_lower_bound,
    always_valid_one_sided_p,
    always_valid_p,
)

ORACLES = json.loads((Path(__file__).parent / "oracles.json").read_text())
TEA = ORACLES["tea_tasting"]["results"]
GROWTHBOOK = ORACLES["gbstats"]["results"]
SPOTIFY = ORACLES["spotify_confidence"]

EXACT = 1e-9
"""Twelve digits are kept; iterations inside quantile functions take a few."""


def sample(name: str, arm: int, *, before: bool = False, mean: bool = False) -> RatioSample:
    columns = ORACLES["inputs"][name][arm]
    suffix = "_before" if before else ""
    clicks = np.array(columns[f"clicks{suffix}"])
    return RatioSample(
        clicks, np.ones_like(clicks) if mean else np.array(columns[f"impressions{suffix}"])
    )


def both_moments(case: dict) -> tuple[Moments, Moments]:
    mean = "mean" in (case.get("kind"), case.get("alternative"))
    arms = [
        moments(
            sample(case["data"], arm, mean=mean),
            sample(case["data"], arm, before=True, mean=mean) if case.get("cuped") else None,
        )
        for arm in (0, 1)
    ]
    return arms[0], arms[1]


def named(case: dict) -> str:
    return "-".join(str(v) for v in case.values() if isinstance(v, str | bool | int))


@pytest.mark.parametrize("case", TEA, ids=named)
def test_the_textbook_form_is_that_of_tea_tasting(case):
    arms = both_moments(case)
    absolute, logarithm = (change_of(*arms, scale=s) for s in ("absolute", "logarithm"))

    assert absolute.value == pytest.approx(case["effect_size"], rel=EXACT)
    assert exp(logarithm.value) - 1 == pytest.approx(case["rel_effect_size"], rel=EXACT)
    assert absolute.value / absolute.error == pytest.approx(case["statistic"], rel=EXACT)
    if case["alternative"] == "greater":
        assert one_sided_p(absolute) == pytest.approx(case["pvalue"], rel=EXACT)
        assert lower_bound(absolute) == pytest.approx(case["effect_size_ci_lower"], rel=EXACT)
        low = exp(lower_bound(logarithm)) - 1
        assert low == pytest.approx(case["rel_effect_size_ci_lower"], rel=EXACT)
    elif case["alternative"] == "less":
        assert one_sided_p(turned(absolute)) == pytest.approx(case["pvalue"], rel=EXACT)
        high = -lower_bound(turned(absolute))
        assert high == pytest.approx(case["effect_size_ci_upper"], rel=EXACT)
    else:
        assert p_value(absolute) == pytest.approx(case["pvalue"], rel=EXACT)
        difference, change = interval(absolute), relative(interval(logarithm))
        assert difference.low == pytest.approx(case["effect_size_ci_lower"], rel=EXACT)
        assert difference.high == pytest.approx(case["effect_size_ci_upper"], rel=EXACT)
        assert change.low == pytest.approx(case["rel_effect_size_ci_lower"], rel=EXACT)
        assert change.high == pytest.approx(case["rel_effect_size_ci_upper"], rel=EXACT)


@pytest.mark.parametrize(
    "case", [case for case in GROWTHBOOK if case["test"] != "sequential"], ids=named
)
def test_the_textbook_form_is_that_of_growthbook(case):
    change = change_of(*both_moments(case), scale=case["scale"])

    assert change.value == pytest.approx(case["value"], rel=EXACT)
    if case["test"] == "two_sided":
        assert change.error == pytest.approx(case["error"], rel=EXACT)
        assert p_value(change) == pytest.approx(case["p"], rel=1e-6)  # theirs is 1 - cdf
        assert interval(change).low == pytest.approx(case["low"], rel=EXACT)
        assert interval(change).high == pytest.approx(case["high"], rel=EXACT)
    else:
        assert one_sided_p(change) == pytest.approx(case["p"], rel=1e-6)
        assert lower_bound(change) == pytest.approx(case["low"], rel=EXACT)


@pytest.mark.parametrize(
    "case", [case for case in GROWTHBOOK if case["test"] == "sequential"], ids=named
)
def test_the_confidence_sequence_is_that_of_growthbook(case):
    change = change_of(*both_moments(case), scale=case["scale"])
    known_error = Estimate(value=change.value, error=change.error, size=change.size)
    reading = {"confidence": 1 - case["alpha"], "tuning": case["tuning"]}

    found = always_valid_interval(known_error, **reading)

    assert found.low == pytest.approx(case["low"], rel=EXACT)
    assert found.high == pytest.approx(case["high"], rel=EXACT)
    assert always_valid_p(known_error, **reading) == pytest.approx(case["p"], rel=EXACT)
    # Ours knows that the error is an estimate, and is a little wider for it.
    careful = always_valid_interval(change, **reading) if case["data"] != "few" else None
    if careful is not None:
        assert 1 < (careful.high - careful.low) / (found.high - found.low) < 1.08


def test_the_one_sided_sequence_is_that_of_growthbooks_repository():
    """From their packages/stats/tests/frequentist/test_tests.py, SequentialOneSided...Greater.

    Means of 1396.87 / 3000 and 2422.7 / 3461; the package on PyPI has no such test yet.
    """
    change = Estimate(value=0.5033610858562358, error=0.3334122146400735, size=6461)

    low = -0.42356454602790883
    assert always_valid_lower_bound(change) == pytest.approx(low, rel=1e-12)
    assert always_valid_one_sided_p(change) > 0.4999  # where their search ends


@pytest.mark.parametrize("case", SPOTIFY["difference"], ids=lambda c: str(c["counts"]))
def test_proportions_compare_as_in_spotify_confidence(case):
    """Theirs is a z-test that divides by n, not n - 1."""
    change = by_counts(case["counts"], "absolute")
    change = Estimate(value=change.value, error=change.error, size=change.size)

    assert change.value == pytest.approx(case["difference"], rel=EXACT)
    assert interval(change).low == pytest.approx(case["low"], rel=5e-3)
    assert interval(change).high == pytest.approx(case["high"], rel=1e-3)
    assert p_value(change) == pytest.approx(case["p"], rel=5e-3)


@pytest.mark.parametrize(
    "case", SPOTIFY["non_inferiority"], ids=lambda c: f"{c['counts']}-{c['nim']}-{c['confidence']}"
)
def test_non_inferiority_agrees_with_spotify_confidence(case):
    """Theirs is a z-test against an absolute margin, ours relative to an unknown control."""
    control, _ = case["counts"]
    margin = case["nim"] * control[0] / control[1]
    absolute = by_counts(case["counts"], "absolute")
    low = lower_bound(absolute, confidence=case["confidence"])

    assert low == pytest.approx(case["low"], rel=1e-2, abs=1e-7)
    assert one_sided_p(absolute, null=-margin) == pytest.approx(case["p"], rel=3e-2)

    ours = non_inferior(
        by_counts(case["counts"], "logarithm"), case["nim"], confidence=case["confidence"]
    )
    assert ours.p_value == pytest.approx(case["p"], abs=0.02)
    assert (ours.verdict == "non_inferior") == (ours.p_value < 1 - case["confidence"])


def by_counts(counts: list[list[int]], scale: Scale) -> Estimate:
    """A change between shares of users, as if each user were one impression."""
    arms = []
    for clicks, users in counts:
        x = np.zeros(users)
        x[:clicks] = 1
        arms.append(moments(RatioSample(x, np.ones(users))))
    return change_of(arms[0], arms[1], scale=scale)


@pytest.mark.parametrize("case", ORACLES["tea_tasting"]["power"], ids=lambda c: str(c["n_obs"]))
def test_power_agrees_with_tea_tasting(case):
    """Theirs gives both variants the control's variance: a factor of 1 + change / 2, nearly."""
    plan = {k: case[k] for k in ("power", "confidence", "ratio")}
    control = users_needed(case["ctr"], case["change"], **plan)

    assert control * (1 + case["ratio"]) == pytest.approx(
        case["n_obs"], rel=0.01 + case["change"] * 0.8
    )
    reached = power_of(
        case["ctr"], case["change"], control, confidence=plan["confidence"], ratio=plan["ratio"]
    )
    assert reached == pytest.approx(case["power"], abs=1e-4)


@pytest.mark.parametrize("name", ["equal", "unequal", "strong"])
def test_with_many_users_ours_is_the_textbook_form(name):
    """Hundreds of heavy-tailed users: what the leave-one-out factor adds is a few percent."""
    samples = [sample(name, arm) for arm in (0, 1)]
    ours, textbook = (
        log_change(*samples),
        change_of(*(moments(s) for s in samples), scale="logarithm"),
    )

    assert ours.value == pytest.approx(textbook.value, rel=1e-12)
    assert 1 < ours.error / textbook.error < 1.03
    assert ours.freedom < textbook.freedom
    effect, tea = ratio_difference(*samples), tea_case(name, cuped_wanted=False)
    assert effect.relative.value == pytest.approx(tea["rel_effect_size"], rel=1e-9)
    width = tea["rel_effect_size_ci_upper"] - tea["rel_effect_size_ci_lower"]
    assert 1 < (effect.relative.high - effect.relative.low) / width < 1.05


@pytest.mark.parametrize("name", ["equal", "unequal", "strong"])
def test_with_many_users_cuped_is_that_of_tea_tasting(name):
    arms = [
        Paired(before=sample(name, arm, before=True), during=sample(name, arm)) for arm in (0, 1)
    ]
    tea, adjusted = tea_case(name, cuped_wanted=True), cuped(*arms)
    width = log((1 + tea["rel_effect_size_ci_upper"]) / (1 + tea["rel_effect_size_ci_lower"]))

    assert adjusted.variance_kept < 0.95
    theirs = log(1 + tea["rel_effect_size"])
    # Slopes differ: theirs weighs users, ours the variances of the two variants.
    assert adjusted.change.value == pytest.approx(theirs, abs=0.1 * width)
    ours = cuped_difference(*arms).relative
    assert log((1 + ours.high) / (1 + ours.low)) == pytest.approx(width, rel=0.06)


def tea_case(name: str, *, cuped_wanted: bool) -> dict:
    return next(
        case
        for case in TEA
        if (case["data"], case["cuped"], case["alternative"]) == (name, cuped_wanted, "two-sided")
    )


def test_a_normal_estimate_has_infinite_degrees_of_freedom():
    assert Estimate(value=0.0, error=1.0, size=1.0).freedom == inf
