"""The dashboard of the telemetry itself: what is made, what arrives, what waits and what is lost."""

from collections.abc import Iterator

from tercet.declare.metric import (
    CORRELATION_REPLACED,
    EXPORT_CREATED,
    EXPORT_DURATION,
    EXPORT_ITEMS,
    EXPORT_SPOOL,
    EXPORT_WAITING,
    METRICS_MISUSED,
    METRICS_OVERFLOWED,
    Metric,
)
from tercet.declare.names import label_name
from tercet.declare.objective import Catalog
from tercet.generate import alert_panels, chosen, dashboard, names
from tercet.generate.chosen import flow, quantile, value
from tercet.generate.dashboard import Dashboard
from tercet.generate.panels import GREEN, RED, Panel, Query, Row, graph, legend_of, sized, tiles
from tercet.generate.promql import equal, none_of, ratio, select, summed

_SIGNAL, _OUTCOME = label_name("signal"), label_name("outcome")
_LOST = none_of(_OUTCOME, ("delivered",))
_BY_SIGNAL = (names.JOB, _SIGNAL)
_LEGEND = "{{signal}} {{job}}"
_REPORTING = f"count by ({names.JOB}) ({select(names.TARGET_INFO, chosen.JOB, chosen.ENVIRONMENT)})"


def telemetry_dashboard(catalog: Catalog) -> Dashboard:
    """Lay out the dashboard that says whether the others can be believed."""
    return Dashboard(
        uid=names.TELEMETRY_DASHBOARD,
        title="Telemetry",
        about="Whether the other dashboards can be believed: what telemetry is lost, late or refused.",
        since="3h",
        variables=(
            dashboard.METRICS,
            dashboard.SERVICES,
            dashboard.environments(catalog.environment),
            dashboard.INSTANCES,
        ),
        annotations=(dashboard.DEPLOYMENTS,),
        rows=(
            Row("Health", list(_health(catalog))),
            Row("On its way", list(_export(catalog))),
            Row("Series", list(_series())),
        ),
    )


def _health(catalog: Catalog) -> Iterator[Panel]:
    lost, handled = (summed(flow(EXPORT_ITEMS, *which), names.JOB) for which in ((_LOST,), ()))
    only = f"var-service=${{__field.labels.{names.JOB}}}&{alert_panels.KEEP}"
    link = {"title": "Only this service", "url": f"/d/{names.TELEMETRY_DASHBOARD}?{only}"}
    yield sized(
        tiles(
            "Lost",
            "Share of spans, log records and metric points that were dropped instead of delivered. GREEN: "
            "none.",
            "percentunit",
            Query(expression=ratio(lost, handled), legend="{{job}}"),
            steps=((None, GREEN), (0.000001, RED)),
            nothing="Nothing is exported",
            links=[link],
        ),
        12,
        6,
    )
    yield alert_panels.firing(catalog.links, equal(names.SLO, names.TELEMETRY), chosen.ENVIRONMENT_OR_NONE)


def _export(catalog: Catalog) -> Iterator[Panel]:
    yield _flow("Created", "Spans, log records and metric points that were made for export.", EXPORT_CREATED)
    delivered = flow(EXPORT_ITEMS, equal(_OUTCOME, "delivered"))
    yield graph(
        "Delivered",
        "What the collector took of it.",
        "cps",
        Query(expression=summed(delivered, *_BY_SIGNAL), legend=_LEGEND),
    )
    lost = summed(flow(EXPORT_ITEMS, _LOST), *_BY_SIGNAL, _OUTCOME)
    none_lost = f"0 * {summed(flow(EXPORT_ITEMS), names.JOB)}"
    yield graph(
        "Dropped",
        "What will never arrive, by the reason: docs/delivery.md of tercet says what each means.",
        "cps",
        Query(expression=f"{lost}\nor on ({names.JOB}) {none_lost}", legend="{{signal}} {{outcome}} {{job}}"),
    )
    yield graph(
        "Waiting",
        "Spans and log records in memory, of the process with most of them. Above the dashed line "
        "TelemetryWaiting fires.",
        "short",
        Query(expression=f"max by ({', '.join(_BY_SIGNAL)}) ({value(EXPORT_WAITING)})", legend=_LEGEND),
        steps=((None, GREEN), (catalog.waiting_limit, RED)),
    )
    yield graph(
        "Duration of exports",
        "What one in a hundred requests to the collector exceeds.",
        "s",
        Query(expression=quantile("0.99", EXPORT_DURATION, _BY_SIGNAL), legend=_LEGEND),
    )
    by_outcome = (*_BY_SIGNAL, _OUTCOME)
    yield graph(
        "Exports",
        "Requests to the collector, by how they ended. Those that are later are tried again.",
        "reqps",
        Query(expression=summed(flow(EXPORT_DURATION), *by_outcome), legend="{{signal}} {{outcome}} {{job}}"),
    )
    yield graph(
        "Waiting on disk",
        "Bytes in the spool, of all processes that share it.",
        "bytes",
        Query(expression=f"max by ({', '.join(_BY_SIGNAL)}) ({value(EXPORT_SPOOL)})", legend=_LEGEND),
    )


def _series() -> Iterator[Panel]:
    overflowing = select("", *chosen.RAW, equal(names.OVERFLOW, "true"))
    yield graph(
        "Metrics beyond their limit",
        "Series that take what their metric has no room for; which one it is says the next panel.",
        "short",
        Query(expression=_or_none(f"count by ({names.JOB}) ({overflowing})"), legend="{{job}}"),
    )
    yield _told_apart("Overflow", METRICS_OVERFLOWED, "metric")
    yield _told_apart("Misuse", METRICS_MISUSED, "metric", "reason")
    yield _told_apart("Correlation ids replaced", CORRELATION_REPLACED, "reason")
    yield graph(
        "Processes that report",
        "How many send or show metrics at all, by service.",
        "short",
        Query(expression=_REPORTING, legend="{{job}}"),
    )


def _flow(title: str, description: str, metric: Metric) -> Panel:
    return graph(
        title, description, "cps", Query(expression=summed(flow(metric), *_BY_SIGNAL), legend=_LEGEND)
    )


def _told_apart(title: str, metric: Metric, *keys: str) -> Panel:
    by = (names.JOB, *map(label_name, keys))
    legend = legend_of(*by[1:], names.JOB)
    return graph(
        title,
        f"{metric.help} A second.",
        "cps",
        Query(expression=_or_none(summed(flow(metric), *by)), legend=legend),
    )


def _or_none(expression: str) -> str:
    """Show 0 of a service that reports, and has none."""
    return f"{expression}\nor on ({names.JOB}) 0 * {_REPORTING}"
