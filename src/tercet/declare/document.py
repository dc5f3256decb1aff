"""The document `objectives.yaml`: what it says beside and around its objectives, and the whole of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, get_args

from tercet.declare.entry import KEYS, parse_objective, parse_queries
from tercet.declare.metric import HTTP_CLIENT_DURATION, HTTP_SERVER_DURATION, METRICS, Kind, Metric
from tercet.declare.names import label_name
from tercet.declare.objective import (
    SOURCES,
    TELEMETRY,
    Catalog,
    Contacts,
    Links,
    Objective,
    Receiver,
    Service,
    refuse_between_buckets,
    refuse_beyond_buckets,
)
from tercet.declare.outline import Fields, Value, compose, say_beside
from tercet.declare.parse import Unusable
from tercet.declare.promise import Promise
from tercet.declare.quantity import (
    address,
    exact,
    is_name,
    name,
    number,
    one_of,
    prose,
)
from tercet.declare.settings import Settings
from tercet.declare.usage import USAGE
from tercet.errors import MetricError, ObjectivesError

#: Hundreds of services have a tenth of it.
LARGEST_BYTES = 8 * 1024**2
#: Whose contacts a team has that names none.
ANY_TEAM = "default"

_TOP = ("team", "period", "environment", "links", "contacts", "deadman", "metrics", "services", "objectives")
_RESERVED_LABELS = ("job", "instance", "le")
_PEOPLE = "Write pagerduty, opsgenie, slack or webhook below it."
#: Each receiver's options: which must be there, and which may.
_RECEIVERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "pagerduty": (("routing_key_file",), ()),
    "opsgenie": (("api_key_file",), ("api_url",)),
    "slack": (("api_url_file", "channel"), ()),
    "webhook": (("url",), ("token_file",)),
}


def load_catalog(
    path: Path, settings: Settings, declared: Iterable[Metric] = (), promises: Iterable[Promise] = ()
) -> Catalog:
    """Load a document from its file.

    Args:
        path: The file.
        settings: Those of the services, for the buckets that their histograms have.
        declared: What services declare in their code.
        promises: What services promise in their code.

    Raises:
        ObjectivesError: It cannot be read, or something in it cannot be used; the message names the line.
        SetupError: PyYAML is not installed.
    """
    return parse_catalog(read_file(path), path.name, settings, declared, promises)


def read_file(path: Path) -> str:
    """Read the text of a document.

    Raises:
        ObjectivesError: It cannot be read, or is larger than any document is.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ObjectivesError(f"{path} must be a readable file, got {error}. Correct the path.") from error
    if len(content) > LARGEST_BYTES:
        raise ObjectivesError(f"{path} must be {LARGEST_BYTES} bytes at most. Split it by team.")
    return text


def parse_catalog(
    text: str,
    source: str,
    settings: Settings,
    declared: Iterable[Metric] = (),
    promises: Iterable[Promise] = (),
) -> Catalog:
    """Read a document.

    Args:
        text: The YAML.
        source: Its file's name, for messages and headers.
        settings: Those of the services, for the buckets that their histograms have.
        declared: What services declare in their code.
        promises: What services promise in their code.

    Raises:
        ObjectivesError: Something in it cannot be used; the message names the line.
        SetupError: PyYAML is not installed.
    """
    top = compose(text, source).fields(*_TOP)
    team = top.needed("team", "Write who answers for what names no other team.").read(name)
    metrics, promises = _metrics(top, settings, declared), tuple(promises)
    services = _services(top, team)
    links = top.needed("links", "Write grafana and runbooks below it.").fields("grafana", "runbooks")
    return Catalog(
        source=source,
        objectives=_objectives(top, _Known(metrics, services, promises, settings)),
        services=services,
        metrics=metrics,
        links=Links(
            grafana=links.needed("grafana", "Write its address.").read(address),
            runbooks=links.needed("runbooks", "Write where the generated runbooks are read.").read(address),
        ),
        team=team,
        contacts=_contacts(top, {team, *(service.team for service in services.values())}),
        deadman=_receivers(
            top.needed("deadman", f"Name who raises the alarm when alerting is silent. {_PEOPLE}")
        ),
        environment=top.read("environment", prose, ""),
        waiting_limit=settings.span_queue_size // 2,
    )


