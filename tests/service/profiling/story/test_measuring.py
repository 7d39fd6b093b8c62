"""Medians over the rounds, and the better number of connections."""

import msgspec

from service.profiling.story.measuring import FULL, QUICK, Run, Runs, open_rate

PLAN = msgspec.structs.replace(FULL, connections=(16, 64))


def run(per_s: float, **more: object) -> Run:
    plain = Run(
        step=2,
        phase="closed",
        connections=16,
        per_s=per_s,
        p50_ms=1.0,
        p99_ms=2.0,
        page_hits=0.0,
        rank_hits=0.0,
        cpu_us=100.0,
        generator_cores=0.1,
        late_p99_ms=0.0,
        failed=0,
        other_cores=0.0,
    )
    return msgspec.structs.replace(plain, **more)


RUNS = Runs(
    [
        *(run(per_s) for per_s in (100.0, 900.0, 110.0)),
        *(run(per_s, connections=64, failed=1) for per_s in (200.0, 10.0, 210.0)),
        run(5000.0, step=4),
        run(50.0, phase="open", connections=256),
    ]
)


def test_one_lucky_round_does_not_count():
    assert RUNS.of(2, "closed", 16).median(lambda one: one.per_s) == 110.0
    assert RUNS.best_connections(2, PLAN) == 64


def test_the_open_loop_follows_the_steps_own_maximum():
    assert open_rate(RUNS, 2, PLAN) == 0.8 * 200.0


def test_failures_are_summed_over_all_runs_of_a_step():
    assert RUNS.failed(2) == 3
    assert RUNS.failed(4) == 0


def test_a_quick_story_takes_less():
    def seconds(plan: object) -> float:
        return plan.rounds * plan.seconds * (len(plan.connections) + 1) * 5

    assert seconds(QUICK) <= 30
    assert seconds(FULL) <= 200
