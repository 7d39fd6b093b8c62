"""Every alert says what to do, has been seen to fire and to be silent, and asks for what is."""

import re

import msgspec
import pytest

from service.settings.tree import BatchPolicy, EngineSettings
from tests.support.dashboards import PROMETHEUS, rules
from tests.support.promql import assert_real, selectors

RULES = list(rules())
ALERTS = [rule for rule in RULES if rule.is_alert]
RECORDED = {rule.name: rule.expression for rule in RULES if not rule.is_alert}
RUNBOOK = PROMETHEUS / "README.md"
NAMES = {alert.name for alert in ALERTS}


def ids(rule):
    return rule.name


@pytest.mark.parametrize("alert", ALERTS, ids=ids)
def test_an_alert_says_how_bad_it_is_and_what_to_do(alert):
    assert alert.fields["labels"]["severity"] in {"critical", "warning", "info"}
    told = alert.fields["annotations"]
    assert told["summary"]
    assert len(told["description"].split()) > 10
    file, _, section = told["runbook_url"].partition("#")
    assert file == "deploy/prometheus/README.md"
    assert section == alert.name.lower()


def test_the_runbook_has_a_section_for_every_alert_and_for_nothing_else():
    sections = re.findall(r"^## (Podium\w+)\n\n(\S)", RUNBOOK.read_text(), re.M)
    assert {name for name, _ in sections} == NAMES
    assert len(sections) == len(NAMES)


@pytest.fixture(scope="module")
def seen():
    """Which alerts the unit tests expect to fire, and which to be silent."""
    fires, silent = set(), set()
    for file in (PROMETHEUS / "tests").glob("*.yml"):
        for case in msgspec.yaml.decode(file.read_bytes())["tests"]:
            for check in case["promql_expr_test"]:
                (name,) = re.findall(r'alertname="(\w+)"', check["expr"])
                (fires if check["exp_samples"] else silent).add(name)
    return fires, silent


def test_every_alert_is_tested_to_fire_and_to_be_silent(seen):
    fires, silent = seen
    assert fires == NAMES
    assert silent == NAMES


@pytest.mark.parametrize("rule", RULES, ids=ids)
def test_a_rule_asks_for_what_there_is(rule):
    if not rule.expression.startswith("vector("):
        assert_real(rule.expression, set(RECORDED))


def test_targets_are_what_the_settings_have():
    assert _target("podium:target:queue_window_seconds") == BatchPolicy().max_queue_delay_s
    assert _target("podium:target:gpu_memory") == EngineSettings().gpu_memory_fraction


def test_every_target_is_used():
    read = {s.name for rule in RULES for s in selectors(rule.expression) if s.is_recorded}
    targets = {name for name, told in RECORDED.items() if told.startswith("vector(")}
    assert targets <= read


def test_the_objectives_are_those_that_the_runbook_states():
    stated = RUNBOOK.read_text()
    for name in ("availability", "latency"):
        (percent,) = re.findall(rf"^\| {name} \|.*\| ([\d.]+) % \|$", stated, re.M)
        assert float(percent) / 100 == pytest.approx(_target(f"podium:objective:{name}"))


def _target(name):
    return float(RECORDED[name].removeprefix("vector(").removesuffix(")"))
