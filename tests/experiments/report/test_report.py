"""Reports of planted experiments: what is known to be true must be what is said."""

import json
from collections import Counter
from math import isfinite

import msgspec
import numpy as np
import pytest

from experiments.definition import Experiment, Variant
from experiments.events import Arm, Exposure, Feedback, unit_digest
from experiments.report import Report, build_report, render_text
from experiments.variant_statistics import VariantStatistics, increments

AT = 1_763_769_600.0

HALVES = Experiment(
    key="demo-ranker",
    variants=(
        Variant(name="popularity", share_bp=5000, deployment="popularity"),
        Variant(name="dcn-fp32", share_bp=5000, deployment="dcn-fp32"),
    ),
)


def played(
    name: str,
    *,
    users: int,
    ctr: float,
    seed: int = 1,
    slates: float = 2.0,
    hit_rate: float = 0.3,
    engine_ms: float = 8.0,
    degraded: str | None = None,
) -> VariantStatistics:
    """Shoppers of one variant, event by event through the real increments."""
    rng = np.random.default_rng([seed, *name.encode()])
    fields: Counter[str] = Counter(users=users)
    for user in range(users):
        arm = Arm("demo-ranker", 1, name, unit_digest(f"{name}-{user}"))
        for _ in range(1 + rng.poisson(slates)):
            hit = rng.random() < hit_rate
            exposure = Exposure(
                slate_id="s",
                arms=(arm,),
                at=AT,
                latency_ms=float((1.0 if hit else engine_ms) * rng.lognormal(0, 0.2)),
                candidates=100,
                cache_hits=100 if hit else 0,
                cache_misses=0 if hit else 100,
                cache_result="hit" if hit else "miss",
                engine="onnxruntime-cpu",
                degraded=degraded,
                config_digest="0123456789abcdef",
            )
            fields.update(increments(exposure, arm))
            for position in range(10):
                fields.update(increments(feedback("impression", position, arm), arm))
                if rng.random() < ctr:
                    fields.update(increments(feedback("click", position, arm), arm))
    return VariantStatistics.from_fields(fields)


def feedback(kind: str, position: int, arm: Arm) -> Feedback:
    return Feedback(
        event_id="e",
        kind=kind,
        slate_id="s",
        item_id="i",
        position=position + 1,
        at=AT,
        arms=(arm,),
    )


def report(experiment: Experiment = HALVES, **sums: VariantStatistics) -> Report:
    named = {name.replace("_", "-"): own for name, own in sums.items()}
    return build_report(experiment, named, as_of=AT)


@pytest.fixture(scope="module")
def planted() -> Report:
    """A treatment with half as many clicks again, at four times the latency."""
    return report(
        popularity=played("popularity", users=400, ctr=0.04, engine_ms=2.0),
        dcn_fp32=played("dcn-fp32", users=400, ctr=0.06, engine_ms=8.0),
    )


def test_the_figures_are_the_sums_of_the_events(planted):
    control, treatment = planted.variants

    assert (control.name, treatment.name) == ("popularity", "dcn-fp32")
    assert control.users == treatment.users == 400
    assert control.impressions == 10 * control.exposures
    assert control.candidates == 100 * control.exposures
    assert control.ctr.value == pytest.approx(control.clicks / control.impressions)
    assert sum(control.cache.results.values()) == control.exposures
    assert control.cache.hit_rate == pytest.approx(control.cache.results["hit"] / control.exposures)
    assert control.engines == {"onnxruntime-cpu": 1.0}
    assert control.degraded_share == 0
    assert control.difference is None


def test_the_intervals_hold_the_planted_truth(planted):
    control, treatment = planted.variants

    assert control.ctr.low < 0.04 < control.ctr.high
    assert treatment.ctr.low < 0.06 < treatment.ctr.high
    change = treatment.difference.ctr
    assert change.absolute.low < 0.02 < change.absolute.high
    assert change.relative.low < 0.5 < change.relative.high
    assert change.p_value < 0.001
    computed = treatment.difference.latency_relative.computed
    assert computed.p50.low < 3.0 < computed.p50.high
    assert computed.p95.low < 3.0 < computed.p95.high


def test_latency_is_told_end_to_end_and_by_who_answered(planted):
    latency = planted.variants[0].latency_ms

    assert latency.cached.p50.value == pytest.approx(1.0, rel=0.05)
    assert latency.computed.p50.value == pytest.approx(2.0, rel=0.05)
    assert latency.cached.p50.value < latency.all.p50.value < latency.computed.p50.value
    assert latency.all.p50.low < latency.all.p50.value < latency.all.p50.high


def test_the_verdict_names_the_effect_both_ways_and_which_may_be_read_again(planted):
    change = planted.variants[1].difference

    assert planted.verdict.startswith("'dcn-fp32' has a higher CTR than 'popularity', +")
    assert "% whenever one looks; +" in planted.verdict
    assert "% if this is the only look, p < 0.001), and computes slower, +" in planted.verdict
    assert planted.verdict.endswith(
        "; only the first range may be read again and again, the second once."
    )
    assert planted.verdict.count(". ") == 0
    assert change.ctr_always.relative.low < change.ctr.relative.low < 0.5
    assert 0.5 < change.ctr.relative.high < change.ctr_always.relative.high


