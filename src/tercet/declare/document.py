"""The document `objectives.yaml`: which keys it has, and what they become."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, Literal, get_args

from tercet.declare import parse
from tercet.declare.burn_rate import PERIODS, RESPONSES, WINDOWS, Severity, Window, duration
from tercet.declare.metric import HTTP_CLIENT_DURATION, HTTP_SERVER_DURATION, METRICS, Kind, Metric
from tercet.declare.names import label_name
from tercet.declare.objective import (
    MINIMUM_EVENTS,
    READS,
    SOURCES,
    Advice,
    Catalog,
    Contacts,
    Counted,
    Filter,
    Indicator,
    IndicatorKind,
    Links,
    Objective,
    Receiver,
    Service,
    Symptom,
    counted_events,
    refuse_between_buckets,
    refuse_beyond_buckets,
    refuse_deaf,
    refuse_too_many,
    shown_share,
)
from tercet.declare.outline import Fields, Value, compose, say
from tercet.declare.parse import Unusable
from tercet.declare.promise import Promise
from tercet.declare.quantity import (
    address,
    exact,
    hours,
    is_name,
    name,
    number,
    one_of,
    prose,
    seconds,
    share,
    whole_seconds,
)
from tercet.declare.query import Queries, Query, parse_query, parse_ratio
from tercet.declare.settings import Settings
from tercet.declare.usage import USAGE
from tercet.errors import MetricError, ObjectivesError, SetupError

#: Hundreds of services have a tenth of it.
LARGEST_BYTES = 8 * 1024**2
#: Whose contacts a team has that names none.
ANY_TEAM = "default"

_TOP = ("team", "period", "environment", "links", "contacts", "deadman", "metrics", "services", "objectives")
_OBJECTIVE = (
    *("name", "service", "kind", "target", "agreement", "period", "metric", "where", "bad", "forgive"),
    *("good", "total", "ratio", "counted"),
    *("below", "at_least", "at_most", "during", "severity", "minimum_events", "symptoms", "runbook"),
)
#: The key under which each kind has its threshold.
_THRESHOLDS: dict[IndicatorKind, str] = {"latency": "below", "throughput": "at_least", "level": "at_most"}
_SEVERITIES: dict[str, Severity] = {name: response.severity for name, response in RESPONSES.items()}
_SEVERITY = one_of(_SEVERITIES)
_SEVERITY_OR_OFF = one_of({**_SEVERITIES, "off": None})
#: Little traffic may also mean that nobody asks: a matter for the day.
_UNHURRIED: dict[Window, Severity] = dict(zip(WINDOWS, ("SEV-3", "SEV-3", "SEV-4", "SEV-4"), strict=True))
#: What alerts on the telemetry itself are about.
_RESERVED_SERVICE = "telemetry"
_RESERVED_LABELS = ("job", "instance", "le")
#: What code may leave to the document, and what stands for it until then.
_OF_THE_DOCUMENT = {"period": "30d", "runbook": {"impact": "?", "causes": "?", "actions": "?"}}
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
        if not is_name(key) or key == _RESERVED_SERVICE:
            raise value.refused("under a name that begins with a letter, and is not telemetry", "Rename it.")
        services[key] = Service(
            key,
            fields.read("team", name, team),
            fields.read("namespace", name, ""),
            tuple(other.read(prose) for other in fields.items_of("depends_on")),
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
    places: dict[tuple[str, str], str] = {}
    for fields in (*_written(top, known), *_promised(known)):
        key = fields.needed("service", "Write the service's name.").read(
            one_of({each: each for each in known.services})
        )
        if "runbook" not in fields and (runbook := runbooks[key]) is not None:
            fields["runbook"] = runbook
        objective = _objective(top, fields, known.services[key], metrics[key], _queries)
        _refuse_unmeasurable(fields, objective, known)
        place = places.setdefault((key, objective.name), fields.whole.place)
        if (key, objective.name) in objectives:
            raise fields["name"].refused(f"unique in {key}, which has it at {place}", "Give it another name.")
        objectives[key, objective.name] = objective
    return tuple(objectives.values())


def _written(top: Fields, known: _Known) -> Iterator[Fields]:
    """Walk through what the document promises; nothing where all of it is in code."""
    items = top.items_of("objectives")
    if not items and not known.promises:
        items = top.needed("objectives", "Write one, or name the code that has some: --module.").some()
    yield from (item.fields(*_OBJECTIVE) for item in items)


def _promised(known: _Known) -> Iterator[Fields]:
    """Walk through what code promises."""
    for promise in known.promises:
        fields, own = promise.said.fields(*_OBJECTIVE), known.settings.service_name
        fields.setdefault("counted", _aside(fields, "counted", promise.objective.indicator.counted))
        if not promise.service and own:
            fields["service"] = _aside(fields, "service", own)
        fields.needed("service", "Write service=, or set OTEL_SERVICE_NAME as where the code runs.")
        yield fields


def _aside(fields: Fields, key: str, content: object) -> Value:
    """Add what was meant to what was said."""
    return say(content, fields.whole.source, fields.whole.line, f"{fields.whole.path}.{key}")


def parse_promise(said: Value, declared: Iterable[Metric] = ()) -> Promise:
    """Read what code promises, as far as it can be read without the document.

    Events are counted at the source where that can be done: code that counts knows no bucket, and no series
    that is not there yet.

    Args:
        said: What it says; the keys are those of the document.
        declared: What the service declares, so far.

    Raises:
        ObjectivesError: Something in it cannot be used; the message names the line of the code.
    """
    fields = said.fields(*_OBJECTIVE)
    service = fields.read("service", name, "")
    for key, content in _OF_THE_DOCUMENT.items():
        fields.setdefault(key, _aside(fields, key, content))
    metrics = {metric.name: metric for metric in (*METRICS, *USAGE, *declared)}
    objective = _objective(Fields(said), fields, Service(service, ""), metrics, _queries_of_code)
    indicator = objective.indicator
    if "counted" not in fields and _refusal_at_the_source(indicator.kind, indicator.metric) is None:
        objective = replace(objective, indicator=replace(indicator, counted="source"))
    return Promise(said, service, objective)


def _objective(
    top: Fields,
    fields: Fields,
    service: Service,
    metrics: Mapping[str, Metric],
    read_queries: Callable[[Fields], Queries],
) -> Objective:
    called = fields.needed("name", "Write what is promised: availability.").read(name)
    indicator = _indicator(fields, called, metrics, read_queries)
    target = fields.needed("target", "Write 99.9%.").read(share)
    period = (top if "period" not in fields else fields).needed("period", "Write 30d, here or at the top.")
    objective = Objective(
        name=called,
        service=service,
        indicator=indicator,
        target=target,
        period=period.read(one_of(PERIODS)),
        advice=_advice(fields),
        agreement=fields["agreement"].read(_looser_than(target)) if "agreement" in fields else None,
        severities=_severities(fields, indicator),
        minimum_events=_minimum_of(fields, indicator),
        symptoms=tuple(_symptom(item, indicator) for item in fields.items_of("symptoms")),
    )
    for key, refuse in (("target", refuse_deaf), ("minimum_events", refuse_too_many)):
        try:
            refuse(objective)
        except Unusable as unusable:
            raise fields[key].refused(unusable.rule, unusable.mend) from None
    return objective


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


def _indicator(
    fields: Fields, called: str, metrics: Mapping[str, Metric], read_queries: Callable[[Fields], Queries]
) -> Indicator:
    kinds: Any = one_of({kind: kind for kind in READS})
    kind: IndicatorKind = fields.needed("kind", f"Write one of {', '.join(READS)}.").read(kinds)
    counted: Counted = fields.read("counted", one_of({each: each for each in get_args(Counted)}), "metric")
    if counted == "calls":
        return _called(fields, called, kind)
    if kind == "query":
        if counted == "source":
            raise fields["counted"].refused("metric where queries count", "Remove it.")
        _refuse_keys_of_other_kinds(fields, kind)
        return Indicator(kind=kind, queries=read_queries(fields))
    metric = _metric_of(fields, kind, metrics)
    if counted == "source" and (refusal := _refusal_at_the_source(kind, metric)):
        raise fields["counted"].refused(*refusal)
    _refuse_keys_of_other_kinds(fields, kind)
    bad = _filter(fields, "bad", metric)
    if kind == "availability" and not bad and "error.type" not in metric.attributes:
        fields.needed("bad", f"{metric.name} has no error.type, so say which of its events are bad.")
    if bad and "forgive" in fields:
        raise fields["forgive"].refused("left out beside bad", "Name all that is bad, and nothing else.")
    return Indicator(
        kind=kind,
        metric=metric,
        where=_filter(fields, "where", metric),
        bad=bad,
        forgiven=tuple(item.read(exact) for item in fields.items_of("forgive")),
        threshold=_threshold(fields, kind, metric),
        hours=fields.read("during", hours, None),
        counted=counted,
    )


def _called(fields: Fields, called: str, kind: IndicatorKind) -> Indicator:
    """Make the indicator of what code counts by itself: it alone knows what an event is."""
    if kind != "availability":
        raise fields["kind"].refused("availability where calls count", "The code says what is bad.")
    for key in ("metric", "where", "bad", "forgive"):
        if key in fields:
            raise fields[key].refused("left out where calls count", "Remove it.")
    _refuse_keys_of_other_kinds(fields, kind)
    return counted_events(called, "calls")


def _refusal_at_the_source(kind: IndicatorKind, metric: Metric) -> tuple[str, str] | None:
    """Say why events cannot be counted where they are measured: the rule, and the mend."""
    if kind not in ("availability", "latency"):
        return "metric where minutes count", "Remove it."
    if metric.name not in SOURCES:
        return f"metric for {metric.name}, which is not counted at the source", "Remove it."
    return None


def _queries_of_code(fields: Fields) -> Queries:
    """Read queries where what reads them is installed: nothing of them runs in a service that promises."""
    try:
        return _queries(fields)
    except SetupError:
        unread = Query("vector(0)")
        return Queries("ratio", unread) if "ratio" in fields else Queries("bad", unread, unread)


def _queries(fields: Fields) -> Queries:
    kinds: tuple[Literal["bad", "good", "ratio"], ...] = ("bad", "good", "ratio")
    first, *more = [kind for kind in kinds if kind in fields] or ["bad"]
    part = fields.needed(first, "Write the query of the bad events, or of the good ones, or their ratio.")
    for other in more:
        raise fields[other].refused(f"left out beside {first}", "Keep one of the two.")
    if first == "ratio":
        if "total" in fields:
            raise fields["total"].refused(
                "left out beside ratio", "Remove it, or write bad instead of ratio."
            )
        return Queries(first, part.read(parse_ratio))
    some = part.read(parse_query)
    total = fields.needed("total", "Write the query of all events.")
    every = total.read(parse_query)
    if some.is_per_window != every.is_per_window:
        rule = f"as {first} is, a second or in the window"
        raise total.refused(rule, "Write rate in both, or increase in both.")
    return Queries(first, some, every)


def _metric_of(fields: Fields, kind: IndicatorKind, metrics: Mapping[str, Metric]) -> Metric:
    fitting = {name: metric for name, metric in metrics.items() if metric.kind in READS[kind]}
    if kind == "level":
        fields.needed("metric", "Write the gauge's name.")
    return fields.read("metric", one_of(fitting), metrics[HTTP_SERVER_DURATION.name])


def _refuse_keys_of_other_kinds(fields: Fields, kind: IndicatorKind) -> None:
    own = {"availability": ("bad", "forgive"), "query": ("bad", "good", "total", "ratio")}.get(kind, ())
    wanted = own if kind == "query" else (*own, "metric", "where")
    wanted = (*wanted, *((_THRESHOLDS[kind],) if kind in _THRESHOLDS else ()))
    wanted = (*wanted, *(("during",) if kind in ("throughput", "level") else ("symptoms",)))
    queried = ("good", "total", "ratio", "metric", "where")
    for key in ("bad", "forgive", "below", "at_least", "at_most", "during", "symptoms", *queried):
        if key in fields and key not in wanted:
            raise fields[key].refused(f"left out of an objective of kind {kind}", "Remove it.")


def _filter(fields: Fields, key: str, metric: Metric) -> Filter:
    if key not in fields:
        return ()
    if not metric.attributes:
        raise fields[key].refused(f"left out: {metric.name} has no attributes", "Remove it, or declare them.")
    wanted = fields[key].fields(*metric.attributes)
    return tuple(
        (attribute, tuple(item.read(exact) for item in value.some())) for attribute, value in wanted.items()
    )


def _threshold(fields: Fields, kind: IndicatorKind, metric: Metric) -> Decimal:
    if kind not in _THRESHOLDS:
        return Decimal(0)
    value = fields.needed(_THRESHOLDS[kind], "Write 500ms." if kind == "latency" else "Write a number.")
    return value.read(_in_unit_of(metric) if kind == "latency" else number)


def _in_unit_of(metric: Metric) -> Callable[[str], Decimal]:
    return seconds if metric.unit == "s" else number


def _looser_than(target: Decimal) -> Any:
    def parse_agreement(text: str) -> Decimal:
        agreed = share(text)
        if agreed >= target:
            raise Unusable(
                f"looser than the target of {shown_share(target)}",
                "What customers were promised must be kept when the target is just missed.",
            )
        return agreed

    return parse_agreement


def _severities(fields: Fields, indicator: Indicator) -> dict[Window, Severity | None]:
    severities: dict[Window, Severity | None] = {window: window.severity for window in WINDOWS}
    if indicator.kind == "throughput":
        severities |= _UNHURRIED
    if "severity" in fields:
        by_name = {duration(window.long): window for window in WINDOWS}
        for key, value in fields["severity"].fields(*by_name).items():
            severities[by_name[key]] = value.read(_SEVERITY_OR_OFF)
        if not any(severities.values()):
            raise fields["severity"].refused("more than off", "Leave one pace at which somebody is told.")
    return severities


def _minimum_of(fields: Fields, indicator: Indicator) -> int:
    if indicator.queries is None or indicator.queries.kind != "ratio":
        return fields.read("minimum_events", _minimum, MINIMUM_EVENTS)
    if "minimum_events" in fields:
        rule = "left out beside ratio, which does not say how many events there were"
        raise fields["minimum_events"].refused(rule, "Remove it, or write bad and total.")
    return 0


def _minimum(text: str) -> int:
    return parse.whole(2, 1_000_000, "Write 10: one bad request of three says nothing.")(text)


def _symptom(item: Value, indicator: Indicator) -> Symptom:
    fields = item.fields("above", "for", "severity")
    above = fields.needed("above", "Write 2.5s, or 5% for availability.")
    severity = fields.needed("severity", "Write SEV-2.").read(_SEVERITY)
    limit = above.read(_in_unit_of(indicator.metric) if indicator.kind == "latency" else share)
    return Symptom(limit, fields.read("for", whole_seconds, 300), severity)


def _advice(fields: Fields) -> Advice:
    here = "here or at the service; nobody is woken without them."
    runbook = fields.needed("runbook", f"Write impact, causes and actions, {here}").fields(
        "impact", "causes", "actions"
    )
    causes, actions = (
        tuple(item.read(prose) for item in runbook.needed(key, mend).some())
        for key, mend in (("causes", "List what it may be."), ("actions", "List what to do first."))
    )
    return Advice(runbook.needed("impact", "Say who suffers, and how.").read(prose), causes, actions)
