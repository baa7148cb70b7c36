"""What the dashboards are made of: variables, selectors, and panels with a manner of their own.

Colours are named as Grafana's palette names them, which is readable in light and dark. Every panel has a description:
the question that it answers.
"""

from string import ascii_uppercase

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

# Which daemons, and of these which servers.
HOSTS = 'job=~"$job", instance=~"$instance"'
SERVERS = f'{HOSTS}, role=~"$role", server=~"$server"'
# Grafana escapes nothing in a variable of one value, and [::1]:80 is no regular expression for itself.
SERVER = f'{HOSTS}, role=~"$role", server="$server"'

# Outcomes that prove a late server, and those that say anything at all.
SLOW = 'outcome=~"slow_server|client_gave_up"'
SEEN = 'outcome!="unknown"'

DATASOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
ALL = models.VariableOption(selected=True, text="All", value="$__all")

# Beside the variables, where the SDK would put links into a menu.
SHOWN = None

# Where a number becomes a colour.
PLAIN = [(None, "text")]
ANY_IS_BAD = [(None, "green"), (1e-9, "red")]
SHARE = [(None, "green"), (0.01, "yellow"), (0.1, "red")]
WAIT = [(None, "green"), (1, "yellow"), (10, "red")]
HANGING = [(None, "green"), (3, "yellow"), (100, "red")]


class Board:
    """A dashboard under construction. Panels get their numbers in order, so that links to them stay."""

    def __init__(self, uid, title, description, variables):
        self.panels = 0
        self.builder = (
            dashboard.Dashboard(title)
            .uid(uid)
            .description(description)
            .tags(["closewatch"])
            .time("now-6h", "now")
            .refresh("1m")
            .timezone("browser")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .editable()
            .link(
                dashboard.DashboardLink("closewatch")
                .type(models.DashboardLinkType.DASHBOARDS)
                .tags(["closewatch"])
                .tooltip("The other dashboards, for the same time, hosts and servers")
                .icon("external link")
                .url("")
                .as_dropdown(False)
                .target_blank(False)
                .include_vars(True)
                .keep_time(True)
                .placement(SHOWN)
            )
            .annotation(
                dashboard.AnnotationQuery()
                .name("Alerts")
                .datasource(DATASOURCE)
                .enable(True)
                .hide(False)
                .icon_color("red")
                .expr('ALERTS{alertname=~"Closewatch.+", alertstate="firing"}')
                .title_format("{{alertname}}")
                .text_format("{{server}} {{instance}}")
                .step("60s")
                .placement(SHOWN)
            )
            .with_variable(datasource())
        )
        for variable in variables:
            self.builder.with_variable(variable)

    def row(self, title):
        self.builder.with_row(dashboard.Row(title))

    def add(self, panel):
        self.panels += 1
        self.builder.with_panel(panel.id(self.panels))

    def build(self):
        return self.builder.build()


def datasource():
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def variable(name, label, description, metric, matchers, one=False):
    query = f"label_values({metric}{{{matchers}}}, {name})" if matchers else f"label_values({metric}, {name})"
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(DATASOURCE)
        .query({"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"})
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
    )
    if one:
        return variable.multi(False).include_all(False)
    return variable.multi(True).include_all(True).all_value(".+").current(ALL)


def hosts():
    return [
        variable("job", "Job", "Scrape job", "closewatch_build_info", ""),
        variable("instance", "Instance", "Host that closewatch watches", "closewatch_build_info", 'job=~"$job"'),
    ]


def servers(one=False):
    return [
        variable(
            "role",
            "Role",
            "What the watched host plays: over loopback a connection is seen in both roles",
            "closewatch_connections",
            HOSTS,
        ),
        variable(
            "server",
            "Server",
            "ip:port of the end that plays the server; other: those beyond --max-servers",
            "closewatch_connections",
            f'{HOSTS}, role=~"$role"',
            one,
        ),
    ]


def query(expr, legend="", instant=False, form=None):
    target = prometheus.Dataquery().expr(expr).legend_format(legend or "__auto").datasource(DATASOURCE)
    target = target.instant() if instant else target.range()
    return target.format(form) if form else target


def thresholds(steps):
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=color) for value, color in steps])
    )


def common_parts(panel, title, description, targets, width, height, unit):
    panel.title(title).description(description).datasource(DATASOURCE).span(width).height(height)
    if unit:
        panel.unit(unit)
    for letter, target in zip(ascii_uppercase, targets, strict=False):
        panel.with_target(target.ref_id(letter))
    return panel