def test_equal_variants_are_not_called_different_and_the_size_is_told():
    same = report(
        popularity=played("popularity", users=300, ctr=0.05),
        dcn_fp32=played("dcn-fp32", users=300, ctr=0.05),
    )

    assert same.verdict.startswith("No difference in CTR between 'dcn-fp32' and 'popularity'")
    assert "% would be found 8 times in 10" in same.verdict
    assert same.variants[1].difference.ctr.detectable > 0


def test_an_experiment_without_events_explains_what_is_missing():
    empty = report()

    assert empty.verdict == (
        "No data yet: phase 1 has no exposures, which begin with the first ranking request "
        "of a user that takes part."
    )
    assert [v.ctr.missing for v in empty.variants] == ["no impressions yet"] * 2
    assert empty.split.verdict == "unknown"
    assert empty.variants[1].difference.missing == "no impressions yet"


def test_a_paused_experiment_without_events_says_so():
    paused = msgspec.structs.replace(HALVES, state="paused")

    assert "paused" in report(paused).verdict
    assert report(paused).notes[0].startswith("The experiment is paused")


def test_a_young_experiment_says_what_each_side_lacks():
    young = report(
        popularity=played("popularity", users=1, ctr=0.5),
        dcn_fp32=played("dcn-fp32", users=4, ctr=0.0),
    )

    assert young.verdict == (
        "Too early to compare 'dcn-fp32' and 'popularity': "
        "'popularity': 1.0 of 5 effective units, 'dcn-fp32': no clicks yet."
    )
    assert young.variants[1].ctr.value == 0
    assert young.variants[1].latency_ms.all.p99.missing.endswith("of 555 requests")
    assert young.variants[1].latency_ms.all.p99.value > 0


def test_a_broken_split_is_the_first_thing_said():
    broken = report(
        popularity=VariantStatistics.from_fields({"users": 10_000, "exposures": 10_000}),
        dcn_fp32=VariantStatistics.from_fields({"users": 9_000, "exposures": 9_000}),
    )

    assert broken.split.verdict == "mismatch"
    assert broken.verdict.startswith(
        "Do not trust these figures: the units split 10000:9000 where 50.0:50.0 % was planned"
    )


def test_a_colder_cache_of_a_small_arm_is_not_taken_for_a_slow_model():
    """90/10, the same model: end to end the small arm looks slower, computed it does not."""
    uneven = Experiment(
        key="demo-ranker",
        variants=(
            Variant(name="control", share_bp=9000),
            Variant(name="small", share_bp=1000),
        ),
    )
    r = report(
        uneven,
        control=played("control", users=1800, ctr=0.05, hit_rate=0.783),
        small=played("small", users=200, ctr=0.05, hit_rate=0.655),
    )
    change = r.variants[1].difference.latency_relative

    assert change.computed.p50.low < 0 < change.computed.p50.high
    assert change.computed.p95.low < 0 < change.computed.p95.high
    assert r.split.verdict == "ok"
    assert any("compare the latencies of computed slates" in note for note in r.notes)


@pytest.mark.parametrize(
    ("crossovers", "said"),
    [
        (1, "1 user was seen in more than one variant, 0.100 % of all: few enough"),
        (9, "9 users were seen in more than one variant, 0.908 % of all: few enough"),
        (10, "10 users were seen in more than one variant, 1.01 % of all: this spoils"),
    ],
)
def test_users_in_two_variants_are_told_and_from_1_percent_on_they_spoil_it(crossovers, said):
    stayed = VariantStatistics.from_fields({"users": 500, "exposures": 500})
    moved = VariantStatistics.from_fields(
        {"users": 500, "exposures": 500, "crossovers": crossovers}
    )

    (note,) = report(popularity=stayed, dcn_fp32=moved).notes

    assert note.startswith(said)


def test_events_that_wait_are_told_beside_the_figures():
    waiting = build_report(HALVES, {}, as_of=AT, backlog=1200)

    assert waiting.notes == ("1,200 events are not added up yet, of this experiment or others.",)
    assert "Note: 1,200 events are not added up yet" in render_text(waiting)


def test_equally_warm_caches_need_no_note(planted):
    assert planted.notes == ()


def test_degraded_slates_stay_in_their_variant_and_are_told():
    r = report(
        popularity=played("popularity", users=50, ctr=0.1),
        dcn_fp32=played("dcn-fp32", users=50, ctr=0.1, degraded="fallback_engine"),
    )

    assert r.variants[1].degraded_share == 1.0
    assert r.variants[1].ctr.value is not None
    assert any("were degraded (fallback_engine)" in note for note in r.notes)


