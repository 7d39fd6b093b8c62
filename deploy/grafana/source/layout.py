"""A dashboard: its variables, its links, and its panels in titled rows."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders.dashboard import (
    Dashboard,
    DashboardLink,
    DatasourceVariable,
    QueryVariable,
    Row,
)
from grafana_foundation_sdk.models import dashboard
from panels import SOURCE, Panel

TAG: Final = "podium"
"""By which the dashboards find each other."""
COLUMNS: Final = 24


class Section(NamedTuple):
    """A titled row of panels; their widths fill whole rows of the grid."""

    title: str
    panels: Sequence[Panel]


def choice(name: str, label: str, query: str) -> QueryVariable:
    """What the reader can choose, several at once; all of them at first."""
    everything = dashboard.VariableOption(text="All", value="$__all", selected=True)
    chosen = _variable(name, label, query).multi(True).include_all(True)
    return chosen.all_value(".*").current(everything)


def _variable(name: str, label: str, query: str) -> QueryVariable:
    asked = QueryVariable(name).label(label).query(query).datasource(SOURCE)
    return asked.refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        dashboard.VariableSort.ALPHABETICAL_ASC
    )


def board(
    uid: str,
    title: str,
    meaning: str,
    sections: Sequence[Section],
    *choices: QueryVariable,
) -> dashboard.Dashboard:
    """A dashboard with the variables and links that all have, and panels numbered in order."""
    made = Dashboard(title).uid(uid).description(meaning).tags([TAG]).readonly()
    made.timezone("browser").time("now-1h", "now").refresh("30s")
    made.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    made.with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
    made.with_variable(_variable("job", "Job", "label_values(podium_build_info, job)"))
    instances = 'label_values(podium_build_info{job="$job"}, instance)'
    for variable in (choice("instance", "Instance", instances), *choices):
        made.with_variable(variable)
    made.link(
        DashboardLink("Podium")
        .type(dashboard.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
    )
    number = 0
    for section in sections:
        number += 1
        made.with_row(Row(section.title).id(number))
        assert sum(_width(panel) for panel in section.panels) % COLUMNS == 0, section.title
        for panel in section.panels:
            number += 1
            made.with_panel(panel.id(number))
    return made.build()


def _width(panel: Panel) -> int:
    place = panel.build().grid_pos
    assert place is not None  # `_described` gave it one
    return place.w
