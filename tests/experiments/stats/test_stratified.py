"""Pooling phases: one phase is as before, Simpson's paradox is none, returning users count once."""

from math import exp, log

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import StratifiedTable

from experiments.stats import NotEnoughData
from experiments.stats.estimate import interval, relative
from experiments.stats.ratio import RatioSample, log_change
from experiments.stats.stratified import Phase, pooled_change
from tests.support.shoppers import CELLS, shoppers, slack


def added(*samples: RatioSample) -> RatioSample:
    return RatioSample(
        np.sum([s.numerator for s in samples], axis=0),
        np.sum([s.denominator for s in samples], axis=0),
    )


def empty() -> RatioSample:
    return RatioSample(np.zeros(CELLS, np.int64), np.zeros(CELLS, np.int64))


def phase(rng: np.random.Generator, ctr: float = 0.1) -> Phase:
    """500 users of each variant, who are in no other phase."""
    control, treatment = (shoppers(rng, 500, ctr).period(rng) for _ in range(2))
    return Phase(control=control, treatment=treatment)


def ramp(rng: np.random.Generator, lift: float) -> list[Phase]:
    """One percent of the users on a good day, then half of them on a bad one."""
    good = (shoppers(rng, 9900, 0.2), shoppers(rng, 600, 0.2 * (1 + lift)))
    bad = (shoppers(rng, 5000, 0.05), shoppers(rng, 5000, 0.05 * (1 + lift)))
    return [
        Phase(control=control.period(rng), treatment=treatment.period(rng))
        for control, treatment in (good, bad)
    ]


def test_one_phase_is_its_own_comparison():
    rng = np.random.default_rng(1)
    a, b = shoppers(rng, 300, 0.1).period(rng), shoppers(rng, 80, 0.13).period(rng)

    pooled, alone = pooled_change([Phase(control=a, treatment=b)]), log_change(a, b)

    assert pooled.value == pytest.approx(alone.value)
    assert pooled.error == pytest.approx(alone.error)
    assert pooled.freedom == pytest.approx(alone.freedom)
    assert pooled.size == pytest.approx(alone.size)


def test_simpsons_paradox_turns_the_raw_sums_around_and_not_the_pooled_change():
    """A treatment that is 10 % better, seen mostly on the bad day."""
    phases = ramp(np.random.default_rng(2), lift=0.1)
    raw = log_change(added(*(p.control for p in phases)), added(*(p.treatment for p in phases)))

    assert raw.value < log(0.8)
    found = relative(interval(pooled_change(phases)))
    assert found.low < 0.1 < found.high
    assert found.low > -0.05


def test_the_value_is_mantel_and_haenszels_as_in_statsmodels():
    """Their table is of risks with odds; with rare clicks the two ratios are the same."""
    rng = np.random.default_rng(3)
    phases = [
        Phase(
            control=shoppers(rng, 4000, ctr).period(rng),
            treatment=shoppers(rng, users, ctr * 1.2).period(rng),
        )
        for ctr, users in ((0.001, 500), (0.003, 2000), (0.002, 4000))
    ]
    tables = [
        np.array(
            [
                [s.numerator.sum(), s.denominator.sum() - s.numerator.sum()]
                for s in (phase.treatment, phase.control)
            ]
        )
        for phase in phases
    ]

    theirs = StratifiedTable(tables).logodds_pooled
    assert pooled_change(phases).value == pytest.approx(theirs, abs=2e-3)


def test_a_phase_without_one_of_the_variants_has_no_weight():
    rng = np.random.default_rng(4)
    full = phase(rng)
    only_control = Phase(control=shoppers(rng, 500, 0.3).period(rng), treatment=empty())
    only_treatment = Phase(control=empty(), treatment=shoppers(rng, 500, 0.3).period(rng))

    alone, more = pooled_change([full]), pooled_change([full, only_control, only_treatment])

    assert more.value == pytest.approx(alone.value)
    assert more.error == pytest.approx(alone.error, rel=0.01)


def test_a_young_stage_without_a_click_is_used_and_not_dropped():
    """Leaving it out would take the unlucky stages of the treatment away."""
    rng = np.random.default_rng(5)
    old = phase(rng)
    unlucky = shoppers(rng, 5, 0.1).period(rng)
    young = Phase(
        control=shoppers(rng, 500, 0.1).period(rng),
        treatment=RatioSample(np.zeros(CELLS, np.int64), unlucky.denominator),
    )

    assert pooled_change([old, young]).value < pooled_change([old]).value


@pytest.mark.parametrize("lift", [0.0, 0.2])
def test_users_who_return_in_the_next_phase_are_not_new_evidence(lift):
    """Coverage of the 95 % interval over 300 ramps; as if phases were independent it is lower."""
    rng, runs = np.random.default_rng(6), 300
    covered = independent = 0
    for _ in range(runs):
        pair = shoppers(rng, 800, 0.1), shoppers(rng, 800, 0.1 * (1 + lift))
        phases = [
            Phase(control=pair[0].period(rng), treatment=pair[1].period(rng)) for _ in range(4)
        ]
        found = interval(pooled_change(phases))
        covered += found.low <= log(1 + lift) <= found.high
        apart = [log_change(p.control, p.treatment).error for p in phases]
        half = 1.96 / np.sqrt(np.sum(1 / np.square(apart)))
        independent += abs(found.value - log(1 + lift)) <= half

    assert covered / runs == pytest.approx(0.95, abs=slack(0.95, runs))
    assert independent / runs < 0.9


def test_pooling_is_worth_the_data_of_all_phases():
    rng = np.random.default_rng(7)
    phases = [phase(rng) for _ in range(4)]

    alone = np.mean([log_change(p.control, p.treatment).error for p in phases])
    assert pooled_change(phases).error == pytest.approx(alone / 2, rel=0.15)


def test_a_common_effect_is_found_at_its_size_in_phases_that_differ_wildly():
    rng = np.random.default_rng(8)
    values = [exp(pooled_change(ramp(rng, 0.1)).value) - 1 for _ in range(40)]

    assert np.mean(values) == pytest.approx(0.1, abs=3 * np.std(values) / 40**0.5)


def test_what_is_missing_is_said():
    rng = np.random.default_rng(9)
    full, no_clicks = shoppers(rng, 100, 0.1).period(rng), empty()
    no_clicks.denominator[:50] = 10
    one = empty()
    one.numerator[0], one.denominator[0] = 3, 10
    for phases, says in (
        ([], "no phases yet"),
        ([Phase(control=full, treatment=empty())], "one and the same phase"),
        ([Phase(control=full, treatment=no_clicks)], "no clicks yet"),
        ([Phase(control=full, treatment=one)], "effective units"),
    ):
        with pytest.raises(NotEnoughData, match=says):
            pooled_change(phases)


def test_samples_of_other_clusters_are_refused():
    full = shoppers(np.random.default_rng(10), 100, 0.1).period(np.random.default_rng(11))
    short = RatioSample(full.numerator[:-1], full.denominator[:-1])

    with pytest.raises(ValueError, match="the same clusters"):
        pooled_change([Phase(control=full, treatment=short)])
