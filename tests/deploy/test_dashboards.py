"""The dashboards can be read by Grafana, say what they show, and ask for what there is."""

import itertools
import re

import msgspec
import pytest

from tests.support.dashboards import DEPLOY, boards, choices, panels, rules
from tests.support.promql import assert_real, grouping_labels, labels_of, selectors

BOARDS = boards()
RECORDED = {rule.name for rule in rules() if not rule.is_alert}
BUILT_IN = {"__rate_interval", "__range", "__all"}
REQUEST_TIME = re.compile(r"(podium|http_server)_request(_duration)?_seconds_bucket")
SUBJECTS = ("cache", "cost", "engines", "experiments", "gpu", "service")


def test_there_is_one_for_each_subject_with_an_address_that_stays():
    assert tuple(BOARDS) == tuple(f"podium-{subject}" for subject in SUBJECTS)
    assert all(board["uid"] == name for name, board in BOARDS.items())
    assert len({board["title"] for board in BOARDS.values()}) == len(BOARDS)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
class TestABoard:
    def test_numbers_its_panels_and_sets_them_side_by_side(self, board):
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        places = [panel["gridPos"] for panel in board["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        for one, other in itertools.combinations(places, 2):
            beside = one["x"] >= other["x"] + other["w"] or other["x"] >= one["x"] + one["w"]
            above = one["y"] >= other["y"] + other["h"] or other["y"] >= one["y"] + one["h"]
            assert beside or above

    def test_leads_to_the_others_and_keeps_what_was_chosen(self, board):
        (link,) = board["links"]
        assert set(link["tags"]) <= set(board["tags"])
        assert link["type"] == "dashboards"
        assert link["includeVars"]
        assert link["keepTime"]

    def test_declares_every_variable_that_it_uses_and_uses_every_one_that_it_declares(self, board):
        declared = {variable["name"] for variable in board["templating"]["list"]}
        text = msgspec.json.encode([board["panels"], board["templating"]]).decode()
        used = set(re.findall(r"\$\{?(\w+)", text)) - BUILT_IN
        assert used == declared

    def test_offers_choices_of_series_that_there_are(self, board):
        for query in choices(board).values():
            series, label = query.removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
            assert_real(series, RECORDED)
            assert label in labels_of(next(selectors(series)))


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
class TestItsPanels:
    def test_say_what_they_show_and_in_which_unit(self, board):
        for panel in panels(board):
            assert panel["title"]
            assert panel["description"].endswith("."), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]

    def test_ask_the_chosen_prometheus_for_what_there_is(self, board):
        for panel in panels(board):
            assert panel["targets"], panel["title"]
            for target in panel["targets"]:
                assert target["datasource"]["uid"] == "${datasource}"
                assert_real(target["expr"], RECORDED)

    def test_name_their_lines_by_labels_that_they_have(self, board):
        for target in _targets(board):
            named = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert named <= grouping_labels(target["expr"]), target["expr"]

    def test_show_traced_requests_where_they_show_how_long_requests_took(self, board):
        for panel in panels(board):
            for target in panel["targets"]:
                if panel["type"] != "stat" and REQUEST_TIME.search(target["expr"]):
                    assert target["exemplar"], panel["title"]


def test_each_has_thresholds_somewhere():
    for board in BOARDS.values():
        steps = [p["fieldConfig"]["defaults"].get("thresholds") or {} for p in panels(board)]
        if board["uid"] != "podium-cost":  # there the budget is a line of its own
            assert any(len(step.get("steps", ())) > 1 for step in steps)


def test_grafana_is_told_where_they_and_prometheus_are():
    provisioning = DEPLOY / "grafana" / "provisioning"
    (provider,) = _read(provisioning / "dashboards" / "podium.yml")["providers"]
    assert provider["type"] == "file"
    (source,) = _read(provisioning / "datasources" / "prometheus.yml")["datasources"]
    assert source["type"] == "prometheus"
    (destination,) = source["jsonData"]["exemplarTraceIdDestinations"]
    assert destination["name"] == "trace_id"


def _targets(board):
    return [target for panel in panels(board) for target in panel["targets"]]


def _read(file):
    return msgspec.yaml.decode(file.read_bytes())
