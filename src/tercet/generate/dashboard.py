"""A dashboard as Grafana has it: its variables, its annotations and its rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from tercet.declare.metric import HTTP_SERVER_DURATION
from tercet.declare.names import label_name
from tercet.generate import chosen, names
from tercet.generate.panels import PROMETHEUS, Json, Row, legend_of, placed
from tercet.generate.promql import Match, equal, none_of, select

#: Of the dashboards that Grafana 13 writes itself; older ones are converted when they are read.
SCHEMA = 42
TAG = "tercet"
_ON_TIME_CHANGE = 2
_ALL = ("All", "$__all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A page of panels.

    Attributes:
        uid: By which links find it; the name of its file, too.
        title: What it is called.
        about: What it is for, in a sentence.
        since: How far back it looks when it is opened.
        variables: What can be chosen.
        annotations: What is marked in every graph.
        rows: From top to bottom.
    """

    uid: str
    title: str
    about: str
    since: str
    variables: Sequence[Json]
    annotations: Sequence[Json]
    rows: Sequence[Row]


def render_dashboard(mark: str, dashboard: Dashboard) -> str:
    """Write a dashboard, with the mark of what is generated in its first line."""
    page = json.dumps(_model(dashboard), ensure_ascii=False, indent=2, sort_keys=True)
    about = json.dumps(f"{mark} {dashboard.about}", ensure_ascii=False)
    return f'{{\n  "description": {about},{page[1:]}\n'


def _model(dashboard: Dashboard) -> Json:
    return {
        "annotations": {"list": list(dashboard.annotations)},
        "editable": False,
        "graphTooltip": 1,
        "links": [
            {
                "asDropdown": False,
                "includeVars": True,
                "keepTime": True,
                "tags": [TAG],
                "title": "tercet",
                "type": "dashboards",
            }
        ],
        "panels": list(placed(dashboard.rows)),
        "refresh": "30s",
        "schemaVersion": SCHEMA,
        "tags": [TAG, "generated"],
        "templating": {"list": list(dashboard.variables)},
        "time": {"from": f"now-{dashboard.since}", "to": "now"},
        "timezone": "browser",
        "title": dashboard.title,
        "uid": dashboard.uid,
    }


# What can be chosen.


def source(name: str, label: str, kind: str) -> Json:
    """Choose where data comes from, among what Grafana knows."""
    return {"label": label, "name": name, "query": kind, "refresh": 1, "type": "datasource"}


def _choice(
    name: str, label: str, selected: str, *, of: str, everything: str, pattern: str = "", at_first: str = ""
) -> Json:
    """Choose among the values of a label, or all of them."""
    query = f"label_values({selected}, {of})"
    text, value = (at_first, at_first) if at_first else _ALL
    return {
        "allValue": everything,
        "current": {"selected": True, "text": [text], "value": [value]},
        "datasource": PROMETHEUS,
        "definition": query,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "query": {"query": query, "refId": "Variable"},
        "refresh": _ON_TIME_CHANGE,
        "regex": pattern,
        "sort": 1,
        "type": "query",
    }


def text(name: str, label: str) -> Json:
    """Choose by typing."""
    return {"label": label, "name": name, "query": "", "type": "textbox"}


METRICS = source("datasource", "Metrics", "prometheus")
LOGS = source("logs", "Logs", "loki")
TRACES = source("traces", "Traces", "jaeger")
#: Whatever reports, under its `service.name`.
SERVICES = _choice(
    "service", "Service", names.TARGET_INFO, of=names.JOB, everything=".+", pattern="/([^/]+)$/"
)
PROMISING = _choice("service", "Service", names.TARGET, of=names.SERVICE, everything=".+")
OBJECTIVES = _choice("slo", "Objective", select(names.TARGET, chosen.SERVICE), of=names.SLO, everything=".+")
INSTANCES = _choice("instance", "Instance", select("", *chosen.RAW[:2]), of=names.INSTANCE, everything=".*")
_ROUTE = label_name("http.route")
#: A request that no route matched has none, and counts as well.
ROUTES = _choice(
    "route",
    "Route",
    select(f"{names.series(HTTP_SERVER_DURATION)}_count", *chosen.RAW),
    of=_ROUTE,
    everything=".*",
)


def environments(only: str, *, recorded: bool = False) -> Json:
    """Choose among environments, where telemetry has any.

    What is scraped may have it on `target_info` alone, by which no panel could be narrowed.

    Args:
        only: The one that the document is about, or empty.
        recorded: Whether the dashboard is about recorded series.
    """
    raw = select("", chosen.JOB, none_of("__name__", (names.TARGET_INFO,)))
    return _choice(
        "environment",
        "Environment",
        names.EVENTS if recorded else raw,
        of=names.ENVIRONMENT,
        everything=".*",
        at_first=only,
    )


# What is marked.


def _annotation(name: str, color: str, expression: str, title: str) -> Json:
    return {
        "datasource": PROMETHEUS,
        "enable": True,
        "iconColor": color,
        "name": name,
        "target": {"expr": expression, "interval": "", "legendFormat": title, "refId": "Anno"},
        "titleFormat": title,
    }


def _versions(offset: str = "") -> str:
    reporting = select(names.TARGET_INFO, chosen.JOB, chosen.ENVIRONMENT, none_of(names.VERSION, ("",)))
    return f"count by ({names.JOB}, {names.VERSION}) ({reporting}{offset})"


#: A version that was not there a moment before.
DEPLOYMENTS = _annotation(
    "Deployments",
    "blue",
    f"{_versions()}\nunless {_versions(f' offset {chosen.INTERVAL}')}",
    legend_of(names.JOB, names.VERSION),
)


def pages(*matches: Match) -> Json:
    """Mark when somebody was woken."""
    firing = select("ALERTS", equal("alertstate", "firing"), equal("notify", "page"), *matches)
    return _annotation("Pages", "red", f"max by (alertname, {names.SERVICE}) ({firing})", "{{alertname}}")
