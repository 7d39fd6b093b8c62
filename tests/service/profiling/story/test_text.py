"""What a person reads: a table that is Markdown, and what it does not say."""

import msgspec

from service.profiling.story.text import render_story
from service.profiling.story.values import StepLeftOut, Story, encode_story
from tests.support.stories import step, story

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
