"""Comparisons: what they add up to, in any order and from any number of processes."""

from collections import Counter

import msgspec
import numpy as np
import pytest

from experiments.comparison import (
    GROUPS,
    Comparison,
    comparison_increments,
    comparison_sums,
    summary,
)
from experiments.events import unit_digest


def comparison(**given) -> Comparison:
    values = {
        "experiment": "int8",
        "phase": 1,
        "variant": "int8",
        "reference": "control",
        "at": 1.0,
        "overlap": 0.9,
        "kendall_tau": 0.8,
        "drift_max": 0.01,
        "drift_mean": 0.002,
        "latency_ms": 2.0,
        "reference_latency_ms": 4.0,
        "unit": unit_digest("u1"),
    }
    return Comparison(**values | given)


def added_up(events) -> dict[str, int]:
    """As the store has them, and as `VariantStatistics.comparisons` gives them."""
    total = Counter()
    for event in events:
        total.update(comparison_increments(event))
    return {name.removeprefix("comparison:"): n for name, n in total.items()}


def test_the_sums_are_the_means_of_what_went_in():
    rng = np.random.default_rng(1)
    events = [
        comparison(
            overlap=float(rng.integers(0, 21) / 20),
            kendall_tau=float(rng.uniform(-1, 1)),
            drift_mean=float(rng.exponential(1e-4)),
            unit=unit_digest(str(at)),
        )
        for at in range(3000)
    ]

    found = summary("control", comparison_sums(added_up(events))["control"])

    assert found.compared == 3000
    assert found.overlap.value == pytest.approx(np.mean([e.overlap for e in events]), abs=1e-6)
    assert found.kendall_tau is not None
    taus = [e.kendall_tau for e in events]
    assert found.kendall_tau.value == pytest.approx(np.mean(taus), abs=1e-6)
    drifts = [e.drift_mean for e in events]
    assert found.drift_mean.value == pytest.approx(np.mean(drifts), rel=1e-4)
    assert found.drift_max == pytest.approx(0.01, rel=0.01)
    assert found.latency_p50_ms == pytest.approx(2.0, rel=0.01)
    assert found.reference_latency_p50_ms == pytest.approx(4.0, rel=0.01)


def test_the_largest_drift_of_all_is_found_among_many_small_ones():
    events = [comparison(drift_max=1e-5)] * 5000 + [comparison(drift_max=0.3)]

    found = summary("control", comparison_sums(added_up(events))["control"])

    assert found.drift_max == pytest.approx(0.3, rel=0.01)
    assert found.drift_p99 == pytest.approx(1e-5, rel=0.01)


def test_intervals_cover_the_mean_although_users_differ():
    """200 experiments of 400 users, each with an agreement of their own over 1 to 20 requests."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        mine = rng.beta(18, 2, 400)
        requests = rng.integers(1, 21, 400)
        group = rng.integers(0, GROUPS, 400)
        total = rng.normal(mine, 0.05 / np.sqrt(requests)) * requests
        sums = comparison_sums(
            {f"control:n{g}": int(requests[group == g].sum()) for g in range(GROUPS)}
            | {f"control:o{g}": int(total[group == g].sum() * 1e6) for g in range(GROUPS)}
            | {"control:x500": 1, "control:l500": 1}
        )
        interval = summary("control", sums["control"]).overlap.interval
        assert interval is not None
        covered += interval.low <= 0.9 <= interval.high

    assert covered / 200 == pytest.approx(0.95, abs=0.035)


def test_what_is_the_same_everywhere_has_no_interval():
    """A thousand equal slates do not prove that no slate differs."""
    events = [comparison(overlap=1.0, unit=unit_digest(str(at))) for at in range(1000)]

    found = summary("control", comparison_sums(added_up(events))["control"])

    assert (found.overlap.value, found.overlap.interval) == (1.0, None)


def test_one_user_is_not_many():
    events = [comparison(overlap=at % 2) for at in range(1000)]

    assert summary("control", comparison_sums(added_up(events))["control"]).overlap.interval is None


def test_what_is_not_known_is_not_counted():
    events = [comparison(kendall_tau=None, reference_latency_ms=None)]

    found = summary("control", comparison_sums(added_up(events))["control"])

    assert (found.kendall_tau, found.reference_latency_p50_ms) == (None, None)


def test_references_are_kept_apart():
    fields = added_up([comparison(), comparison(reference="b"), comparison(reference="b")])

    sums = comparison_sums(fields | {"another version": 3, "b:q": 1})

    assert {name: int(s.compared.sum()) for name, s in sums.items()} == {"control": 1, "b": 2}


def test_the_fields_stay_few():
    rng = np.random.default_rng(3)
    events = [
        comparison(
            unit=unit_digest(str(at)),
            drift_max=float(rng.random()),
            latency_ms=float(rng.lognormal(1, 2)),
        )
        for at in range(5000)
    ]

    assert len(added_up(events)) < 5 * GROUPS + 2200


def test_nothing_compared_is_no_summary():
    sums = comparison_sums({"control:u1": 1})["control"]

    with pytest.raises(ValueError, match="nothing was compared"):
        summary("control", sums)


@pytest.mark.parametrize("field", ["overlap", "drift_max", "latency_ms", "kendall_tau"])
def test_what_is_not_finite_is_no_comparison(field):
    with pytest.raises(ValueError, match="finite"):
        comparison(**{field: float("nan")})


def test_it_travels_as_an_event():
    event = comparison()

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=Comparison) == event
