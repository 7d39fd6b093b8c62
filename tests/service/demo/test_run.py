"""The demonstration waits for every event, and holds the report to the truth without mercy."""

import math

import msgspec
import pytest

from experiments.definition import Experiment, Variant
from experiments.report import Report, build_report
from experiments.report.values import Measure
from service.demo.run import Comparison, Demonstration, compare, render_demonstration, uncounted
from service.loadgen.outcome import Outcome, Tally

EXPERIMENT = Experiment(
    key="demo-ranker",
    variants=(Variant(name="popularity", share_bp=5000), Variant(name="dcn-fp32", share_bp=5000)),
)
TALLIES = {
    "popularity": Tally(slates=10, impressions=100, expected_clicks=20.0, clicks=21),
    "dcn-fp32": Tally(slates=12, impressions=120, expected_clicks=36.0, clicks=33),
}


def report(**ctr: Measure) -> Report:
    """A report that has counted `TALLIES`, with the given CTRs."""
    empty = build_report(EXPERIMENT, {}, as_of=1_790_000_000.0)
    variants = tuple(
        msgspec.structs.replace(
            variant,
            exposures=TALLIES[variant.name].slates,
            impressions=TALLIES[variant.name].impressions,
            clicks=TALLIES[variant.name].clicks,
            ctr=ctr.get(variant.name.replace("-", "_"), variant.ctr),
        )
        for variant in empty.variants
    )
    return msgspec.structs.replace(empty, variants=variants)


def demonstration(found: Report, faults: tuple[str, ...] = ()) -> Demonstration:
    outcome = Outcome(
        everything=Tally(slates=22, impressions=220, expected_clicks=56.0, clicks=54),
        variants={("demo-ranker", name): tally for name, tally in TALLIES.items()},
        failures={},
        degraded={},
        events={"accepted": 274},
        elapsed_s=2.0,
    )
    return Demonstration(
        outcome=outcome, report=found, comparisons=compare(found, TALLIES), faults=faults
    )


def test_a_report_that_has_everything_leaves_nothing_uncounted():
    assert uncounted(report(), TALLIES) == []


@pytest.mark.parametrize("what", ["exposures", "impressions", "clicks"])
def test_what_the_report_has_not_counted_yet_is_named(what):
    full = report()
    behind = msgspec.structs.replace(full.variants[1], **{what: 1})
    partial = msgspec.structs.replace(full, variants=(full.variants[0], behind))
    seen = {"exposures": 12, "impressions": 120, "clicks": 33}[what]

    assert uncounted(partial, TALLIES) == [
        f"dcn-fp32: the report has 1 {what}, the shoppers {seen}"
    ]


def test_a_variant_that_the_report_does_not_know_is_uncounted():
    assert len(uncounted(report(), {"other": Tally(slates=1, impressions=2, clicks=3)})) == 3


@pytest.mark.parametrize(
    ("low", "high", "within"),
    [(0.19, 0.21, True), (0.2, 0.3, True), (0.201, 0.3, False), (math.nan, math.nan, False)],
)
def test_the_truth_is_within_the_interval_or_not(low, high, within):
    found = Comparison(variant="v", reported=0.2, low=low, high=high, true_ctr=0.2)

    assert found.within is within


def test_reported_and_true_ctr_stand_side_by_side():
    popularity = Measure(value=0.21, low=0.18, high=0.24)
    model = Measure(value=0.275, low=0.25, high=0.29)

    text = render_demonstration(demonstration(report(popularity=popularity, dcn_fp32=model)))

    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "popularity 21.00% 18.00% to 24.00% 20.00% yes" in lines
    assert "dcn-fp32 27.50% 25.00% to 29.00% 30.00% no" in lines
    assert "Experiment demo-ranker, phase 1, running" in text
    assert "FAULT" not in text


def test_faults_are_printed_and_missing_figures_are_dashes():
    text = render_demonstration(demonstration(report(), faults=("rank: 503: 3 times",)))

    assert "FAULT: rank: 503: 3 times" in text
    assert "nan" not in text
