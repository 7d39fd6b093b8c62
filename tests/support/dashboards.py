"""What the dashboards and rules in ``deploy/`` ask of Prometheus."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = DEPLOY / "grafana" / "dashboards"
PROMETHEUS = DEPLOY / "prometheus"


class PanelQuery(NamedTuple):
    """One expression of a panel."""

    board: str
    panel: str
    expression: str

    def __str__(self) -> str:
        return f"{self.board} / {self.panel}"


class Rule(NamedTuple):
    """A recording rule or an alert."""

    name: str
    expression: str
    is_alert: bool
    fields: Mapping[str, Any]
    """All of it, as in its file."""


def boards() -> dict[str, Any]:
    """Every dashboard by the name of its file."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(DASHBOARDS.glob("*.json"))}


def panels(board: Mapping[str, Any]) -> list[Any]:
    """What shows figures: the titles of rows are left out."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def panel_queries() -> Iterator[PanelQuery]:
    for name, board in boards().items():
        for panel in panels(board):
            for target in panel["targets"]:
                yield PanelQuery(name, panel["title"], target["expr"])


def choices(board: Mapping[str, Any]) -> dict[str, str]:
    """The queries of the variables that Prometheus fills, by name."""
    variables = board["templating"]["list"]
    return {v["name"]: v["query"] for v in variables if v["type"] == "query"}


def substituted(text: str, values: Mapping[str, str]) -> str:
    """A query as Grafana sends it, with the values of the variables; none may be left."""
    for name, value in values.items():
        text = re.sub(rf"\$(?:{name}\b|{{{name}}})", value, text)
    assert "$" not in text, f"a variable without a value in: {text}"
    return text


def rules() -> Iterator[Rule]:
    for file in sorted((PROMETHEUS / "rules").glob("*.yml")):
        for group in msgspec.yaml.decode(file.read_bytes())["groups"]:
            for fields in group["rules"]:
                name = fields.get("alert") or fields["record"]
                yield Rule(name, fields["expr"], "alert" in fields, fields)
