"""Every metric and every name in a span is documented, and nothing else is."""

import re

import pytest

from service.telemetry import names
from service.telemetry.merging import GAUGE_RULES, READ_COUNTERS
from tests.support.every_metric import every_metric
from tests.support.telemetry_reference import BEGIN, END, PAGE, tables

TEXT = PAGE.read_text("utf-8")
SHORTEST_MEANING = 12


def constants(*prefixes: str) -> set[str]:
    found = {name: value for name, value in vars(names).items() if name.startswith(prefixes)}
    return {value for value in found.values() if isinstance(value, str)}


def in_first_cells(section: str) -> set[str]:
    return set(re.findall(r"^\| `([^`{]+)` \|", section, re.MULTILINE))


@pytest.fixture(scope="module")
def metrics():
    return every_metric()


def test_the_tables_of_metrics_are_as_the_metrics_are():
    written = TEXT.partition(BEGIN)[2].partition(END)[0]

    assert written.strip() == tables().strip(), "run `make reference`"


def test_every_metric_has_its_name_in_names_and_every_name_is_shown(metrics):
    shown = {metric.name.removesuffix("_total") for metric in metrics}

    assert {name for name in shown if not name.startswith("process_")} == constants("M_", "T_")


def test_every_metric_says_what_it_means(metrics):
    for metric in metrics:
        assert len(metric.meaning) >= SHORTEST_MEANING, metric
        assert metric.meaning[0].isupper() or metric.meaning[0].isdigit(), metric
        assert metric.meaning.replace(" ", "_").lower() not in metric.name, metric


def test_every_gauge_declares_how_those_of_several_processes_make_one(metrics):
    assert {metric.name for metric in metrics if metric.kind == "gauge"} == set(GAUGE_RULES)
    assert {f"{name}_total" for name in READ_COUNTERS} < {metric.name for metric in metrics}


def test_every_span_and_event_is_documented():
    section = TEXT.partition("## Spans")[2].partition("### Attributes")[0]

    assert in_first_cells(section) == constants("SPAN_", "EVENT_")


def test_every_attribute_is_documented():
    of_calls = ("HTTP_", "URL_", "USER_AGENT", "SERVER_", "PROTOCOL_", "DB_")
    convention = constants(*of_calls, "ERROR_", "EXCEPTION_", "FLAG_")
    own = {value for value in constants(*dir(names)) if value.startswith("podium.")}
    spans = constants("SPAN_") - {names.ENGINE}  # a span and an attribute have one name
    section = TEXT.partition("### Attributes")[2].partition("## Log lines")[0]

    assert in_first_cells(section) == convention | (own - spans)
