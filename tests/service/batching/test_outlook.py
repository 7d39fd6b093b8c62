"""What the queue learns of batches and arrivals."""

import numpy as np
import pytest

from service.batching.outlook import FIRST_BATCHES, Arrivals, LearntBatchTime


def learnt(batches) -> LearntBatchTime:
    model = LearntBatchTime()
    for rows, took_s, blocked_s in batches:
        model.learn(rows, took_s, blocked_s)
    return model


def batches(count, *, fixed_s=0.0005, row_s=1e-6, share=0.0, noise=0.0, seed=0):
    random = np.random.default_rng(seed)
    for _ in range(count):
        rows, blocked_s = int(random.integers(1, 1025)), float(random.uniform(0, 0.001))
        took_s = fixed_s + row_s * rows + share * blocked_s
        yield rows, took_s * float(np.exp(noise * random.standard_normal())), blocked_s


def test_nothing_is_known_before_the_first_batches():
    assert learnt(batches(FIRST_BATCHES - 1)).known is None
    assert learnt(batches(FIRST_BATCHES)).known is not None


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_fixed_cost_row_cost_and_serial_share_are_told_apart(share):
    known = learnt(batches(200, share=share)).known

    assert known.fixed_s == pytest.approx(0.0005, rel=0.05)
    assert known.row_s == pytest.approx(1e-6, rel=0.05)
    assert known.serial_share == pytest.approx(share, abs=0.05)
    assert known.seconds(1000) == pytest.approx(0.0015, rel=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_averaged_out(seed):
    known = learnt(batches(400, share=1.0, noise=0.1, seed=seed)).known

    assert known.seconds(500) == pytest.approx(0.001, rel=0.15)
    assert known.serial_share > 0.6


def test_one_pause_of_the_machine_teaches_little():
    model = learnt(batches(100))
    before = model.known.seconds(500)

    model.learn(500, 2.0, 0.0)
    for batch in batches(8, seed=1):
        model.learn(*batch)

    assert model.known.seconds(500) < 1.5 * before


def test_a_lasting_change_is_learnt():
    model = learnt(batches(200))

    for batch in batches(300, fixed_s=0.005, row_s=1e-5, seed=1):
        model.learn(*batch)

    assert model.known.seconds(500) == pytest.approx(0.010, rel=0.05)


def test_batches_of_one_size_leave_their_time_known_whatever_is_fixed_of_it():
    known = learnt([(400, 0.002, 0.0)] * 100).known

    assert known.seconds(400) == pytest.approx(0.002)
    assert known.fixed_s >= 0
    assert known.row_s >= 0


@pytest.mark.parametrize("seed", range(20))
def test_no_cost_is_ever_negative(seed):
    random = np.random.default_rng(seed)
    rows, took_s = random.integers(1, 400, 100), random.uniform(1e-5, 1e-2, 100)
    blocked_s = random.uniform(0, 0.01, 100)

    known = learnt(zip(rows.tolist(), took_s.tolist(), blocked_s.tolist(), strict=True)).known

    assert known.fixed_s >= 0
    assert known.row_s >= 0
    assert 0 <= known.serial_share <= 1


def test_belief_in_a_serial_device_fades_without_news():
    """Else two batches would never overlap again, and nobody would see that they can."""
    model = learnt(batches(100, share=1.0))
    assert model.known.serial_share > 0.95

    for rows, took_s, _ in batches(4000, seed=1):
        model.learn(rows, took_s, 0.0)

    assert model.known.serial_share < 0.2


def test_a_clock_that_stands_still_teaches_nothing():
    assert learnt([(400, 0.0, 0.0)] * 50).known is None


def test_the_rate_of_arrival_is_learnt():
    arrivals = Arrivals()
    for n in range(500):
        arrivals.learn(rows=100, at=n * 0.001)

    assert arrivals.gap_s == pytest.approx(0.001)
    assert arrivals.rows_per_s == pytest.approx(100_000)


def test_the_first_job_after_a_pause_knows_that_others_come_seldom():
    arrivals = Arrivals()
    for n in range(500):
        arrivals.learn(rows=100, at=n * 0.0001)

    arrivals.learn(rows=100, at=60.0)

    assert arrivals.gap_s > 0.01


def test_the_rate_is_unknown_before_the_second_job():
    arrivals = Arrivals()
    arrivals.learn(rows=100, at=5.0)

    assert arrivals.gap_s is None
    assert arrivals.rows_per_s is None
