"""What a person reads: a table that is Markdown, and what it does not say."""

import msgspec

from service.profiling.story.text import render_story
from service.profiling.story.values import StepLeftOut, Story, encode_story, sustained_of
from tests.support.stories import loop, step, story

LEFT_OUT = StepLeftOut(number=3, name="reduced precision", reason="none is faster here")


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_step_has_a_row_and_the_columns_are_named():
    cached = step(4, 2500.0, times=25.0, page_hits=0.913, rank_hits=0.0)

    head, rule, first, last = cells(render_story(story(step(0), cached)))

    assert head[:3] == ["step", "requests/s", "x step 0"]
    assert {cell.strip("-") for cell in rule} <= {"", ":"}
    assert first[:3] == ["0 name 0", "100", "1.0"]
    assert last == [
        *("4 name 4", "2,500", "25.0", "50.0", "90.0", "2,000", "5.0", "20.0", "91.3%", "2,000"),
    ]
    assert first[8] == "-"


def test_the_sustained_rate_is_the_largest_whose_p99_is_within_the_limit():
    rows = cells(render_story(story(step(0, p99s_ms=(35.1, 40.0)), step(4, 1000.0))))
    text = render_story(story(step(2, p99s_ms=(8.0, 36.0))))

    assert rows[0][5:8] == ["sustained/s", "p50 ms", "p99 ms"]
    assert rows[2][5:8] == ["-", "-", "-"]
    assert rows[3][5:8] == ["800", "5.0", "20.0"]
    assert cells(text)[2][5:8] == ["50", "2.0", "8.0"]
    assert "50/s (50%) p50 2.0 p99 8.0 ms, 80/s (80%) p50 9.0 p99 36.0 ms" in text
    assert "1.25 to 1.25 times the closed loop's CPU" in text


def test_a_rate_at_which_requests_fail_is_not_sustained():
    loops = (loop(0.5, 8.0), loop(0.8, 9.0, failed=3))

    text = render_story(story(step(0, open=loops, sustained=sustained_of(loops))))

    assert cells(text)[2][5] == "50"
    assert "with 3 not answered" in text


def test_it_is_said_why_a_story_is_told_of_this_model():
    assert "\nof the demonstration\n" in render_story(story(step(0), note="of the demonstration"))


def test_ratios_name_the_step_that_they_are_of():
    assert "x step 1" in render_story(story(step(1), step(2)))


def test_prices_have_columns_only_where_a_price_was_given():
    priced = step(0, cost_per_million_rankings=0.0683, cost_per_million_predictions=0.000683)

    text = render_story(story(priced, price_per_hour=0.1))

    assert cells(text)[0][-2:] == ["per million rankings", "per million predictions"]
    assert cells(text)[2][-2:] == ["0.0683", "0.000683"]
    assert "0.1 an hour" in text
    assert "per million" not in render_story(story(step(0)))


def test_what_was_left_out_and_what_failed_is_said():
    text = render_story(story(step(2, failed=7), left_out=(LEFT_OUT,)))

    assert "not measured: 3 reduced precision: none is faster here" in text
    assert "not answered with 200: 7 of step 2" in text
    assert "not answered" not in render_story(story(step(2)))


def test_a_busy_machine_is_no_place_for_figures():
    assert "quiet machine" in render_story(story(step(0), other_cores=0.5))
    assert "quiet machine" not in render_story(story(step(0), other_cores=0.1))


def test_the_json_is_the_story():
    told = story(step(0), step(4, page_hits=0.9), left_out=(LEFT_OUT,))

    assert msgspec.json.decode(encode_story(told), type=Story) == told
