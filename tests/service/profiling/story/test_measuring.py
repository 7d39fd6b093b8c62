"""Medians over the rounds, and the better number of connections."""

import msgspec
import pytest

from ranking_models.bundle import Bundle
from service.loadgen.generator import Asked, Met
from service.profiling.story.measuring import FULL, QUICK, Run, Runs, measure_all, open_rate
from service.profiling.story.traffic import Rank, Shoppers, Stream
from tests.support.bundles import write_tiny_bundle

PLAN = msgspec.structs.replace(FULL, connections=(16, 64))


def run(per_s: float, **more: object) -> Run:
    plain = Run(
        step=2,
        phase="closed",
        connections=16,
        share=0.0,
        rate_per_s=0.0,
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
        run(50.0, phase="open", connections=256, share=0.5),
        run(80.0, phase="open", connections=256, share=0.8),
    ]
)


def test_one_lucky_round_does_not_count():
    assert RUNS.of(2, "closed", 16).median(lambda one: one.per_s) == 110.0
    assert RUNS.best_connections(2, PLAN) == 64


@pytest.mark.parametrize(
    ("p99_ms", "better"),
    [((20.0, 50.0), 16), ((20.0, 35.0), 64), ((40.0, 50.0), 64), ((40.0, 20.0), 64)],
)
def test_a_rate_that_keeps_everybody_waiting_is_no_maximum_if_there_is_another(p99_ms, better):
    few, many = p99_ms
    runs = Runs([run(100.0, p99_ms=few), run(200.0, connections=64, p99_ms=many)])

    assert runs.best_connections(2, PLAN) == better


def test_the_open_loop_follows_the_steps_own_maximum():
    assert open_rate(RUNS, 2, PLAN, 0.7) == 0.7 * 200.0
    assert RUNS.of(2, "open", share=0.8).median(lambda one: one.per_s) == 80.0


def test_failures_are_summed_over_all_runs_of_a_step():
    assert RUNS.failed(2) == 3
    assert RUNS.failed(4) == 0


def test_a_quick_story_takes_less():
    def seconds(plan: object) -> float:
        runs = len(plan.connections) + len(plan.open_shares)
        return plan.rounds * plan.seconds * runs * 5

    assert seconds(QUICK) <= 30
    assert seconds(FULL) <= 200


class Answering:
    """A step that answers 100 requests in a second, and keeps what it was asked."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.rates: list[float | None] = []

    def cpu_s(self) -> float:
        return 0.0

    def ask(self, stream: Stream, *, rate_per_s: float | None, **more: object) -> Met:
        self.streams.append(stream)
        self.rates.append(rate_per_s)
        return Met(
            latencies={200: [0.01] * 100},
            pages=Asked(),
            ranks=Asked(),
            unanswered=0,
            broken=0,
            seconds=1.0,
            late_p99_s=0.0,
            cpu_s=0.1,
            replies=[],
        )


@pytest.fixture(scope="module")
def shoppers(tmp_path_factory: pytest.TempPathFactory) -> Shoppers:
    return Shoppers(Bundle.open(write_tiny_bundle(tmp_path_factory.mktemp("bundles"))))


def test_every_step_meets_every_rate_and_no_ranking_is_asked_twice(shoppers):
    plan = msgspec.structs.replace(FULL, rounds=2, seconds=0.02, open_shares=(0.5, 0.8))
    steps, shares = {2: Answering(), 4: Answering()}, []

    runs = measure_all(steps, shoppers, plan, workers=1, progress=shares.append)

    for number, step in steps.items():
        assert step.rates == [None, None, 50.0, 80.0] * 2
        asked = [r.body for s in step.streams for r in s.requests if isinstance(r, Rank)]
        assert len(asked) == len({*asked}) > 50
        fastest = runs.of(number, "open", share=0.8)
        assert fastest.median(lambda run: run.connections) == 256
        assert fastest.median(lambda run: run.rate_per_s) == 80.0
    assert steps[2].streams == steps[4].streams
    assert shares == [pytest.approx(done / 16) for done in range(1, 17)]
