"""The page: well-formed, alone, readable without eyes, and safe whatever the names are."""

import json
import re
from html.parser import HTMLParser
from math import isfinite

import msgspec
import pytest
from msgspec.structs import replace

from experiments.definition import INTERLEAVED
from experiments.report import Report, notebook, render_html
from experiments.report.sums import ctr_sample, failure_sample, latency_sample, sketch
from tests.support.reports import ROLLED_OUT, planted, record, report_of, standing_of

EMPTY = frozenset({"meta", "line", "circle", "br", "link", "img"})
SUMS = {"old": planted(seed=1), "new": planted(ctr=0.06, seed=2)}
HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


def reports() -> dict[str, Report]:
    aa = standing_of(ROLLED_OUT, state="aa")
    back = standing_of(ROLLED_OUT, state="rolled_back")
    bandit = replace(ROLLED_OUT, rollout=None, policy="thompson")
    mixed = replace(ROLLED_OUT, rollout=None, method="interleave")
    broken = {"old": planted(users=9), "new": planted(users=9_000, seed=2)}
    return {
        "winning": report_of(ROLLED_OUT, SUMS, price_per_hour=2.0),
        "empty": report_of(ROLLED_OUT, {}),
        "broken": report_of(ROLLED_OUT, broken),
        "aa": report_of(ROLLED_OUT, SUMS, standing=aa),
        "back": report_of(ROLLED_OUT, SUMS, standing=back, decisions=(record(back, "rollback"),)),
        "bandit": report_of(bandit, SUMS),
        "interleaved": report_of(mixed, {INTERLEAVED: planted()}),
    }


KINDS = ("winning", "empty", "broken", "aa", "back", "bandit", "interleaved")


@pytest.fixture(scope="module")
def made() -> dict[str, Report]:
    return reports()


@pytest.fixture(params=KINDS)
def report(request, made) -> Report:
    return made[request.param]


def test_the_page_is_well_formed_and_alone(report):
    text = render_html(report)
    page = Page(text)

    assert text.startswith('<!doctype html><html lang="en">')
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in page.seen)
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert not [a for _, attributes in page.seen for a in attributes if a.startswith("on")]
    assert "nan" not in re.sub("<[^>]*>", " ", text).lower().split()
    assert "None" not in text


def test_every_chart_has_words_and_a_table_behind_it(report):
    sections = render_html(report).split("<section>")[1:]

    for section in sections:
        if "<svg" in section:
            assert "<table>" in section
    for drawn in Page(render_html(report)).all("svg"):
        assert drawn["role"] == "img"
        assert len(drawn["aria-label"]) > 20


def test_tables_have_captions_and_headings(report):
    page = Page(render_html(report))

    assert len(page.all("caption")) == len(page.all("table"))
    assert all(heading.get("scope") in ("row", "col") for heading in page.all("th"))


def test_what_is_drawn_is_inside_the_picture(report):
    for at in re.findall(r'(?:x1|x2|cx)="([^"]*)%"', render_html(report)):
        assert isfinite(float(at))
        assert 0 <= float(at) <= 100


def test_every_figure_is_finite_and_comes_back_from_json(report):
    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [n for part in value.values() for n in numbers(part)]
        if isinstance(value, list):
            return [n for part in value for n in numbers(part)]
        return [value] if isinstance(value, float) else []

    encoded = msgspec.json.encode(report)

    assert all(isfinite(n) for n in numbers(msgspec.to_builtins(report)))
    assert msgspec.json.decode(encoded, type=Report) == report


def test_what_others_write_cannot_become_markup():
    made = record(standing_of(ROLLED_OUT), "ramp", by=f"key:{HOSTILE}", reason=HOSTILE)
    odd = {f"engine:{HOSTILE}": 5, f"lapse:{HOSTILE}": 5, f"degraded:{HOSTILE}": 5, "lapses": 5}

    text = render_html(
        report_of(
            ROLLED_OUT,
            {"old": planted(), "new": planted(seed=2, **odd)},
            decisions=(made,),
            unready=HOSTILE,
        )
    )

    Page(text)
    assert HOSTILE not in text
    assert text.count("&lt;script&gt;") >= 5


def test_the_sums_in_the_report_give_its_figures_again():
    report = report_of(ROLLED_OUT, SUMS, with_statistics=True)

    sums = json.loads(msgspec.json.encode(report))["statistics"]["1"]

    for name, own in SUMS.items():
        assert ctr_sample(sums[name]).ratio == own.ctr_sample.ratio
        assert (latency_sample(sums[name]).log_sum == own.computed_latency_sample.log_sum).all()
        assert (latency_sample(sums[name], computed=False).slates == own.cell_slates).all()
        assert failure_sample(sums[name]).rate == own.failure_sample.rate
        assert sketch(sums[name]) == own.computed_latency
    assert report_of(ROLLED_OUT, SUMS).statistics is None


def test_a_notebook_is_one_by_its_format(report):
    made = json.loads(notebook(report, url="http://127.0.0.1:1/", path="/v1/x?statistics=true"))

    assert (made["nbformat"], made["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in made["cells"]}) == len(made["cells"])
    for cell in made["cells"]:
        assert set(cell) >= {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            compile(cell["source"], cell["id"], "exec")
    assert 'URL = "http://127.0.0.1:1"' in made["cells"][1]["source"]
