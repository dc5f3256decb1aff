"""Panels of a dashboard as Grafana has them, and where each stands.

Each has a title that is its own in its dashboard, a description and a unit; its id follows from its title, so
that links to it still lead there when others come before it.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]

PROMETHEUS: Json = {"type": "prometheus", "uid": "$datasource"}
LOKI: Json = {"type": "loki", "uid": "$logs"}
JAEGER: Json = {"type": "jaeger", "uid": "$traces"}
#: What Grafana divides a dashboard's width into.
WIDTH = 24
GREEN, YELLOW, RED = "green", "yellow", "red"

#: From which value on there is which colour.
Steps = tuple[tuple[float | None, str], ...]
_NO_STEPS: Steps = ((None, GREEN),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Ask Prometheus.

    Attributes:
        expression: What to ask.
        legend: What a series is called, by its labels.
        unit: Its own, on an axis on the right; empty for the panel's.
        is_line: Whether it is what others should not cross, drawn as a dashed line.
        exemplars: Whether single measurements are shown that lead to their traces.
    """

    expression: str
    legend: str
    unit: str = ""
    is_line: bool = False
    exemplars: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One panel.

    Attributes:
        title: Unique in its dashboard.
        description: What it shows, and what to make of it.
        kind: Grafana's name of the visualization.
        datasource: Where it asks.
        targets: What it asks.
        options: Of the visualization.
        defaults: How each field is shown.
        overrides: How single fields are shown.
        transformations: What becomes of the answers first.
        width: Of the dashboard's 24.
        height: In Grafana's rows.
        repeat: A variable, for each value of which there is one.
    """

    title: str
    description: str
    kind: str
    targets: Sequence[Json]
    datasource: Json = field(default_factory=lambda: PROMETHEUS)
    options: Json = field(default_factory=dict)
    defaults: Json = field(default_factory=dict)
    overrides: Sequence[Json] = ()
    transformations: Sequence[Json] = ()
    width: int = 8
    height: int = 8
    repeat: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels below one heading, from left to right as long as they fit."""

    title: str
    panels: Sequence[Panel]


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    steps: Steps = _NO_STEPS,
    most: float | None = None,
    least: float | None = 0,
    links: Sequence[Json] = (),
) -> Panel:
    """Draw how something goes.

    Args:
        title: Unique in its dashboard.
        description: What it shows.
        unit: Grafana's name of it.
        queries: What to draw.
        steps: Where lines are drawn that should not be crossed.
        most: Up to where the axis goes at least.
        least: Where it begins; None for where the lowest value is.
        links: Where a click on a series leads.
    """
    custom: Json = {
        "drawStyle": "line",
        "fillOpacity": 10,
        "lineWidth": 1,
        "showPoints": "auto",
        "spanNulls": False,
        "thresholdsStyle": {"mode": "dashed" if len(steps) > 1 else "off"},
    }
    if most is not None:
        custom["axisSoftMax"] = most
    begins = {} if least is None else {"min": least}
    return Panel(
        title=title,
        description=description,
        kind="timeseries",
        targets=[_target(query, _ref(position)) for position, query in enumerate(queries)],
        options={
            "legend": {
                "calcs": ["lastNotNull", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        defaults={
            "color": {"mode": "palette-classic-by-name"},
            "custom": custom,
            "links": list(links),
            "thresholds": _thresholds(steps),
            "unit": unit,
            **begins,
        },
        overrides=[each for position, query in enumerate(queries) for each in _own(query, _ref(position))],
    )


def tiles(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    steps: Steps,
    words: Sequence[tuple[float, str]] = (),
    nothing: str = "-",
    links: Sequence[Json] = (),
) -> Panel:
    """Show what is so now, a coloured tile for each series.

    Args:
        title: Unique in its dashboard.
        description: What it shows.
        unit: Grafana's name of it.
        queries: What to show.
        steps: From which value on a tile has which colour.
        words: What is written instead of a value.
        nothing: What is written where there is nothing to show.
        links: Where a click on a tile leads.
    """
    texts = {f"{value:g}": {"index": index, "text": text} for index, (value, text) in enumerate(words)}
    return Panel(
        title=title,
        description=description,
        kind="stat",
        targets=[_now(query, _ref(position)) for position, query in enumerate(queries)],
        options={
            "colorMode": "background",
            "graphMode": "none",
            "justifyMode": "center",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value_and_name",
            "wideLayout": True,
        },
        defaults={
            "color": {"mode": "thresholds"},
            "links": list(links),
            "mappings": [{"options": texts, "type": "value"}] if texts else [],
            "noValue": nothing,
            "thresholds": _thresholds(steps),
            "unit": unit,
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its heading.
        expression: Its values; empty for a column that is a label.
        label: The label that it shows; empty for values.
        unit: Of its values.
        decimals: How many are shown; as many as Grafana likes when None.
        steps: From which value on it has which colour; none for no colour.
        links: Where a click leads.
    """

    title: str
    expression: str = ""
    label: str = ""
    unit: str = "string"
    decimals: int | None = None
    steps: Steps = ()
    links: Sequence[Json] = ()


def table(
    title: str, description: str, *columns: Column, order: str, descending: bool, nothing: str = "-"
) -> Panel:
    """List what is so now: a line for each set of labels, which all columns of values share.

    Args:
        title: Unique in its dashboard.
        description: What it shows.
        columns: From left to right.
        order: The heading of the column that it is sorted by.
        descending: Whether the highest comes first.
        nothing: What is written where there is nothing to list, and into cells without a value.
    """
    asked = [column for column in columns if column.expression]
    fields = {column.title: column.label for column in columns} | {
        column.title: f"Value #{_ref(position)}" if len(asked) > 1 else "Value"
        for position, column in enumerate(asked)
    }
    return Panel(
        title=title,
        description=description,
        kind="table",
        targets=[
            _now(Query(expression=column.expression, legend="__auto"), _ref(position)) | {"format": "table"}
            for position, column in enumerate(asked)
        ],
        options={
            "cellHeight": "sm",
            "showHeader": True,
            "sortBy": [{"desc": descending, "displayName": order}],
        },
        defaults={"noValue": nothing, "thresholds": _thresholds(_NO_STEPS), "unit": "string"},
        overrides=[_column(column) for column in columns],
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True},
                    "indexByName": {name: position for position, name in enumerate(fields.values())},
                    "renameByName": {name: heading for heading, name in fields.items()},
                },
            },
        ],
    )


def heatmap(title: str, description: str, unit: str, query: Query) -> Panel:
    """Draw how measurements are distributed over a histogram's buckets, as time goes."""
    return Panel(
        title=title,
        description=description,
        kind="heatmap",
        targets=[_target(query, "A") | {"format": "heatmap"}],
        options={
            "calculate": False,
            "cellGap": 1,
            "color": {"exponent": 0.5, "mode": "scheme", "scheme": "Oranges", "steps": 64},
            "exemplars": {"color": "rgba(255,0,255,0.7)"},
            "legend": {"show": True},
            "tooltip": {"mode": "single", "yHistogram": True},
            "yAxis": {"axisPlacement": "left", "unit": unit},
        },
        defaults={"unit": unit},
        width=12,
    )


def logs(title: str, description: str, query: str) -> Panel:
    """Show lines of the log, the newest first."""
    return Panel(
        title=title,
        description=description,
        kind="logs",
        datasource=LOKI,
        targets=[{"datasource": LOKI, "expr": query, "queryType": "range", "refId": "A"}],
        options={
            "dedupStrategy": "none",
            "enableLogDetails": True,
            "prettifyLogMessage": False,
            "showTime": True,
            "sortOrder": "Descending",
            "wrapLogMessage": True,
        },
        width=WIDTH,
        height=12,
    )


def log_graph(title: str, description: str, query: str, legend: str) -> Panel:
    """Draw how many lines there are in the log."""
    drawn = graph(title, description, "short")
    target = {"datasource": LOKI, "expr": query, "legendFormat": legend, "queryType": "range", "refId": "A"}
    return replace(drawn, datasource=LOKI, targets=[target])


def traces(title: str, description: str, service: str, **search: Any) -> Panel:
    """List traces of one service; Jaeger searches in one at a time, so there is a list for each."""
    target = {"datasource": JAEGER, "limit": 20, "queryType": "search", "refId": "A", "service": service}
    return Panel(
        title=title,
        description=description,
        kind="table",
        datasource=JAEGER,
        targets=[target | search],
        options={"cellHeight": "sm", "showHeader": True},
        width=12,
        repeat=service.removeprefix("$"),
    )


def legend_of(*labels: str) -> str:
    """Call a series by some of its labels.

    >>> legend_of("job", "http_route")
    '{{job}} {{http_route}}'
    """
    return " ".join(f"{{{{{label}}}}}" for label in labels)


def sized(panel: Panel, width: int, height: int) -> Panel:
    """Give a panel another size."""
    return replace(panel, width=width, height=height)


def panel_id(title: str) -> int:
    """Number a panel by its title."""
    return zlib.crc32(title.encode()) >> 1


def placed(rows: Iterable[Row]) -> Iterator[Json]:
    """Put rows below one another, and their panels where they fit."""
    y = 0
    for row in rows:
        yield {
            "collapsed": False,
            "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
            "id": panel_id(f"row {row.title}"),
            "panels": [],
            "title": row.title,
            "type": "row",
        }
        x, y, tallest = 0, y + 1, 0
        for panel in row.panels:
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            yield _render(panel, x, y)
            x, tallest = x + panel.width, max(tallest, panel.height)
        y += tallest


def _render(panel: Panel, x: int, y: int) -> Json:
    # Below one another: side by side they would take the whole width.
    repeated = {"repeat": panel.repeat, "repeatDirection": "v"} if panel.repeat else {}
    return {
        "datasource": panel.datasource,
        "description": panel.description,
        "fieldConfig": {"defaults": panel.defaults, "overrides": list(panel.overrides)},
        "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
        "id": panel_id(panel.title),
        "options": panel.options,
        "targets": list(panel.targets),
        "title": panel.title,
        "transformations": list(panel.transformations),
        "type": panel.kind,
        **repeated,
    }


def _ref(position: int) -> str:
    return f"Q{position + 1}"


def _target(query: Query, ref: str) -> Json:
    return {
        "datasource": PROMETHEUS,
        "exemplar": query.exemplars,
        "expr": query.expression,
        "legendFormat": query.legend,
        "range": True,
        "refId": ref,
    }


def _now(query: Query, ref: str) -> Json:
    return _target(query, ref) | {"instant": True, "range": False}


def _thresholds(steps: Steps) -> Json:
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in steps]}


def _own(query: Query, ref: str) -> Iterator[Json]:
    """Say what is special about the series of a query."""
    properties: list[Json] = []
    if query.unit:
        properties += [_property("unit", query.unit), _property("custom.axisPlacement", "right")]
    if query.is_line:
        properties += [
            _property("color", {"fixedColor": RED, "mode": "fixed"}),
            _property("custom.fillOpacity", 0),
            _property("custom.lineStyle", {"dash": [8, 8], "fill": "dash"}),
            _property("links", []),
        ]
    if properties:
        yield {"matcher": {"id": "byFrameRefID", "options": ref}, "properties": properties}


def _column(column: Column) -> Json:
    properties = [_property("unit", column.unit)]
    if column.decimals is not None:
        properties.append(_property("decimals", column.decimals))
    if column.steps:
        properties += [
            _property("thresholds", _thresholds(column.steps)),
            _property("color", {"mode": "thresholds"}),
            _property("custom.cellOptions", {"mode": "basic", "type": "color-background"}),
        ]
    if column.links:
        properties.append(_property("links", list(column.links)))
    return {"matcher": {"id": "byName", "options": column.title}, "properties": properties}


def _property(name: str, value: Any) -> Json:
    return {"id": name, "value": value}
