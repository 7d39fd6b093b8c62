"""The page: whole in itself, escaped, with a text and numbers for every plot."""

from html.parser import HTMLParser

import numpy as np

from ranking_models.evaluation import Evaluation, SegmentColumn, evaluate
from ranking_models.evaluation.html import render_html
from tests.support.evaluations import OPTIONS, clicks, rows_of, subject

NASTY = '<script>alert(1)</script> & "$\\frac$" \'\N{SNOWMAN}\N{PILE OF POO}'


class Page(HTMLParser):
    """What a browser would find."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.cells: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")
        if tag not in ("meta", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def evaluation(scorers: int = 1, *, value: str = "web") -> Evaluation:
    labels, units, scores = clicks()
    codes = np.where(units < 10, 2, units % 2)
    return evaluate(
        [subject(f"model {value}", scores), subject("other", scores**2)][:scorers],
        rows_of(labels, units),
        [SegmentColumn(f"device {value}", False, (value, "ios", "tv"), codes)],
        options=OPTIONS,
        notes=[f"note {value}"],
    )


def test_the_page_needs_nothing_from_elsewhere() -> None:
    page = Page(render_html(evaluation(2)))

    assert page.open == []  # everything is closed
    names = {tag for tag, _ in page.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object"})
    for tag, attributes in page.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href"):
                assert (value or "").startswith("#"), tag


def test_every_plot_has_a_text_and_no_id_is_there_twice() -> None:
    page = Page(render_html(evaluation(2)))

    plots = [attributes for tag, attributes in page.tags if tag == "svg"]
    assert len(plots) == 4  # reliability, ROC, histogram, one feature
    assert all(plot["role"] == "img" and len(plot["aria-label"] or "") > 40 for plot in plots)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    shared = {name for name in ids if ids.count(name) > 1}
    referred = {
        value.partition("#")[2].rstrip(")")
        for _, attributes in page.tags
        for value in attributes.values()
        if value and "#" in value
    }
    assert not shared & referred


def test_every_text_from_outside_is_escaped() -> None:
    html = render_html(evaluation(value=NASTY))

    page = Page(html)
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.open == []
    assert NASTY in page.cells


def test_the_numbers_of_the_plots_are_in_tables() -> None:
    found = evaluation(2)
    cells = Page(render_html(found)).cells

    for scored in found.scored:
        assert f"{scored.reliability[0].predicted:.4f}" in cells
        others, clicked = scored.roc[20]
        assert f"{others:.4f}" in cells
        assert f"{clicked:.4f}" in cells
    assert "too small: 10 users, figures need 20" in cells


def test_the_page_is_the_same_every_time() -> None:
    found = evaluation(2)

    assert render_html(found) == render_html(found)
