"""Whether a report may be believed: split, crossovers, decisions and the rule's own words."""

import msgspec
import pytest

from experiments.definition import Rollout
from experiments.report import render_html, render_text
from experiments.rollout import PhaseFigures, judge
from tests.support.reports import (
    NOW,
    ROLLED_OUT,
    planted,
    record,
    report_of,
    standing_of,
)

SUMS = {"old": planted(seed=1), "new": planted(ctr=0.06, seed=2)}


def test_each_phase_has_a_light_of_its_own():
    lost = {"old": planted(users=10_000), "new": planted(users=9_000)}
    standing = standing_of(ROLLED_OUT, phase=3, pre_phase=1)

    report = report_of(
        ROLLED_OUT,
        SUMS,
        standing=standing,
        earlier={1: SUMS, 2: lost},
        shares={2: {"old": 5000, "new": 5000}},
    )

    found = [(phase.phase, phase.kind, phase.split.verdict) for phase in report.phases]
    assert found == [(3, "present", "ok"), (2, "earlier", "mismatch"), (1, "before", "ok")]
    assert report.phases[1].users == {"old": 10_000, "new": 9_000}
    assert any(note.startswith("In phase 2 the units did not split") for note in report.notes)
    assert "mismatch in an earlier phase" in render_html(report)


@pytest.mark.parametrize(
    ("crossed", "verdict", "light"),
    [
        (0, "ok", "units stayed in their variant"),
        (190, "unclear", "a few units changed variants"),
        (900, "exceeded", "units changed variants"),
    ],
)
def test_units_in_two_variants_have_a_light(crossed, verdict, light):
    sums = {"old": planted(), "new": planted(seed=2, crossovers=crossed)}

    report = report_of(ROLLED_OUT, sums)

    assert report.crossovers.verdict == verdict
    assert report.crossovers.units == crossed
    assert f">{light}</span>" in render_html(report)


def test_the_report_says_what_the_rule_says():
    standing = standing_of(ROLLED_OUT)

    report = report_of(ROLLED_OUT, SUMS, standing=standing)

    figures = PhaseFigures(phase=1, statistics=SUMS)
    judgement = judge(ROLLED_OUT, standing, figures, NOW)
    assert (report.rule.action, report.rule.reason) == ("promote", judgement.reason)
    assert report.rule.evidence == judgement.evidence
    assert report.rule.acts == "automatic"
    assert report.verdict.endswith("; the rule will promote 'new'.")


@pytest.mark.parametrize(
    ("rollout", "acts"),
    [(None, "asked"), ({"dry_run": True, "automatic": True}, "dry_run"), ({}, "asked")],
)
def test_who_acts_on_the_rule_is_told(rollout, acts):
    made = None if rollout is None else Rollout(**rollout)
    experiment = msgspec.structs.replace(ROLLED_OUT, rollout=made)

    report = report_of(experiment, SUMS)

    assert report.rule.acts == acts
    assert "; the rule would " in report.verdict


def test_decisions_carry_the_figures_that_made_them():
    standing = standing_of(ROLLED_OUT)
    judgement = judge(ROLLED_OUT, standing, PhaseFigures(phase=1, statistics=SUMS), NOW)
    evidence = msgspec.to_builtins(judgement.evidence)
    by_rule = record(standing, "advance", reason=judgement.reason, evidence=evidence, at=NOW - 9)
    by_hand = record(standing, "ramp", by="loopback", reason="let us see", dry_run=True)
    odd = record(standing, "hold", evidence={"arms": "of another version"})

    report = report_of(ROLLED_OUT, SUMS, standing=standing, decisions=(by_rule, by_hand, odd))

    first, second, third = report.decisions
    assert (first.action, first.by, first.at) == ("advance", "the rule", "2026-09-21T14:13:11Z")
    assert first.figures[1].startswith("new: 10,000 units, ")
    assert "; CTR +" in first.figures[1]
    assert "; computed latency " in first.figures[1]
    assert (second.by, second.dry_run, second.figures) == ("a local user", True, ())
    assert third.figures == ()
    assert "Decision 2026-09-20 14:13 UTC: ramp, dry run, by a local user (let us see)" in (
        render_text(report)
    )


def test_a_log_that_cannot_be_read_is_no_empty_log():
    report = report_of(ROLLED_OUT, SUMS, decisions_missing="the event server does not answer")

    assert "Not known: the event server does not answer." in render_html(report)


def test_late_and_capped_events_are_told():
    sums = {"old": planted(), "new": planted(seed=2, late=50_000, clicks_capped=7)}

    (note,) = report_of(ROLLED_OUT, sums).notes

    assert note == (
        "Of 'new' 50,000 events came after the attribution window and 7 clicks were beyond the "
        "cap of their unit; neither count."
    )
