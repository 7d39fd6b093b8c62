"""The few kinds of panels that the dashboards have, on Grafana's own builders.

Widths are in Grafana's columns, of which a row has 24.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from expressions import Query, of
from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.builders.heatmap import CellValues, HeatmapColorOptions, YAxisConfig
from grafana_foundation_sdk.builders.heatmap import Panel as HeatmapPanel
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.stat import Panel as StatPanel
from grafana_foundation_sdk.builders.statetimeline import Panel as StatesPanel
from grafana_foundation_sdk.builders.timeseries import Panel as LinesPanel
from grafana_foundation_sdk.models import common, dashboard, heatmap, prometheus

SOURCE: Final = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT, FIGURE_HEIGHT = 8, 4

GOOD, WARN, BAD = "green", "orange", "red"

Panel = LinesPanel | StatPanel | StatesPanel | HeatmapPanel
Made = TypeVar("Made", LinesPanel, StatPanel, StatesPanel, HeatmapPanel)


class Level(NamedTuple):
    """From this value on, a figure or the area of a chart has this colour."""

    value: float | None
    colour: str


def below(good: float, bad: float) -> tuple[Level, ...]:
    """Good while it is small."""
    return Level(None, GOOD), Level(good, WARN), Level(bad, BAD)


def above(bad: float, good: float) -> tuple[Level, ...]:
    """Good while it is large."""
    return Level(None, BAD), Level(bad, WARN), Level(good, GOOD)


PLAIN: Final = (Level(None, "blue"),)
WELL: Final = (Level(None, BAD), Level(1, GOOD))
"""Of what is 1 when it is well."""


def lines(
    title: str,
    meaning: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    stacked: bool = False,
    levels: Sequence[Level] = (),
    exemplars: bool = False,
    least: float = 0,
    most: float | None = None,
) -> Panel:
    """A chart over time.

    Args:
        levels: Where the chart's background warns; the lines keep colours of their own.
        exemplars: Show traced requests as points, each a link to its trace.
        least: Lower end of the axis.
        most: Upper end, if it has one.
    """
    panel = _described(LinesPanel(), title, meaning, unit, width, HEIGHT, queries, exemplars)
    panel.min(least).line_width(1.5).fill_opacity(12 if stacked else 4).show_points(
        common.VisibilityMode.NEVER
    )
    panel.tooltip(
        common_builders.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
    panel.legend(
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
        .show_legend(True)
    )
    if most is not None:
        panel.max(most)
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if levels:
        panel.thresholds(_thresholds(levels))
        panel.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(
                common.GraphThresholdsStyleMode.DASHED
            )
        )
    return panel


def figure(
    title: str,
    meaning: str,
    unit: str,
    query: Query,
    *,
    width: int = 4,
    levels: Sequence[Level] = PLAIN,
    decimals: int | None = None,
) -> Panel:
    """One number, the newest, over a faint line of how it was."""
    panel = _described(StatPanel(), title, meaning, unit, width, FIGURE_HEIGHT, (query,))
    panel.thresholds(_thresholds(levels)).no_value("none")
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.graph_mode(common.BigValueGraphMode.AREA).color_mode(common.BigValueColorMode.VALUE)
    if "$__range" in query.expression:  # tells of all the chosen time, so it is asked once
        panel.targets([_query(query, "A", False).instant()])
    return panel if decimals is None else panel.decimals(decimals)


def states(
    title: str,
    meaning: str,
    query: Query,
    names: dict[str, tuple[str, str]],
    *,
    width: int = 12,
) -> Panel:
    """Bars over time that change their colour with a state.

    Args:
        names: What a value is called and its colour, by the value.
    """
    panel = _described(StatesPanel(), title, meaning, "none", width, HEIGHT, (query,))
    options = {
        value: dashboard.ValueMappingResult(text=text, color=colour, index=at)
        for at, (value, (text, colour)) in enumerate(names.items())
    }
    panel.mappings([dashboard.ValueMap(options=options)]).merge_values(True)
    panel.show_value(common.VisibilityMode.AUTO).fill_opacity(70).row_height(0.9)
    return panel


def heat(title: str, meaning: str, unit: str, histogram: str, *, width: int = 12) -> Panel:
    """A histogram over time: how many values fell into which bucket."""
    query = Query(
        f"sum by (le) (increase({of(f'{histogram}_bucket')}[$__rate_interval]))", "{{le}}"
    )
    panel = _described(HeatmapPanel(), title, meaning, unit, width, HEIGHT, (), True)
    panel.with_target(_query(query, "A", True).format(prometheus.PromQueryFormat.HEATMAP))
    panel.y_axis(YAxisConfig().unit(unit)).cell_values(CellValues().unit("none"))
    panel.color(
        HeatmapColorOptions()
        .mode(heatmap.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .scale(heatmap.HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
        .steps(64)
    )
    return panel.show_value(common.VisibilityMode.NEVER).hide_legend()


def _described(
    panel: Made,
    title: str,
    meaning: str,
    unit: str,
    width: int,
    height: int,
    queries: Sequence[Query],
    exemplars: bool = False,
) -> Made:
    panel.title(title).description(meaning).unit(unit).datasource(SOURCE)
    panel.span(width).height(height)
    for at, query in enumerate(queries):
        panel.with_target(_query(query, chr(ord("A") + at), exemplars))
    return panel


def _query(query: Query, name: str, exemplars: bool) -> Dataquery:
    asked = Dataquery().expr(query.expression).legend_format(query.legend).ref_id(name)
    return asked.range().exemplar(exemplars).datasource(SOURCE)


def _thresholds(levels: Sequence[Level]) -> ThresholdsConfig:
    steps = [dashboard.Threshold(value=level.value, color=level.colour) for level in levels]
    return ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
