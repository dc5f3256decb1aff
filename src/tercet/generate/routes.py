"""Alertmanager's configuration: who is told, when, and what is held back because something worse is known.

People are paged once per incident: a page is grouped by service and environment, never by severity.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from graphlib import TopologicalSorter

from tercet.declare.burn_rate import MINUTE, RESPONSES, Response, Severity, duration
from tercet.declare.document import ANY_TEAM
from tercet.declare.objective import Catalog, Receiver
from tercet.generate import names, rules
from tercet.generate.alerts import Alert
from tercet.generate.promql import literal
from tercet.generate.rulefile import text

GROUP_BY = f"[{names.SERVICE}, {names.ENVIRONMENT}]"
#: Groups of rules are evaluated at any moment of their interval; what silences a page must be known by then.
_PAGE_WAIT = rules.INTERVAL * 3 // 2
_TICKET_WAIT = 5 * MINUTE
DEADMAN = "deadman"
_PAGES = [response for response in RESPONSES.values() if response.notify == "page"]


def render_routes(header: str, catalog: Catalog, alerts: Iterable[Alert]) -> str:
    """Write the whole configuration.

    Args:
        header: Its first line.
        catalog: Who is told, and who needs whom.
        alerts: All that are generated from it.
    """
    held_back = _inhibitions(catalog, tuple(alerts))
    return "\n".join([header, *_route(catalog), *held_back, *_receivers(catalog)]) + "\n"


def receiver_name(way: str, team: str) -> str:
    """Name who is told.

    >>> receiver_name("page", "payments")
    'page-payments'
    """
    return f"{way}-{team}"


def receivers_of(catalog: Catalog, team: str, response: Response) -> list[str]:
    """List who is told of an alert, in the order of their routes."""
    own = catalog.contacts.get(team, {})
    told = [receiver_name(response.notify, team if response.notify in own else ANY_TEAM)]
    if response.notify == "page" and (escalates := _escalation(catalog, team)):
        told.insert(0, receiver_name("escalate", escalates))
    return told


def _escalation(catalog: Catalog, team: str) -> str:
    """Say whose escalation a team has; its own, that of everybody, or none."""
    return next((each for each in (team, ANY_TEAM) if "escalate" in catalog.contacts.get(each, {})), "")


def _route(catalog: Catalog) -> Iterator[str]:
    yield "route:"
    yield f"  receiver: {receiver_name('ticket', ANY_TEAM)}"
    yield f"  group_by: {GROUP_BY}"
    yield from _timing("  ", _TICKET_WAIT, 5 * MINUTE, "12h")
    yield "  routes:"
    yield f"  - matchers: ['alertname=\"{names.WATCHDOG}\"']"
    yield f"    receiver: {DEADMAN}"
    # Repeated when half a minute is over, and so with each minute's turn of the group.
    yield from _timing("    ", 0, MINUTE, "30s")
    for team in [*sorted(set(catalog.contacts) - {ANY_TEAM}), ANY_TEAM]:
        yield from _team_routes(catalog, team)


def _team_routes(catalog: Catalog, team: str) -> Iterator[str]:
    of_team = [] if team == ANY_TEAM else [f'team="{team}"']
    escalation = _escalation(catalog, team)
    for response in _PAGES if escalation else ():
        # Who resolves an incident in time resolves it before this group has waited long enough to be sent.
        yield from _one_route(
            [*of_team, f'severity="{response.severity}"'], receiver_name("escalate", escalation)
        )
        yield from _timing("    ", response.within, 5 * MINUTE, "1h")
        yield "    continue: true"
    for way, wait, repeat in (("page", _PAGE_WAIT, "4h"), ("ticket", _TICKET_WAIT, "3d")):
        owner = team if way in catalog.contacts.get(team, {}) else ANY_TEAM
        yield from _one_route([*of_team, f'notify="{way}"'], receiver_name(way, owner))
        yield from _timing("    ", wait, 5 * MINUTE, repeat)


def _one_route(matchers: list[str], receiver: str) -> Iterator[str]:
    yield f"  - matchers: [{', '.join(map(_in_single_quotes, matchers))}]"
    yield f"    receiver: {receiver}"


def _timing(indent: str, wait: int, interval: int, repeat: str) -> Iterator[str]:
    yield f"{indent}group_wait: {duration(wait) if wait else '0s'}"
    yield f"{indent}group_interval: {duration(interval)}"
    yield f"{indent}repeat_interval: {repeat}"


# What is held back. Of all alerts that a rule takes for a reason, and whose `equal` labels are the same,
# Alertmanager keeps one. When that ends, the others are no reason any longer, until Prometheus sends them
# again within a minute or two: so no rule takes two that may fire at once. A label that is missing equals one
# that is missing, so where the service must be equal, there must be one.


def _inhibitions(catalog: Catalog, alerts: tuple[Alert, ...]) -> Iterator[str]:
    yield "inhibit_rules:"
    yield "# A rule for each reason: of two in one rule, Alertmanager forgets the other when one ends."
    yield from _within_services(alerts)
    yield from _where_all_is_silent(catalog)
    yield from _among_services(catalog, alerts)


def _within_services(alerts: Iterable[Alert]) -> Iterator[str]:
    yield "# In one service, the worst is enough; but of that telemetry is lost, users notice nothing."
    kinds = {
        (alert.severity, alert.slo, names.of_any_service(alert.name, alert.service))
        for alert in alerts
        if alert.slo != names.TELEMETRY
    }
    for severity, slo, called in sorted(kinds):
        if lesser := _no_worse_than(severity)[1:]:
            yield from _inhibition(
                [f'severity="{severity}"', f'{names.SLO}="{slo}"', f'alertname=~"{called}"'],
                [_one_of(lesser), f'{names.SERVICE}!=""', f'alertname!="{names.WATCHDOG}"'],
                [names.SERVICE, names.ENVIRONMENT],
            )


def _where_all_is_silent(catalog: Catalog) -> Iterator[str]:
    yield "# When nothing comes from anywhere, it is not each service that is silent."
    silent = [f'{names.SLO}="{names.PRESENCE}"']
    yield from _inhibition([f'alertname="{names.ALL_SILENT}"'], silent, [names.ENVIRONMENT])
    if not catalog.environment:  # of all environments at once
        yield from _inhibition([f'alertname="{names.ALL_SILENT}"', f'{names.ENVIRONMENT}=""'], silent, [])


def _among_services(catalog: Catalog, alerts: Iterable[Alert]) -> Iterator[str]:
    pages = defaultdict(list)
    for alert in alerts:
        if alert.response.notify == "page":
            pages[alert.service].append(alert)
    needed_by = _needed_by(catalog)
    if needed_by:
        yield "# When a service that others need is paged for, theirs are the same incident."
    for service, others in needed_by.items():
        dependants = f"{names.SERVICE}=~{text('|'.join(map(literal, others)))}"
        for alert in pages[service]:
            yield from _page_of_needed(alert, dependants)


def _page_of_needed(alert: Alert, dependants: str) -> Iterator[str]:
    source = [f'alertname="{alert.name}"']
    if alert.slo != names.PRESENCE:
        no_worse = _one_of(_no_worse_than(alert.severity))
        yield from _inhibition(source, [no_worse, dependants], [names.ENVIRONMENT])
        return
    # Without a service that is gone, whatever happens is that, however bad it is.
    yield from _inhibition(source, [dependants], [names.ENVIRONMENT])
    # What a service says of itself has an environment, also where its metrics have none. Where it is silent
    # in several, this rule does take each of them, whose names nobody knows here.
    suffers = [f'{names.SLO}!="{names.PRESENCE}"', dependants, f'{names.ENVIRONMENT}=""']
    yield from _inhibition(source, suffers, [])


def _no_worse_than(severity: Severity) -> list[str]:
    """List a severity and those that are less urgent."""
    return list(RESPONSES)[list(RESPONSES).index(severity) :]


def _one_of(severities: Iterable[str]) -> str:
    return f'severity=~"{"|".join(severities)}"'


def _inhibition(source: list[str], target: list[str], equal: list[str]) -> Iterator[str]:
    yield f"- source_matchers: [{', '.join(map(_in_single_quotes, source))}]"
    yield f"  target_matchers: [{', '.join(map(_in_single_quotes, target))}]"
    if equal:
        yield f"  equal: [{', '.join(equal)}]"


def _needed_by(catalog: Catalog) -> dict[str, list[str]]:
    """List for each service all that need it, also by way of others."""
    needs: dict[str, set[str]] = {}
    depends = {service.name: service.depends_on for service in catalog.services.values()}
    for name in TopologicalSorter(depends).static_order():
        direct = {each for each in depends.get(name, ()) if each in depends}
        needs[name] = direct.union(*(needs[each] for each in direct))
    needed_by = {
        each: sorted(name for name in depends if each in needs[name]) for each in sorted(catalog.services)
    }
    return {each: others for each, others in needed_by.items() if others}


# Who is told. Every secret is read from a file by Alertmanager, and is not in this one.


def _receivers(catalog: Catalog) -> Iterator[str]:
    yield "receivers:"
    # That it has ended is no sign of life.
    yield from _receiver(DEADMAN, catalog.deadman, "false")
    for team, ways in sorted(catalog.contacts.items()):
        for way, receivers in sorted(ways.items()):
            yield from _receiver(receiver_name(way, team), receivers)


def _receiver(name: str, receivers: tuple[Receiver, ...], send_resolved: str = "true") -> Iterator[str]:
    yield f"- name: {name}"
    for receiver in receivers:
        yield f"  {receiver.kind}_configs:"
        yield f"  - send_resolved: {send_resolved}"
        yield from (f"    {line}" for line in _OPTIONS[receiver.kind](receiver.options))


def _first(annotation: str, once_over: str = "") -> str:
    """Write what the first alert says that still fires, or the first one when all are over."""
    fires = f"{{{{ with .Alerts.Firing }}}}{{{{ (index . 0).Annotations.{annotation} }}}}"
    return (
        f"{fires}{{{{ else }}}}{once_over}{{{{ (index .Alerts 0).Annotations.{annotation} }}}}{{{{ end }}}}"
    )


_TITLE = '{{ .GroupLabels.SortedPairs.Values | join " " }}: ' + _first("summary", once_over="resolved: ")
_EACH = (
    "{{ range .Alerts.Firing }}[{{ .Labels.severity }}] {{ .Annotations.summary }}\\n"
    "{{ .Annotations.description }}\\n\\n{{ end }}"
    "{{ range .Alerts.Resolved }}Resolved: {{ .Annotations.summary }}\\n{{ end }}"
)
# A page of several severities is as bad as its worst may be.
_URGENCY = (
    '{{ if eq .CommonLabels.notify "ticket" }}warning{{ else if eq .CommonLabels.severity "SEV-2" }}error'
    "{{ else }}critical{{ end }}"
)


def _pagerduty(options: Mapping[str, str]) -> Iterator[str]:
    yield f"routing_key_file: {text(options['routing_key_file'])}"
    yield f"description: {_in_single_quotes(_TITLE)}"
    yield f"severity: {_in_single_quotes(_URGENCY)}"
    yield "class: '{{ .CommonLabels.slo }}'"
    yield f"group: '{{{{ .GroupLabels.{names.ENVIRONMENT} }}}}'"
    yield "component: '{{ .GroupLabels.service }}'"
    yield "links:"
    yield f"- {{text: Runbook, href: '{_first('runbook_url')}'}}"
    yield f"- {{text: Dashboard, href: '{_first('dashboard')}'}}"


def _opsgenie(options: Mapping[str, str]) -> Iterator[str]:
    yield f"api_key_file: {text(options['api_key_file'])}"
    if "api_url" in options:
        yield f"api_url: {text(options['api_url'])}"
    yield f"message: {_in_single_quotes(_TITLE)}"
    yield f"description: {_double_quoted(_EACH)}"
    yield "priority: '{{ if eq .CommonLabels.notify \"ticket\" }}P3{{ else }}P1{{ end }}'"


def _slack(options: Mapping[str, str]) -> Iterator[str]:
    yield f"api_url_file: {text(options['api_url_file'])}"
    yield f"channel: {text(options['channel'])}"
    yield f"title: {_in_single_quotes(_TITLE)}"
    yield f"title_link: '{_first('runbook_url')}'"
    yield f"text: {_double_quoted(_EACH)}"


def _webhook(options: Mapping[str, str]) -> Iterator[str]:
    yield f"url: {text(options['url'])}"
    if "token_file" in options:
        yield f"http_config: {{authorization: {{credentials_file: {text(options['token_file'])}}}}}"


_OPTIONS = {"pagerduty": _pagerduty, "opsgenie": _opsgenie, "slack": _slack, "webhook": _webhook}


def _in_single_quotes(value: str) -> str:
    return "'{}'".format(value.replace("'", "''"))


def _double_quoted(template: str) -> str:
    return f'"{template}"'
