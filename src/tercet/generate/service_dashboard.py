"""The dashboard of a service, as the founding document has it: health, RED, USE, dependencies, detail."""

from collections.abc import Iterator

from tercet.declare.metric import HTTP_SERVER_ACTIVE, HTTP_SERVER_DURATION
from tercet.declare.names import label_name
from tercet.declare.objective import Catalog
from tercet.generate import alert_panels, chosen, dashboard, names
from tercet.generate.business_panels import business_panels, lines
from tercet.generate.chosen import QUANTILES, buckets, flow, quantile, quantile_name, value
from tercet.generate.client_panels import dependency_panels, health_of_dependencies
from tercet.generate.dashboard import Dashboard
from tercet.generate.panels import (
    GREEN,
    RED,
    YELLOW,
    Column,
    Json,
    Panel,
    Query,
    Row,
    graph,
    heatmap,
    legend_of,
    log_graph,
    logs,
    panel_id,
    sized,
    table,
    tiles,
    traces,
)
from tercet.generate.promql import Match, none_of, ratio, select, summed
from tercet.generate.usage_panels import usage_panels

_ROUTE, _ERROR = label_name("http.route"), label_name("error.type")
_CHOSEN_ROUTE = Match(_ROUTE, "=~", "$route")
_STATUS = label_name("http.response.status_code")
_FAILED = none_of(_ERROR, ("",))
_REFUSED = Match(_STATUS, "=~", "4..")
_COUNT = f"{names.series(HTTP_SERVER_DURATION)}_count"
_FAILED_TRACES, _SLOW_TRACES, _LOGS = "Failed traces of $service", "Slow traces of $service", "Logs"
_LINES = (
    f'{{service_name=~"$service"}} | {names.ENVIRONMENT}=~"$environment" '
    '| correlation_id=~"$id.*" or trace_id=~"$id.*"'
)


def service_dashboard(catalog: Catalog) -> Dashboard:
    """Lay out the dashboard that alerts lead to."""
    own = list(business_panels(catalog))
    return Dashboard(
        uid=names.DASHBOARD,
        title="Service",
        about="How a service fares: what is wrong, what its users feel, what is short, and what it needs.",
        since="3h",
        variables=(
            dashboard.METRICS,
            dashboard.SERVICES,
            dashboard.environments(catalog.environment),
            dashboard.INSTANCES,
            dashboard.ROUTES,
            dashboard.text("id", "Correlation or trace id"),
            dashboard.LOGS,
            dashboard.TRACES,
        ),
        annotations=(
            dashboard.DEPLOYMENTS,
            dashboard.pages(chosen.SERVICE, chosen.ENVIRONMENT_OR_NONE),
        ),
        rows=(
            Row("Health", list(_health(catalog))),
            Row("Rate, errors, duration", list(_red(catalog))),
            Row("Utilisation, saturation, errors", list(usage_panels())),
            Row("Dependencies", list(dependency_panels(catalog.metrics.values()))),
            *([Row("What services declare", own)] if own else []),
            Row("Detail", list(_detail())),
        ),
    )


def _health(catalog: Catalog) -> Iterator[Panel]:
    yield alert_panels.lights()
    yield alert_panels.firing(catalog.links, chosen.SERVICE, chosen.ENVIRONMENT_OR_NONE)
    yield budgets(width=6)
    yield health_of_dependencies(catalog.metrics.values())


def budgets(width: int) -> Panel:
    """Show how much is left of each budget."""
    labels = f"var-service=${{__field.labels.{names.SERVICE}}}&var-slo=${{__field.labels.{names.SLO}}}"
    link = {
        "title": "Open the objective",
        "url": f"/d/{names.SLO_DASHBOARD}?{labels}&{alert_panels.KEEP}",
    }
    return sized(
        tiles(
            "Budget left",
            "Share of what may be bad in the period that is left; in the worst environment. Below 0, the "
            "promise is broken.",
            "percentunit",
            Query(
                expression=(
                    f"min by ({names.SERVICE}, {names.SLO}) ({select(names.REMAINING, *chosen.RECORDED)})"
                ),
                legend="{{service}} {{slo}}",
            ),
            steps=((None, RED), (0, YELLOW), (0.25, GREEN)),
            nothing="No objective",
            links=[link],
        ),
        width,
        6,
    )