def number(title, description, expr, unit="short", steps=PLAIN, width=4, mappings=(), decimals=None):
    """One figure of now, or of the whole time shown."""
    panel = common_parts(stat.Panel(), title, description, [query(expr, instant=True)], width, 4, unit)
    panel.thresholds(thresholds(steps)).mappings(list(mappings)).graph_mode(common_models.BigValueGraphMode.NONE)
    panel.color_mode(common_models.BigValueColorMode.VALUE)
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    return panel if decimals is None else panel.decimals(decimals)


def lines(title, description, targets, unit="short", width=12, height=8, stacked=False, steps=None):
    """Something over time; most at the top of the legend."""
    panel = common_parts(timeseries.Panel(), title, description, targets, width, height, unit)
    panel.min(0).line_width(1).fill_opacity(30 if stacked else 8).show_points(common_models.VisibilityMode.AUTO)
    panel.legend(
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_models.LegendDisplayMode.TABLE)
        .placement(common_models.LegendPlacement.BOTTOM)
        .calcs(["lastNotNull", "max"])
    )
    panel.tooltip(
        common.VizTooltipOptions()
        .mode(common_models.TooltipDisplayMode.MULTI)
        .sort(common_models.SortOrder.DESCENDING)
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if steps:
        panel.thresholds(thresholds(steps))
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        )
    return panel


def bars(title, description, target, unit="short", width=8, height=8):
    """One figure for each of a few words."""
    panel = common_parts(bargauge.Panel(), title, description, [target], width, height, unit)
    panel.min(0).orientation(common_models.VizOrientation.HORIZONTAL)
    panel.display_mode(common_models.BarGaugeDisplayMode.BASIC).thresholds(thresholds([(None, "blue")]))
    return panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))


def heat(title, description, expr, color, width=12, height=9):
    """How durations are spread, over time. Shades of one colour on the theme's own background."""
    target = query(expr, "{{le}}", form=PromQueryFormat.HEATMAP)
    panel = common_parts(heatmap.Panel(), title, description, [target], width, height, None)
    panel.calculate(False).cell_gap(1).show_legend()
    panel.color(
        heatmap.HeatmapColorOptions()
        .mode(heatmap_models.HeatmapColorMode.OPACITY)
        .fill(color)
        .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
        .steps(64)
        .min(0)
    )
    panel.y_axis(heatmap.YAxisConfig().unit("s").axis_placement(common_models.AxisPlacement.LEFT))
    panel.cell_values(heatmap.CellValues().unit("short").decimals(1))
    panel.filter_values(heatmap.FilterValueRange().le(1e-9))
    return panel.tooltip(heatmap.HeatmapTooltip().mode(common_models.TooltipDisplayMode.SINGLE).y_histogram(True))


def flags(title, description, expr, legend, height=7):
    """When a flag was up, one band for each."""
    panel = common_parts(statetimeline.Panel(), title, description, [query(expr, legend)], 24, height, None)
    panel.mappings([words({"0": ("well", "green"), "1": ("slow", "red")})])
    return panel.thresholds(thresholds([(None, "green"), (1, "red")])).no_value("none in this time")


def words(meanings):
    """Numbers that stand for words."""
    results = {
        value: models.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(meanings.items())
    }
    return models.ValueMap(options=results)


def rows(title, description, columns, keys, sort, width=24, height=10, link=None):
    """A table with a line for each combination of the labels `keys`.

    A column is a title, an expression, a unit, and the thresholds that colour it (none: it stays plain).
    """
    targets = [query(expr, instant=True, form=PromQueryFormat.TABLE) for _, expr, _, _ in columns]
    panel = common_parts(table.Panel(), title, description, targets, width, height, None)
    titles = {f"Value #{letter}": column[0] for letter, column in zip(ascii_uppercase, columns, strict=False)}
    if len(columns) == 1:
        titles = {"Value": columns[0][0]}
    # One frame for each query: joined by their labels, without the time.
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "includeByName": {},
                "indexByName": {name: index for index, name in enumerate([*keys, *titles])},
                "renameByName": titles,
            },
        )
    )
    panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    panel.no_value("none")
    for name, _, unit, steps in columns:
        properties = []
        if unit:
            properties.append(models.DynamicConfigValue(id_val="unit", value=unit))
        if steps:
            properties += [
                models.DynamicConfigValue(id_val="thresholds", value=thresholds(steps).build()),
                models.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
            ]
        if properties:
            panel.override_by_name(name, properties)
    if link:
        field, text, url = link
        panel.override_by_name(
            field, [models.DynamicConfigValue(id_val="links", value=[{"title": text, "url": url, "targetBlank": False}])]
        )
    return panel
