"""What is wrong right now, as alerts have it: the light of each service, and the list of what fires."""

from tercet.declare.objective import Links
from tercet.generate import chosen, names
from tercet.generate.panels import GREEN, RED, YELLOW, Column, Json, Panel, Query, Steps, sized, table, tiles
from tercet.generate.promql import Match, equal, none_of, select

_FIRING = equal("alertstate", "firing")
_NOT_THE_WATCHDOG = none_of("alertname", (names.WATCHDOG,))
_LIGHTS: Steps = ((None, GREEN), (1, YELLOW), (2, RED))
#: Keeps what else is chosen when a link leads on.
KEEP = "${environment:queryparam}&${__url_time_range}"


def to_service(label: str) -> Json:
    """Lead to the dashboard of the service that a label names."""
    url = f"/d/{names.DASHBOARD}?var-service=${{{label}}}&{KEEP}"
    return {"title": "Open the service", "url": url}


def lights() -> Panel:
    """Show a light for each service that promises or reports anything."""
    alerts = (_NOT_THE_WATCHDOG, none_of(names.SLO, ("",)), chosen.ENVIRONMENT_OR_NONE)
    paging = select("ALERTS", _FIRING, equal("notify", "page"), *alerts)
    any_alert = select("ALERTS", *alerts)
    reporting = select(names.TARGET_INFO, chosen.ENVIRONMENT)
    named = f'label_replace({reporting}, "{names.SERVICE}", "$1", "{names.JOB}", "(?:.+/)?([^/]+)")'
    return sized(
        tiles(
            "Services",
            "RED: a page fires, users suffer. YELLOW: a ticket fires, or an alert is about to. GREEN: "
            "neither. A click leads to the service.",
            "none",
            Query(
                expression=(
                    f"2 * group by ({names.SERVICE}) ({paging})\n"
                    f"or group by ({names.SERVICE}) ({any_alert})\n"
                    f"or 0 * group by ({names.SERVICE}) ({names.TARGET})\n"
                    f"or 0 * group by ({names.SERVICE}) ({named})"
                ),
                legend="{{service}}",
            ),
            steps=_LIGHTS,
            words=((0, "OK"), (1, "WARN"), (2, "FAIL")),
            nothing="Nothing reports",
            links=[to_service(f"__field.labels.{names.SERVICE}")],
        ),
        24,
        4,
    )


def firing(links: Links, *matches: Match) -> Panel:
    """List the alerts that fire, with since when, and the way to their runbooks."""
    shown = ("severity", "alertname", names.SERVICE, names.SLO, names.ENVIRONMENT)
    chosen_alerts = (_NOT_THE_WATCHDOG, *matches)
    since = f"1000 * {select('ALERTS_FOR_STATE', *chosen_alerts)}"
    now = select("ALERTS", _FIRING, *chosen_alerts)
    runbook = {"title": "Runbook", "url": f"{links.runbooks}/${{__value.raw}}.md", "targetBlank": True}
    return sized(
        table(
            "Alerts that fire",
            "The most urgent first. A click on the alert opens its runbook: what to do, and what it means.",
            Column(title="Severity", label="severity"),
            Column(title="Alert", label="alertname", links=[runbook]),
            Column(title="Service", label=names.SERVICE, links=[to_service("__value.raw")]),
            Column(title="Objective", label=names.SLO),
            Column(title="Environment", label=names.ENVIRONMENT),
            Column(
                title="Since",
                expression=f"max by ({', '.join(shown)}) ({since} and ignoring (alertstate) {now})",
                unit="dateTimeFromNow",
            ),
            order="Severity",
            descending=False,
            nothing="No alert fires",
        ),
        12,
        6,
    )