# What is measured, and in what.


def _metrics(top: Fields, settings: Settings, declared: Iterable[Metric]) -> dict[str, Metric]:
    known = {metric.name: _as_it_runs(metric, settings) for metric in (*METRICS, *USAGE, *declared)}
    for item in top.items_of("metrics"):
        metric = _metric(item.fields("name", "kind", "unit", "help", "attributes", "buckets"))
        if metric.name in known:
            raise item.refused("declared once", f"Remove it: {metric.name} is declared already.")
        known[metric.name] = metric
    return known


def _as_it_runs(metric: Metric, settings: Settings) -> Metric:
    if metric.name in (HTTP_SERVER_DURATION.name, HTTP_CLIENT_DURATION.name):
        return replace(metric, buckets=settings.duration_buckets)
    return metric


def _metric(fields: Fields) -> Metric:
    kinds: Any = one_of({kind: kind for kind in get_args(Kind)})
    kind = fields.needed("kind", "Write counter, histogram, gauge or up_down_counter.").read(kinds)
    metric = Metric(
        fields.needed("name", "Write the name in the code.").read(exact),
        kind,
        fields.read("unit", exact, "1"),
        fields.read("help", prose, "What a service declares."),
        tuple(key.read(_attribute) for key in fields.items_of("attributes")),
        tuple(sorted(float(bound.read(number)) for bound in fields.items_of("buckets"))),
    )
    try:
        metric.check()
    except MetricError as error:
        raise ObjectivesError(f"{fields.whole.place}: {fields.whole.path}: {error}") from None
    return metric


def _attribute(text: str) -> str:
    key = prose(text)
    if label_name(key) in _RESERVED_LABELS:
        raise Unusable(f"other than {', '.join(_RESERVED_LABELS)}, which are Prometheus' own", "Rename it.")
    return key


# Who answers for it.


def _services(top: Fields, team: str) -> dict[str, Service]:
    listed = top.needed("services", "Name each service once, with its team.")
    services: dict[str, Service] = {}
    for key, value in listed.fields().items():
        fields = value.fields("team", "namespace", "depends_on", "runbook")
        if not is_name(key) or key == TELEMETRY:
            raise value.refused("under a name that begins with a letter, and is not telemetry", "Rename it.")
        services[key] = Service(
            key,
            fields.read("team", name, team),
            fields.read("namespace", name, ""),
            tuple(other.read(prose) for other in fields.items_of("depends_on")),
            value.place,
        )
    try:
        TopologicalSorter({each.name: each.depends_on for each in services.values()}).prepare()
    except CycleError as error:
        # A page silences those of whoever needs the service; in a circle, all would be silent.
        rule = f"without circles in depends_on ({' → '.join(reversed(error.args[1]))})"
        raise listed.refused(rule, "Leave out the weaker need.") from None
    return services


def _contacts(top: Fields, teams: set[str]) -> dict[str, Contacts]:
    listed = top.needed("contacts", f"Name whom to page under {ANY_TEAM}: page, and where tickets go.")
    contacts: dict[str, Contacts] = {}
    for team, value in listed.fields().items():
        if team != ANY_TEAM and team not in teams:
            raise value.refused(f"under one of {', '.join(sorted(teams))}", "Correct the team's name.")
        fields = value.fields("page", "ticket", "escalate")
        for way in ("page", "ticket"):
            if team == ANY_TEAM:
                fields.needed(way, _PEOPLE)
        contacts[team] = {way: _receivers(each) for way, each in fields.items()}
    listed.fields().needed(ANY_TEAM, "Write whom to page, and where tickets go.")
    return contacts


def _receivers(value: Value) -> tuple[Receiver, ...]:
    receivers = tuple(_receiver(kind, each) for kind, each in value.fields(*_RECEIVERS).items())
    if not receivers:
        raise value.refused("a way to reach somebody", _PEOPLE)
    return receivers


def _receiver(kind: str, value: Value) -> Receiver:
    required, optional = _RECEIVERS[kind]
    fields = value.fields(*required, *optional)
    for option in required:
        fields.needed(option, "What is secret stays in a file." if option.endswith("_file") else "Write it.")
    options = {
        option: each.read(address if option.endswith("url") else prose) for option, each in fields.items()
    }
    return Receiver(kind, options)


