"""Experiments that are no plain comparison, and states that are no running one."""

import numpy as np
import pytest
from msgspec.structs import replace

from experiments.bandit import Allocated, weighted_ctr
from experiments.comparison import Comparison, comparison_increments
from experiments.definition import INTERLEAVED, Experiment
from experiments.interleaving import preference
from experiments.report import Report, build_report, render_html, render_text
from experiments.report.words import percent
from experiments.variant_statistics import CELLS
from tests.support.reports import (
    HALVES,
    NOW,
    ROLLED_OUT,
    planted,
    record,
    report_of,
    standing_of,
)

MIXED = Experiment(key="mixed", variants=HALVES, method="interleave")
BANDIT = Experiment(key="bandit", variants=HALVES, policy="thompson")
SUMS = {"old": planted(seed=1), "new": planted(ctr=0.06, seed=2)}


def shown(report: Report) -> str:
    """What a person reads of it, in both forms."""
    return render_text(report) + render_html(report)


def credited(for_new: float) -> dict[str, int]:
    rng = np.random.default_rng(3)
    wins = rng.binomial(10, for_new, CELLS)
    return {f"team:new:{cell}": int(n) for cell, n in enumerate(wins)} | {
        f"team:old:{cell}": int(10 - n) for cell, n in enumerate(wins)
    }


def test_interleaving_is_read_by_its_credit_alone():
    sums = {INTERLEAVED: planted(**credited(0.55))}

    report = report_of(MIXED, sums)

    wins = sums[INTERLEAVED].team_wins
    found = report.interleaving
    assert found.preference == preference(wins["old"], wins["new"])
    assert found.wins == {name: int(own.sum()) for name, own in wins.items()}
    assert report.verdict.startswith("Users prefer the picks of 'new' to those of 'old', +")
    assert report.split.missing.endswith("there is no split")
    assert report.variants[1].difference.ctr is None
    assert report.variants[1].difference.missing == report.plain_tests_refused == found.why
    assert "no split to check" in shown(report)


def test_the_preferred_ranker_is_credited_with_a_plus_also_where_it_is_the_control():
    report = report_of(MIXED, {INTERLEAVED: planted(**credited(0.45))})

    assert report.verdict.startswith("Users prefer the picks of 'old' to those of 'new', +")
    lead = report.interleaving.preference.delta
    assert f"(+{percent(-lead.high)} to +{percent(-lead.low)} %" in report.verdict


def test_the_table_of_an_interleaving_shows_its_slates_and_not_two_empty_arms():
    text = render_text(report_of(MIXED, {INTERLEAVED: planted(**credited(0.55))}))

    assert "interleaved" in text
    assert "no impressions yet" not in text
    assert "net credit of new" in shown(report_of(MIXED, {INTERLEAVED: planted(**credited(0.5))}))


def test_equal_rankers_are_not_called_preferred():
    report = report_of(MIXED, {INTERLEAVED: planted(**credited(0.5))})

    assert report.verdict.startswith("No preference between the picks of 'new' and 'old' is shown")


def test_interleaving_without_clicks_says_what_it_lacks():
    assert report_of(MIXED, {}).verdict == (
        "No data yet: no slate of 'new' and 'old' has been interleaved."
    )
    report = report_of(MIXED, {INTERLEAVED: planted()})
    assert report.interleaving.missing == "0.0 of 10 effective slates or units with clicks"
    assert report.interleaving.missing in report.verdict


def test_a_bandit_is_read_by_weights_and_plain_tests_are_refused():
    earlier = {name: planted(seed=9) for name in SUMS}
    now = {"old": planted(users=2_000), "new": planted(ctr=0.06, seed=2, users=8_000)}
    shares = {1: {"old": 5000, "new": 5000}, 2: {"old": 2000, "new": 8000}}
    standing = standing_of(BANDIT, phase=2, shares_bp=shares[2])

    report = report_of(BANDIT, now, standing=standing, earlier={1: earlier}, shares=shares)

    phases = [
        Allocated(shares_bp=shares[2], statistics=now),
        Allocated(shares_bp=shares[1], statistics=earlier),
    ]
    for variant in report.variants:
        assert variant.weighted_ctr.interval == weighted_ctr(phases, variant.name)
    assert report.plain_tests_refused.startswith("Thompson sampling gives traffic")
    assert report.variants[1].difference.ctr is None
    assert report.variants[1].difference.latency_computed.p_always is None
    assert report.verdict.startswith("A bandit moves the traffic")
    assert "in CTR against the control" not in shown(report)


