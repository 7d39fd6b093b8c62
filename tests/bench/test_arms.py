"""The simulation of equal arms, reduced: the pitfall is in it, and nobody falls into it."""

from experiments.definition import Experiment, Rollout, Variant
from experiments.rollout import PhaseFigures, judge
from experiments.standing import first_standing
from tests.bench.bench_arms import CONTROL, TREATMENT, Shop, compared

AT_90_10 = Experiment(
    key="equal",
    variants=(Variant(name=CONTROL, share_bp=9_000), Variant(name=TREATMENT, share_bp=1_000)),
    objective="latency",
    rollout=Rollout(stages_bp=(10_000,), minimum_stage_s=0.0, minimum_users=2),
)


def test_an_equal_model_with_a_colder_cache_is_not_declared_a_latency_loss():
    sums = Shop(1, treatment_share=0.1, users=4_000).serve(40_000)
    told = compared(sums)

    assert told.hit_rates[1] < told.hit_rates[0] - 0.1
    assert told.mean_ms[1] > 1.2 * told.mean_ms[0]  # slower for whoever looks at averages
    assert told.end_to_end[1] > 0.1  # and beyond chance
    assert told.computed[1] < 0 < told.computed[2]  # but not where the model works
    assert not told.is_loss

    judged = judge(
        AT_90_10,
        first_standing(AT_90_10, now=0.0),
        PhaseFigures(phase=1, statistics=sums),
        now=1e6,
    )
    assert judged.action != "rollback"
    assert judged.ground != "latency_worse"