def _red(catalog: Catalog) -> Iterator[Panel]:
    by = names.JOB
    requests, failed, refused = (
        summed(flow(HTTP_SERVER_DURATION, _CHOSEN_ROUTE, *which), by)
        for which in ((), (_FAILED,), (_REFUSED,))
    )
    yield graph(
        "Requests",
        "Requests that were answered, a second; the dashed line is what was promised to be served.",
        "reqps",
        Query(expression=requests, legend="{{job}}"),
        *lines(catalog, names.line(_COUNT, "throughput")),
        links=_links(),
    )
    yield graph(
        "Errors",
        "Share of requests that failed (5xx, or no answer), and that were refused (4xx). Above the dashed "
        "line the budget goes faster than it may.",
        "percentunit",
        Query(expression=ratio(failed, requests), legend="failed {{job}}"),
        Query(expression=ratio(refused, requests), legend="refused {{job}}"),
        *lines(catalog, names.line(_COUNT, "availability")),
        links=_links(),
    )
    yield graph(
        "Duration",
        "What half, five in a hundred and one in a hundred requests exceed. The dashed line is the "
        "objective's. A dot is one request; a click on it leads to its trace.",
        "s",
        *(
            Query(
                expression=quantile(share, HTTP_SERVER_DURATION, (by,), _CHOSEN_ROUTE),
                legend=f"{quantile_name(share)} {{{{job}}}}",
                exemplars=True,
            )
            for share in reversed(QUANTILES)
        ),
        *lines(catalog, names.line(names.series(HTTP_SERVER_DURATION), "latency")),
        links=_links(),
    )
    yield _routes()
    yield sized(_errors_by_route(), 12, 8)
    yield sized(_p99_by_route(), 12, 8)


def _routes() -> Panel:
    by = (names.JOB, _ROUTE)
    requests, failed = (
        summed(flow(HTTP_SERVER_DURATION, _CHOSEN_ROUTE, *which), *by) for which in ((), (_FAILED,))
    )
    here = f"/d/{names.DASHBOARD}?${{service:queryparam}}&{alert_panels.KEEP}"
    narrow = {"title": "Only this route", "url": f"{here}&var-route=${{__value.raw}}"}
    return sized(
        table(
            "Routes",
            "The one that fails most comes first. A click on a route narrows everything to it.",
            Column(title="Service", label=names.JOB),
            Column(title="Route", label=_ROUTE, links=[narrow]),
            Column(title="Requests", expression=requests, unit="reqps"),
            Column(
                title="Failed",
                expression=ratio(failed, requests),
                unit="percentunit",
                decimals=2,
                steps=((None, "transparent"), (0.001, YELLOW), (0.01, RED)),
            ),
            *(
                Column(
                    title=quantile_name(share),
                    expression=quantile(share, HTTP_SERVER_DURATION, by, _CHOSEN_ROUTE),
                    unit="s",
                )
                for share in QUANTILES
            ),
            order="Failed",
            descending=True,
        ),
        24,
        7,
    )


def _errors_by_route() -> Panel:
    by = (names.JOB, _ROUTE, _STATUS, _ERROR)
    failed = summed(flow(HTTP_SERVER_DURATION, _CHOSEN_ROUTE, _FAILED), *by)
    none_yet = f"0 * {summed(flow(HTTP_SERVER_DURATION, _CHOSEN_ROUTE), names.JOB)}"
    return graph(
        "Errors by route",
        "Failed requests a second, by what went wrong.",
        "reqps",
        Query(
            expression=f"{failed}\nor on ({names.JOB}) {none_yet}",
            legend=legend_of(*by),
        ),
        links=_links(),
    )


def _p99_by_route() -> Panel:
    by = (names.JOB, _ROUTE)
    return graph(
        "Duration by route",
        "What one in a hundred requests exceeds, by route.",
        "s",
        Query(
            expression=quantile("0.99", HTTP_SERVER_DURATION, by, _CHOSEN_ROUTE),
            legend=legend_of(*by),
            exemplars=True,
        ),
        links=_links(),
    )


def _detail() -> Iterator[Panel]:
    yield heatmap(
        "How durations are distributed",
        "Requests by how long they took: two bands are two ways through the code. A dot leads to a trace.",
        "s",
        Query(expression=buckets(HTTP_SERVER_DURATION, (), _CHOSEN_ROUTE), legend="{{le}}", exemplars=True),
    )
    yield sized(
        graph(
            "Requests in progress",
            "Requests that have no answer yet. Rising at the same rate of requests: they hang.",
            "short",
            Query(expression=summed(value(HTTP_SERVER_ACTIVE), names.JOB), legend="{{job}}"),
        ),
        12,
        8,
    )
    yield sized(
        log_graph(
            "Lines in the log",
            "By their level.",
            f"sum by (detected_level) (count_over_time({_LINES} [$__auto]))",
            "{{detected_level}}",
        ),
        24,
        5,
    )
    yield traces(
        _FAILED_TRACES,
        "The newest traces in which something failed. A click opens the trace; from there a span leads to "
        "its logs.",
        "$service",
        tags="error=true",
    )
    yield traces(_SLOW_TRACES, "The newest traces of half a second or more.", "$service", minDuration="500ms")
    yield logs(
        _LOGS,
        "The newest first, of all that is chosen above; an id leads from a log line to its trace.",
        _LINES,
    )


def _links() -> list[Json]:
    """Lead from a metric to the traces and logs of the same service and time."""
    here = f"/d/{names.DASHBOARD}?${{service:queryparam}}&{alert_panels.KEEP}"
    return [
        {"title": title.replace(" of $service", ""), "url": f"{here}&viewPanel=panel-{panel_id(title)}"}
        for title in (_FAILED_TRACES, _SLOW_TRACES, _LOGS)
    ]
