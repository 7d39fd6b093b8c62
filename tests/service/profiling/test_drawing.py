"""The picture: XML that a browser takes, a line for everybody in both diagrams."""

from xml.etree import ElementTree

import pytest

from service.profiling.drawing import draw_profile
from tests.support.profiles import contender, figures, profile

SVG = "{http://www.w3.org/2000/svg}"
ONE = figures(contender(), {10: 1_000.0, 100: 50_000.0, 1600: 40_000.0})
TWO = figures(contender(threads=2), {10: 900.0, 100: 60_000.0, 1600: 70_000.0})
GPU = figures(contender("tensorrt", "fp16", None), {100: 1e6, 1600: 4e6}, standing="passed")


def drawn(*measured, **more) -> ElementTree.Element:
    return ElementTree.fromstring(draw_profile(profile(*measured, **more)))


def points(line: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, pair.split(","))) for pair in line.attrib["points"].split()]


def test_everybody_has_a_line_in_both_diagrams_and_a_name():
    root = drawn(ONE, TWO, GPU)

    assert [len(points(line)) for line in root.iter(f"{SVG}polyline")] == [3, 3, 2] * 2
    texts = [text.text for text in root.iter(f"{SVG}text")]
    for one in (ONE, TWO, GPU):
        assert one.contender.name in texts


def test_more_rows_stand_further_right_and_higher_rates_higher():
    (rates, _) = drawn(ONE).iter(f"{SVG}polyline")
    (x10, y10), (x100, y100), (x1600, y1600) = points(rates)

    assert x10 < x100 < x1600
    assert y100 < y1600 < y10


def test_nothing_is_drawn_outside():
    root = drawn(ONE, TWO, GPU)

    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for line in root.iter(f"{SVG}polyline"):
        assert all(0 < x < width and 0 < y < height for x, y in points(line))


def test_a_colour_is_a_graph_and_a_dash_its_threads():
    one, two, gpu, *_ = drawn(ONE, TWO, GPU).iter(f"{SVG}polyline")

    assert one.attrib["stroke"] == two.attrib["stroke"] != gpu.attrib["stroke"]
    assert one.attrib["stroke-dasharray"] != two.attrib["stroke-dasharray"]


@pytest.mark.parametrize("rate", [0.3, 7.0, 123.0, 10_000.0, 9.99e8])
def test_a_single_point_of_any_size_can_be_drawn(rate):
    root = drawn(figures(contender(), {100: rate}))

    assert len(list(root.iter(f"{SVG}polyline"))) == 2


def test_names_are_escaped():
    root = drawn(ONE, model="<b>&")

    assert "<b>&@0123abcd" in root.find(f"{SVG}title").text


def test_more_contenders_than_colours_are_drawn_too():
    many = [
        figures(contender(precision=f"p{i}", threads=t), {10: 1e3, 100: 2e3})
        for i in range(12)
        for t in (1, 2)
    ]

    assert len(list(drawn(*many).iter(f"{SVG}polyline"))) == 48
