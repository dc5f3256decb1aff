"""An alert: all that somebody who is woken needs, of which its rule and its runbook tell."""

from dataclasses import dataclass

from tercet.declare.burn_rate import RESPONSES, Response, Severity
from tercet.declare.objective import Advice, Links
from tercet.generate import names
from tercet.generate.rulefile import Rule

_ENVIRONMENT = f"$labels.{names.ENVIRONMENT}"
#: Where it fires, in the words of a summary.
IN_ENVIRONMENT = f"{{{{ with {_ENVIRONMENT} }}}} in {{{{ . }}}}{{{{ end }}}}"
# Without the namespace that `job` begins with.
_NAME_IN_JOB = 'reReplaceAll "^.*/" "" $labels.job'
#: The service of an alert whose expression says which.
JOB = f"{{{{ {_NAME_IN_JOB} }}}}"
#: What Grafana takes for every value of a variable.
_ALL = "$__all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Tell people of one thing that is wrong.

    Attributes:
        name: Unique.
        expression: It fires for each series of the result.
        lasting: Seconds for which there must be one.
        staying: Seconds for which it fires on when there is none any longer.
        severity: How urgent it is.
        service: What is wrong; a template where the expression says which.
        team: Who is told.
        slo: Which objective suffers, or `presence` or `telemetry`.
        summary: One line, a template.
        meaning: What exactly is measured, for the runbook.
        advice: Impact, possible causes, immediate actions.
        queries: What to look at, each with its question.
        depends_on: Whose fault it may be.
        dashboard: Where to look; that of the service knows nothing of what only queries know.
    """

    name: str
    expression: str
    lasting: int = 0
    staying: int = 0
    severity: Severity
    service: str
    team: str
    slo: str
    summary: str
    meaning: str
    advice: Advice
    queries: tuple[tuple[str, str], ...] = ()
    depends_on: tuple[str, ...] = ()
    dashboard: str = names.DASHBOARD

    @property
    def response(self) -> Response:
        """What its severity asks of people."""
        return RESPONSES[self.severity]


def build_rule(alert: Alert, links: Links) -> Rule:
    """Write an alert as Prometheus' rule, with everything that routes it and everything that people read."""
    dashboard, runbook = dashboard_url(alert, links), runbook_url(alert, links)
    labels = {
        "severity": alert.severity,
        "notify": alert.response.notify,
        "response": alert.response.words,
        names.SERVICE: alert.service,
        "team": alert.team,
        names.SLO: alert.slo,
    }
    annotations = {
        "summary": alert.summary,
        "description": _description(alert.advice, dashboard, runbook),
        "dashboard": dashboard,
        "runbook_url": runbook,
    }
    return Rule(alert.name, alert.expression, alert.lasting, alert.staying, labels, annotations)


def dashboard_url(alert: Alert, links: Links) -> str:
    """Lead to what the alert is about, in the environment where it fires: all, where it knows of none."""
    service = {JOB: f"{{{{ {_NAME_IN_JOB} | urlquery }}}}", names.TELEMETRY: _ALL}.get(
        alert.service, alert.service
    )
    environment = f"{{{{ with {_ENVIRONMENT} }}}}{{{{ urlquery . }}}}{{{{ else }}}}{_ALL}{{{{ end }}}}"
    variables = f"var-service={service}&var-environment={environment}"
    if alert.dashboard == names.SLO_DASHBOARD:
        variables += f"&var-slo={alert.slo}"
    return f"{dashboard_page(alert, links)}?{variables}&from=now-3h&to=now"


def dashboard_page(alert: Alert, links: Links) -> str:
    """Lead to the dashboard of services, of objectives, or of the telemetry."""
    uid = names.TELEMETRY_DASHBOARD if alert.slo == names.TELEMETRY else alert.dashboard
    return f"{links.grafana}/d/{uid}"


def runbook_url(alert: Alert, links: Links) -> str:
    """Lead to the generated runbook."""
    return f"{links.runbooks}/{runbook_file(alert)}"


def runbook_file(alert: Alert) -> str:
    """Name the runbook's file."""
    return f"{alert.name}.md"


def _description(advice: Advice, dashboard: str, runbook: str) -> str:
    return "\n".join(
        (
            f"Impact: {advice.impact}",
            "",
            f"Dashboard: {dashboard}",
            f"Runbook: {runbook}",
            "",
            "Possible causes:",
            *(f"- {cause}" for cause in advice.causes),
            "",
            "Immediate actions:",
            *(f"{number}. {action}" for number, action in enumerate(advice.actions, 1)),
        )
    )
