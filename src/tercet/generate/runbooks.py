"""Runbooks: one page an alert, for somebody who has just been woken."""

from collections.abc import Iterable, Iterator

from tercet.declare.objective import Links, Objective, shown_share
from tercet.generate import names
from tercet.generate.alerts import JOB, Alert, dashboard_page, runbook_file
from tercet.generate.promql import equal, number, one_of, select


def render_runbook(header: str, alert: Alert, links: Links, objective: Objective | None = None) -> str:
    """Write the page of an alert."""
    return "\n".join([header, "", *_page(alert, links, objective)]) + "\n"


def _page(alert: Alert, links: Links, objective: Objective | None) -> Iterator[str]:
    response, service = alert.response, "the service in the alert" if alert.service == JOB else alert.service
    yield f"# {alert.name}"
    yield ""
    yield (
        f"**{alert.severity}**, {'a page' if response.notify == 'page' else 'a ticket'}: somebody "
        f"works on it within {response.words}. Service: **{service}**. Team: **{alert.team}**."
    )
    yield ""
    yield f"**Impact:** {alert.advice.impact}"
    yield from ("", "## Do this first", "")
    yield from (f"{position}. {action}" for position, action in enumerate(alert.advice.actions, 1))
    yield from ("", "## Possible causes", "")
    yield from (f"- {cause}" for cause in alert.advice.causes)
    yield from (f"- {need} does not work; {service} needs it." for need in alert.depends_on)
    yield from ("", "## Look", "")
    yield f"Dashboard: {_dashboard(alert, links)}"
    for question, query in (*alert.queries, *_needs(alert)):
        yield from ("", question, "", "```promql", query, "```")
    yield from ("", "## What it means", "", alert.meaning)
    if objective is not None and objective.agreement is not None:
        yield ""
        yield f"Customers were promised {shown_share(objective.agreement)}: {_room(objective)}"
    yield from ("", "## The rule", "", "```promql", alert.expression, "```")


def _needs(alert: Alert) -> Iterator[tuple[str, str]]:
    """Ask for alerts of what the service needs: while those page, its own pages are held back."""
    if alert.depends_on:
        needed = one_of(names.SERVICE, alert.depends_on)
        yield "Does anything fire of what it needs?", select("ALERTS", equal("alertstate", "firing"), needed)


def _dashboard(alert: Alert, links: Links) -> str:
    is_known = alert.service not in (JOB, names.TELEMETRY)
    variables = f"?var-service={alert.service}&from=now-3h&to=now" if is_known else ""
    return f"{dashboard_page(alert, links)}{variables}"


def _room(objective: Objective) -> str:
    assert objective.agreement is not None
    spent = (1 - objective.agreement) / objective.budget
    return f"that promise is broken when {number(round(spent, 2))} times the budget is gone."


def render_index(header: str, alerts: Iterable[Alert]) -> str:
    """Write the list of all pages, the most urgent first."""
    lines = [header, "", "# Runbooks", "", "| alert | severity | service | team |", "|---|---|---|---|"]
    for alert in sorted(alerts, key=lambda alert: (alert.severity, alert.name)):
        service = "each" if alert.service == JOB else alert.service
        lines.append(
            f"| [{alert.name}]({runbook_file(alert)}) | {alert.severity} | {service} | {alert.team} |"
        )
    return "\n".join(lines) + "\n"
