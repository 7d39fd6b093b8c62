"""The picture: XML by itself, every step in it, in both themes."""

from xml.etree import ElementTree

import pytest

from service.profiling.story.drawing import LEFT, MIDDLE, WIDTH, draw_story
from service.profiling.story.values import StepLeftOut
from tests.support.stories import step, story

SVG = "{http://www.w3.org/2000/svg}"
LEFT_OUT = StepLeftOut(number=1, name="ONNX Runtime", reason="no <onnxruntime> " + "x" * 100)
TOLD = story(
    step(0, 100.0),
    step(2, 400.0, p99s_ms=(800.0, 900.0)),
    step(4, 2500.0, page_hits=0.97),
    left_out=(LEFT_OUT,),
    model="a <shop>",
)


@pytest.fixture
def root() -> ElementTree.Element:
    return ElementTree.fromstring(draw_story(TOLD))


def test_bars_are_as_long_as_their_steps_are_fast(root):
    bars = [
        float(r.attrib["width"]) for r in root.iter(f"{SVG}rect") if r.attrib["class"] != "page"
    ]

    assert [bar / bars[-1] for bar in bars] == pytest.approx([0.04, 0.16, 1.0], rel=0.01)
    assert LEFT + max(bars) < MIDDLE


def test_a_span_goes_from_p50_to_p99_inside_the_picture(root):
    spans = [
        (float(line.attrib["x1"]), float(line.attrib["x2"]))
        for line in root.iter(f"{SVG}line")
        if line.attrib["class"].startswith("span")
    ]

    assert len(spans) == 3
    assert spans[0] == spans[2]
    assert spans[0][1] < spans[1][0] < spans[1][1]
    assert all(MIDDLE <= start < end < WIDTH for start, end in spans)


def test_the_rate_that_is_sustained_stands_beside_its_span(root):
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]

    assert "80/s" in texts
    assert "200/s, not sustained" in texts
    assert "2,000/s" in texts
    (limit,) = (line for line in root.iter(f"{SVG}line") if line.attrib["class"] == "limit")
    assert MIDDLE < float(limit.attrib["x1"]) < WIDTH


def test_what_was_left_out_stands_in_its_place(root):
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    names = [text for text in texts if text[:1].isdigit() and "  " in text and "x" not in text[:6]]

    assert [name[0] for name in names if name[1:3] == "  "] == ["0", "1", "2", "4"]
    assert any("not measured: no <onnxruntime>" in text for text in texts)
    assert any("97% of the pages from the cache" in text for text in texts)


def test_it_is_whole_by_itself_and_follows_the_readers_theme():
    text = draw_story(TOLD)

    assert "prefers-color-scheme: dark" in text
    assert "href" not in text
    assert "url(" not in text
    assert "a &lt;shop&gt;" in text


def test_a_step_without_an_answer_has_no_span():
    nan = float("nan")

    root = ElementTree.fromstring(draw_story(story(step(2, 0.0, p99s_ms=(nan, nan)))))

    assert not [line for line in root.iter(f"{SVG}line") if line.attrib["class"] == "span"]