def test_an_aa_phase_reports_our_own_false_positives():
    same = {"old": planted(seed=1), "new": planted(seed=2)}
    standing = standing_of(ROLLED_OUT, state="aa")

    report = report_of(ROLLED_OUT, same, standing=standing)

    checked = report.self_check.check
    assert checked.of("always-valid, peeking").rate.value <= 0.05
    assert checked.of("fixed, peeking").found > checked.of("fixed").found
    assert report.verdict.startswith("Everybody is served the same")
    assert "Our own false positives" in shown(report)
    again = report_of(ROLLED_OUT, {}, standing=standing, self_check=report.self_check)
    assert again.self_check is report.self_check


def test_an_aa_phase_is_not_pooled_with_phases_that_served_differently():
    standing = standing_of(ROLLED_OUT, state="aa", phase=2)

    report = report_of(
        ROLLED_OUT,
        SUMS,
        standing=standing,
        earlier={1: SUMS},
        shares={1: {"old": 5000, "new": 5000}},
    )

    assert report.variants[1].difference.pooled is None
    assert [phase.phase for phase in report.phases] == [2]


def test_an_aa_phase_without_units_says_what_is_missing():
    report = report_of(ROLLED_OUT, {}, standing=standing_of(ROLLED_OUT, state="aa"))

    assert report.self_check.missing == "0 of 100 cells have impressions"


def test_shadow_scores_tell_how_rankings_agree():
    fields: dict[str, int] = {}
    for n in range(400):
        compared = Comparison(
            experiment="careful",
            phase=1,
            variant="new",
            reference="old",
            at=NOW,
            overlap=0.9 if n % 2 else 0.7,
            kendall_tau=0.5,
            drift_max=0.02,
            drift_mean=0.01,
            latency_ms=3.0,
            reference_latency_ms=4.0,
            unit=f"{n * 163:04x}000000000000",
        )
        for name, added in comparison_increments(compared).items():
            fields[name] = fields.get(name, 0) + added

    report = report_of(ROLLED_OUT, {"old": planted(), "new": planted(seed=2, **fields)})

    (found,) = report.variants[1].shadow
    assert found.compared == 400
    assert found.overlap.value == pytest.approx(0.8)
    assert "Shadow: new beside old, 400 slates, overlap 80.0 %" in render_text(report)
    assert "how rankings agree" in render_html(report)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("draft", "A draft: nobody is assigned"),
        ("running", "Running since 2026-09-20 14:13 UTC with 100 % of the eligible users, stage 5"),
        ("aa", "An A/A phase since"),
        ("paused", "Paused since"),
        ("rolled_back", "Rolled back since"),
        ("stopped", "Stopped since"),
    ],
)
def test_every_state_is_told_plainly(state, told):
    report = report_of(ROLLED_OUT, SUMS, standing=standing_of(ROLLED_OUT, state=state))

    assert report.told.startswith(told)
    assert "stage 5 of 5" in report.told or state != "running"
    assert report.told in render_text(report).replace("\n  ", " ").replace("\n", " ")


def test_a_promotion_names_the_winner_and_who_promoted():
    standing = standing_of(ROLLED_OUT, state="promoted", promoted="new")
    made = record(standing, "promote", by="key:anna", reason="more clicks,\nand faster")

    report = report_of(ROLLED_OUT, SUMS, standing=standing, decisions=(made,))

    assert report.told == (
        "'new' has been promoted since 2026-09-20 14:13 UTC by key:anna (more clicks, and faster): "
        "it serves every eligible unit, and nobody is counted any more."
    )
    assert report.verdict.startswith("'new' was promoted: 'new' has a higher CTR than 'old'")


def test_who_is_not_ready_is_told():
    report = report_of(ROLLED_OUT, SUMS, unready="'new': its bundle failed its parity gates")

    assert report.told.endswith(" Nobody is assigned: 'new': its bundle failed its parity gates.")
    assert report.rule.action == "hold"


def test_an_experiment_of_which_only_the_sums_are_known_has_a_report_as_well():
    report = build_report(replace(ROLLED_OUT), SUMS, as_of=NOW)

    assert report.rule is None
    assert report.since is None
    assert "higher CTR" in report.verdict
    assert report.plan.needs[0].days_left is None


def test_the_verdict_is_a_sentence_also_where_no_slate_was_computed():
    cached = {f"{sums}{cell}": 0 for sums in "mk" for cell in range(CELLS)}
    sums = {name: planted(seed=seed, **cached) for seed, name in enumerate(("old", "new"))}

    verdict = report_of(ROLLED_OUT, sums).verdict

    assert "'new' cannot be compared in computed latency yet (" in verdict
