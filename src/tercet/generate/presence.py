"""Whether services report at all, in each environment: what is recorded of it, and who is told of silence.

Every running process has a `target_info`, also without any traffic. What reported once is missed for a day:
for as long an environment that is gone is told of, and nobody needs to list environments.
"""

from collections.abc import Iterable, Iterator

from tercet.declare.burn_rate import MINUTE, duration
from tercet.declare.objective import Advice, Catalog, Service
from tercet.generate import names, rules
from tercet.generate.alerts import IN_ENVIRONMENT, Alert
from tercet.generate.promql import Match, equal, none_of, one_of, select
from tercet.generate.rulefile import Recording

#: Metrics come once a minute, unless somebody says otherwise; four may be missed.
SILENT_AFTER = 5 * MINUTE
_REMEMBERED = "1d"


def reporting_services(catalog: Catalog) -> list[Service]:
    """List the services that emit telemetry of their own, and so are missed when nothing comes.

    Of a service that is known by queries alone, nobody can say what it emits.
    """
    known_by: dict[str, set[str]] = {name: set() for name in catalog.services}
    for objective in catalog.objectives:
        known_by[objective.service.name].add(objective.indicator.kind)
    return [service for name, service in catalog.services.items() if known_by[name] != {"query"}]


def presence_rules(service: Service, environment: str) -> Iterator[Recording]:
    """Record which processes report, in which environments, and which are back after a long silence."""
    info = select(names.TARGET_INFO, *rules.of_service(service, environment))
    lately = f"last_over_time({info}[{duration(SILENT_AFTER)}])"
    instances, labels = select(names.REPORTING_INSTANCES, *_recorded(service)), _labels(service)
    by_process = f"group by ({names.JOB}, {names.INSTANCE}, {names.ENVIRONMENT}) ({lately})"
    yield Recording(names.REPORTING_INSTANCES, by_process, labels)
    by_environment = f"group by ({names.ENVIRONMENT}) ({instances})"
    yield Recording(names.REPORTING_ENVIRONMENTS, by_environment, labels)
    yield Recording(names.RETURNED_INSTANCES, _returned(instances), labels)


def _returned(instances: str) -> str:
    """Tell what reported within a day, was silent for an hour, and may report again since a few minutes.

    Budgets look back an hour from four minutes ago for what a counter was. It is recorded for five minutes
    longer than it comes, and read up to one minute later, so what was missed there is missed here.
    """
    before = f"last_over_time({instances}[{_REMEMBERED}] offset 58m)"
    # Whatever its environment: where names of instances repeat, one that is gone hides none that lives.
    since = f"last_over_time({instances}[54m] offset 4m)"
    return f"{before}\nunless on ({names.JOB}, {names.INSTANCE}) {since}"


def silence_alert(service: Service, catalog: Catalog) -> Alert:
    """Watch a service from which nothing may come at all, and of which no rule would then say a word."""
    reporting = select(
        names.REPORTING_ENVIRONMENTS, *_recorded(service), *rules.of_environment(catalog.environment)
    )
    remembered = f"last_over_time({reporting}[{_REMEMBERED}])"
    never = f"absent_over_time({reporting}[{_REMEMBERED}])"  # with the document's environment, if it has one
    lasting = duration(SILENT_AFTER)
    return Alert(
        name=names.silence_alert(service.name),
        expression=f"{remembered}\nunless {reporting}\nor {never}",
        lasting=4 * MINUTE,  # later than all together, which holds this back
        severity="SEV-2",
        service=service.name,
        team=service.team,
        slo=names.PRESENCE,
        summary=f"{service.name}{IN_ENVIRONMENT}: nothing has come from it for {lasting}",
        meaning=(
            f"Prometheus has had no {names.TARGET_INFO} with {names.JOB} {service.job!r} for {lasting} where "
            "there was one within a day, or anywhere at all. Every running process has one, also without any "
            "traffic. The objectives of the service cannot be judged there meanwhile."
        ),
        advice=Advice(
            f"{service.name} is down, or nobody can see how it is.",
            (
                "No process of the service runs.",
                "The processes cannot reach the collector, or Prometheus cannot reach them.",
                f"It runs under another name: {names.JOB} must be {service.job}.",
                "It was taken down there on purpose: silence this for a day; who needs it stays held back.",
            ),
            (
                "Ask the service itself: does its health check answer?",
                "Look whether its processes run, and at the end of their logs.",
                "If it serves users, look for 'collector' in its logs: it says when it cannot deliver.",
            ),
        ),
        queries=(
            (
                "Which services report, and where?",
                f"count by ({names.JOB}, {names.ENVIRONMENT}) ({names.TARGET_INFO})",
            ),
        ),
        depends_on=service.depends_on,
    )


def silence_of_all(services: Iterable[Service], environment: str) -> str:
    """Find the environments from which nothing comes, while others report; or one that is all.

    When nothing comes from anywhere, it is one incident, and not one in each environment.
    """
    matches = (
        one_of(names.SERVICE, (service.name for service in services)),
        *rules.of_environment(environment),
    )
    reporting = select(names.REPORTING_ENVIRONMENTS, *matches)
    by = f"group by ({names.ENVIRONMENT})"
    # Without an environment it is everywhere, and holds back all: so no place without a name is one of them.
    named = select(names.REPORTING_ENVIRONMENTS, *matches, none_of(names.ENVIRONMENT, ("",)))
    return (
        f"{by} (last_over_time({named}[{_REMEMBERED}]))\n"
        f"unless {by} ({reporting})\n"
        f"and on () group({reporting})\n"
        f"or absent({reporting})"
    )


def _recorded(service: Service) -> tuple[Match, ...]:
    return tuple(equal(label, value) for label, value in _labels(service).items())


def _labels(service: Service) -> dict[str, str]:
    return {names.SERVICE: service.name, names.SLO: names.PRESENCE}
