"""What a person reads of a profile."""

import pytest

from service.profiling.text import render_profile
from service.profiling.values import LeftOut, Recommendation, Together
from tests.support.profiles import contender, figures, profile

CPU = contender()
RATES = {100: 50_000.0, 400: 100_000.0}
ADVICE = Recommendation(
    contender=CPU,
    max_batch_rows=400,
    workers=2,
    reasons=("threads = 1: so it is.",),
    toml="[server]\nworkers = 2\n",
)


def test_a_table_for_each_contender_with_its_cost():
    text = render_profile(profile(figures(CPU, RATES, price=0.36), price=0.36))

    assert "onnxruntime-cpu fp32, 1 thread (golden rows off by at most 1.0e-07" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["100", "100", "2.000", "3.000", "50,000", "50%", "50,000", "0.00100"] in lines
    # 0.36 an hour is 0.0001 a second, in which two engines score 200,000 rows.
    assert ["400", "100", "4.000", "6.000", "100,000", "100%", "100,000", "0.000500"] in lines
    assert "per million = 0.36 an hour / (3,600 x rows/s x engines) x 1,000,000" in text


def test_without_a_price_there_is_no_cost_and_on_a_device_no_threads():
    gpu = contender("tensorrt", "fp16", None)

    text = render_profile(profile(figures(gpu, RATES)))

    assert "per million" not in text
    assert "a thread" not in text


@pytest.mark.parametrize(
    ("other_cores", "says"),
    [
        (0.05, "noise: other processes kept 0.05 cores busy; the p95 of a call lies 50% above"),
        (1.2, "noise: other processes kept 1.20 cores busy"),
        (None, "noise: the p95 of a call lies 50% above its median"),
    ],
)
def test_the_noise_is_stated(other_cores, says):
    assert says in render_profile(profile(figures(CPU, RATES), other_cores=other_cores))


@pytest.mark.parametrize(("other_cores", "quiet"), [(0.2, True), (0.3, False), (None, True)])
def test_advice_from_a_busy_machine_says_so(other_cores, quiet):
    text = render_profile(
        profile(figures(CPU, RATES), other_cores=other_cores, recommendation=ADVICE)
    )

    assert ("recommended:\n" in text) == quiet
    assert ("recommended, but run again on a quiet machine:\n" in text) == (not quiet)


@pytest.mark.parametrize(("rounds", "too_few"), [(1, True), (4, True), (5, False)])
def test_too_few_rounds_are_called_that(rounds, too_few):
    text = render_profile(profile(figures(CPU, RATES), rounds=rounds))

    assert ("give more --seconds" in text) == too_few


def test_what_was_not_measured_stands_there_with_the_reason():
    left = LeftOut(what="tensorrt", reason="there is no GPU")

    text = render_profile(profile(figures(CPU, RATES), left_out=(left,)))

    assert "not measured: tensorrt: there is no GPU\n" in text


def test_the_advice_ends_with_the_settings():
    together = Together(processes=2, rows=400, rows_per_s=180e3, scaling=0.9, cost_per_million=None)

    text = render_profile(profile(figures(CPU, RATES), recommendation=ADVICE, together=together))

    assert "  threads = 1: so it is.\n" in text
    assert (
        "  Measured in 2 processes, with nothing between the calls: 180,000 rows/s; "
        "90% of 2 times one alone.\n"
    ) in text
    assert text.endswith("# for podium serve --config\n[server]\nworkers = 2\n")


def test_without_advice_it_says_why():
    bf16 = figures(contender("openvino", "bf16"), RATES, standing="ungated")

    assert "nothing is recommended" in render_profile(profile(bf16))