# What is promised.


@dataclass(frozen=True, slots=True)
class _Known:
    """What objectives can refer to."""

    metrics: Mapping[str, Metric]
    services: Mapping[str, Service]
    promises: tuple[Promise, ...]
    settings: Settings

    def metrics_of(self, service: str) -> Mapping[str, Metric]:
        """Return the metrics with the buckets that they have in a service, those of its promises included."""
        metrics = dict(self.metrics)
        for promise in self.promises:
            metric = metrics[promise.objective.indicator.metric.name]
            if (promise.service or self.settings.service_name) == service and self.can_force(metric):
                metrics[metric.name] = metric.bounded_at(map(float, promise.objective.boundaries))
        return metrics

    def can_force(self, metric: Metric) -> bool:
        """Say whether it is measured in buckets that a promise can part, and not in those of a view."""
        if metric.name.startswith("http."):
            return self.settings.http_edges == "tercet"
        return metric.name in SOURCES or metric not in (*METRICS, *USAGE)

    def counts(self, metric: Metric) -> bool:
        """Say whether services count events of a metric where they measure it."""
        return self.settings.http_edges != "off" or not metric.name.startswith("http.")


def _objectives(top: Fields, known: _Known) -> tuple[Objective, ...]:
    runbooks = {key: value.fields().get("runbook") for key, value in top["services"].fields().items()}
    metrics = {service: known.metrics_of(service) for service in known.services}
    objectives: dict[tuple[str, str], Objective] = {}
    for fields in (*_written(top, known), *_promised(known)):
        key = fields.needed("service", "Write the service's name.").read(
            one_of({each: each for each in known.services})
        )
        if "runbook" not in fields and (runbook := runbooks[key]) is not None:
            fields["runbook"] = runbook
        objective = parse_objective(top, fields, known.services[key], metrics[key], parse_queries)
        _refuse_unmeasurable(fields, objective, known)
        other = objectives.setdefault((key, objective.name), objective)
        if other is not objective:
            rule = f"unique in {key}, which has it at {other.place}"
            raise fields["name"].refused(rule, "Give it another name.")
    return tuple(objectives.values())


def _written(top: Fields, known: _Known) -> Iterator[Fields]:
    """Walk through what the document promises; nothing where all of it is in code."""
    items = top.items_of("objectives")
    if not items and not known.promises:
        items = top.needed("objectives", "Write one, or name the code that has some: --module.").some()
    yield from (item.fields(*KEYS) for item in items)


def _promised(known: _Known) -> Iterator[Fields]:
    """Walk through what code promises."""
    for promise in known.promises:
        fields, own = promise.said.fields(*KEYS), known.settings.service_name
        fields.setdefault("counted", say_beside(fields, "counted", promise.objective.indicator.counted))
        if not promise.service and own:
            fields["service"] = say_beside(fields, "service", own)
        fields.needed("service", "Write service=, or set OTEL_SERVICE_NAME as where the code runs.")
        yield fields


def _refuse_unmeasurable(fields: Fields, objective: Objective, known: _Known) -> None:
    """Refuse what nobody counts, and what the buckets of the running histogram cannot tell."""
    indicator, can_be_forced = objective.indicator, known.can_force(objective.indicator.metric)
    if indicator.counted == "source" and not known.counts(indicator.metric):
        raise fields["counted"].refused("metric while http_edges is off", "Write metric: nobody else counts.")
    if indicator.kind != "latency":
        return
    said = [item.fields()["above"] for item in fields.items_of("symptoms")]
    limits = [(value, symptom.above) for value, symptom in zip(said, objective.symptoms, strict=True)]
    threshold = [(fields["below"], indicator.threshold)] if indicator.counted == "metric" else []
    for value, limit in (*threshold, *limits):
        try:
            refuse_between_buckets(limit, indicator.metric, can_be_forced=can_be_forced)
            if value in said:
                refuse_beyond_buckets(limit, indicator.metric)
        except Unusable as unusable:
            raise value.refused(unusable.rule, unusable.mend) from None
