"""The page of the HTTP API has every route, every code with its status, and no other."""

import re
from typing import get_args

import httpx
import pytest

from service import errors
from service.api.openapi_problems import codes
from service.errors import RankingError
from service.events.tokens import TokenCode
from service.messages import Degraded, EventStatus, RankReply, RankRequest
from service.settings import Scope
from tests.support.documents import ROOT

TEXT = (ROOT / "service" / "api" / "README.md").read_text("utf-8")
SHORTEST = 4


def section(title):
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def rows(text):
    """The cells of each row of the tables, heads left out."""
    found = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in found]


def first_words(text):
    return {found[1] for row in rows(text) if (found := re.match(r"`([^`]+)`", row[0]))}


def problems():
    return {
        row[0].strip("`"): row[1:]
        for row in rows(section("Errors"))
        if re.fullmatch(r"`[a-z_]+`", row[0])
    }


def test_every_code_has_its_row_and_no_other_has_one():
    assert set(problems()) == set(codes())


@pytest.mark.parametrize(
    "error",
    [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, RankingError)],
    ids=lambda error: error.__name__,
)
def test_a_code_says_its_status_when_it_comes_and_what_to_do(error):
    status, when, todo = problems()[error.code]

    assert status == str(error.status)
    assert len(when) > SHORTEST
    assert len(todo) > SHORTEST
    if error.retryable:
        assert re.search(r"again|own order|close one", todo), todo


def test_every_code_of_ofrep_is_there():
    text = (ROOT / "service" / "api" / "ofrep.py").read_text("utf-8")
    shown = {row[0].strip("`") for row in rows(section("Errors")) if row[0].strip("`").isupper()}

    assert shown == set(re.findall(r'_failure\(\s*"([A-Z_]+)"', text))


def test_every_way_an_event_can_end_is_there():
    folder = ROOT / "service" / "events"
    sources = "".join((folder / name).read_text() for name in ("intake.py", "decoding.py"))
    made = set(re.findall(r'_rejected\(\s*event, "(\w+)"', sources)) | {"invalid_event"}

    expected = made | set(get_args(TokenCode)) | set(get_args(EventStatus))
    assert first_words(section("Events")) - {"status", "code"} == expected


def test_every_route_is_there_with_its_methods(url):
    document = httpx.get(f"{url}/schema/openapi.json").json()
    cells = " ".join(row[0] for row in rows(section("Routes")))
    for path, operations in document["paths"].items():
        for method in operations:
            parent, _, verb = path.rpartition("/")
            # Verbs of one thing share a row: `.../start`, `pause`.
            named = f"`{method.upper()} {path}`" in cells or (
                f"`{verb}`" in cells and f"`{method.upper()} {parent}/" in cells
            )
            assert named, f"{method.upper()} {path}"


@pytest.mark.parametrize("path", ["/dashboard", "/schema", "/v2", "/health/live", "/metrics"])
def test_routes_for_people_and_machines_answer(path, url):
    assert f"{path}`" in section("Routes")
    assert httpx.get(url + path, follow_redirects=True).status_code == 200


def test_every_field_of_a_ranking_and_every_scope_is_there():
    shown = first_words(section("A ranking"))

    assert set(RankRequest.__struct_fields__) | set(get_args(Degraded)) <= shown
    assert {"experiments", "exposure", "cache", "model"} <= set(RankReply.__struct_fields__)
    assert first_words(section("Keys and scopes")) - {"scope"} == set(get_args(Scope))