def test_more_clicks_than_impressions_is_told():
    lossy = Counter({"exposures": 9, "impressions": 5, "clicks": 6})
    for cell in range(6):
        lossy.update({f"i{cell}": int(cell > 0), f"c{cell}": 1})

    r = report(popularity=VariantStatistics.from_fields(lossy))

    assert any("more clicks than impressions" in note for note in r.notes)


def test_a_ctr_interval_ends_at_one():
    fields = Counter({"exposures": 6, "impressions": 12, "clicks": 9})
    for cell, clicks in enumerate([2, 2, 2, 2, 1, 0]):
        fields.update({f"i{cell}": 2, f"c{cell}": clicks})

    r = report(popularity=VariantStatistics.from_fields(fields))

    assert r.variants[0].ctr.high == 1.0
    assert "far too early" in r.variants[0].ctr_always.missing


def test_many_treatments_are_compared_each_with_the_control():
    three = Experiment(
        key="demo-ranker",
        variants=tuple(
            Variant(name=n, share_bp=s) for n, s in zip("0ab", (3334, 3333, 3333), strict=True)
        ),
    )
    r = report(
        three,
        **{n: played(n, users=100, ctr=c) for n, c in zip("0ab", (0.05, 0.3, 0.05), strict=True)},
    )

    assert "'a' has a higher CTR than '0'" in r.verdict
    assert "between 'b' and '0' is shown" in r.verdict
    assert any("2 treatments" in note for note in r.notes)
    assert [v.difference is None for v in r.variants] == [True, False, False]


def test_an_external_name_of_another_phase_is_left_out(planted):
    r = report(old_variant=played("old", users=1, ctr=0.5))

    assert [v.exposures for v in r.variants] == [0, 0]


def numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [n for part in value.values() for n in numbers(part)]
    if isinstance(value, list):
        return [n for part in value for n in numbers(part)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("users", [0, 1, 2, 5, 30])
@pytest.mark.parametrize("ctr", [0.0, 0.2, 1.0])
def test_no_report_holds_a_nan_or_fails(users, ctr):
    r = report(
        popularity=played("popularity", users=users, ctr=ctr),
        dcn_fp32=played("dcn-fp32", users=3, ctr=0.3),
    )

    encoded = msgspec.json.encode(r)
    assert all(isfinite(n) for n in numbers(msgspec.to_builtins(r)))
    assert msgspec.json.decode(encoded, type=Report) == r
    assert "nan" not in render_text(r).lower()


def test_the_time_is_rfc_3339_in_utc(planted):
    assert planted.as_of == "2025-11-22T00:00:00Z"
    assert json.loads(msgspec.json.encode(planted))["as_of"] == planted.as_of


def lines(r: Report) -> list[str]:
    return render_text(r).splitlines()


def row(r: Report, label: str) -> str:
    return next(line for line in lines(r) if line.startswith(label))


def test_the_table_shows_each_figure_beside_the_controls(planted):
    control, treatment = planted.variants

    assert row(planted, "users").split() == ["users", "400", "400"]
    assert row(planted, "clicks").split()[1:] == [str(control.clicks), str(treatment.clicks)]
    assert "dcn-fp32" in row(planted, " " * 25 + "popularity (control)")
    assert f"{100 * control.ctr.value:.2f} % [" in row(planted, "CTR")
    assert "p < 0.001" in row(planted, "  significance")
    for label in ("latency p50", "latency p95", "latency p99", "computed p99", "cached p50"):
        assert " ms [" in row(planted, label)
    assert row(planted, "Split of units:").startswith("Split of units: as planned (p = ")


@pytest.mark.parametrize("variants", [2, 3, 4, 7])
def test_the_table_fits_the_terminal_whatever_the_names(variants):
    names = [f"{'long-' * 11}name-{at}" for at in range(variants)]
    shares = [10_000 - (variants - 1)] + [1] * (variants - 1)
    wide = Experiment(
        key="demo-ranker",
        variants=tuple(Variant(name=n, share_bp=s) for n, s in zip(names, shares, strict=True)),
    )
    sums = {
        n: VariantStatistics.from_fields(
            {"users": 10**9, "exposures": 10**9, "impressions": 10**12, "l300": 4, "cache:hit": 7}
        )
        for n in names
    }

    text = render_text(build_report(wide, sums, as_of=AT))

    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count("planned share") == -(-variants // 3)


def test_a_young_table_shows_why_there_is_no_interval():
    young = report(popularity=played("popularity", users=2, ctr=0.3))

    assert "of 555 requests)" in row(young, "latency p99")
    assert "of 5 effective units)" in row(young, "CTR")
    assert "- (no impressions yet)" in row(young, "CTR")
    assert "not checked, 2 units are too few" in row(young, "Split of units:")


def test_a_broken_split_is_loud_in_the_table():
    broken = report(
        popularity=VariantStatistics.from_fields({"users": 10_000, "exposures": 1}),
        dcn_fp32=VariantStatistics.from_fields({"users": 9_000, "exposures": 1}),
    )

    assert row(broken, "Split of units:") == "Split of units: NOT as planned (p < 0.001)."
