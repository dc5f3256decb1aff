"""One objective as it is written, in the document or in code: which keys it has, and what they become."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Literal, get_args

from tercet.declare import parse
from tercet.declare.burn_rate import PERIODS, RESPONSES, WINDOWS, Severity, Window, duration
from tercet.declare.metric import HTTP_SERVER_DURATION, METRICS, Metric
from tercet.declare.objective import (
    MINIMUM_EVENTS,
    PRESENCE,
    READS,
    SOURCES,
    TELEMETRY,
    Advice,
    Counted,
    Filter,
    Indicator,
    IndicatorKind,
    Objective,
    Service,
    Symptom,
    counted_events,
    refuse_deaf,
    refuse_too_many,
    shown_share,
)
from tercet.declare.outline import Fields, Value, say_beside
from tercet.declare.parse import Unusable
from tercet.declare.promise import Promise
from tercet.declare.quantity import exact, hours, name, number, one_of, prose, seconds, share, whole_seconds
from tercet.declare.query import Queries, Query, parse_query, parse_ratio
from tercet.declare.usage import USAGE
from tercet.errors import SetupError

#: The keys that an objective may have.
KEYS = (
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
#: What code may leave to the document, and what stands for it until then.
_OF_THE_DOCUMENT = {"period": "30d", "runbook": {"impact": "?", "causes": "?", "actions": "?"}}


def parse_objective(
    top: Fields,
    fields: Fields,
    service: Service,
    metrics: Mapping[str, Metric],
    read_queries: Callable[[Fields], Queries],
) -> Objective:
    """Read an objective.

    Args:
        top: Where its period stands if it has none of its own.
        fields: What it says.
        service: Whose it is.
        metrics: What can be promised, with the buckets that it has in that service.
        read_queries: Reads those of an objective of `kind: query`.

    Raises:
        ObjectivesError: Something in it cannot be used; the message names the line.
    """
    called = fields.needed("name", "Write what is promised: availability.").read(_free_name)
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
        place=fields.whole.place,
    )
    for key, refuse in (("target", refuse_deaf), ("minimum_events", refuse_too_many)):
        try:
            refuse(objective)
        except Unusable as unusable:
            raise fields[key].refused(unusable.rule, unusable.mend) from None
    return objective


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
    fields = said.fields(*KEYS)
    service = fields.read("service", name, "")
    for key, content in _OF_THE_DOCUMENT.items():
        fields.setdefault(key, say_beside(fields, key, content))
    metrics = {metric.name: metric for metric in (*METRICS, *USAGE, *declared)}
    objective = parse_objective(Fields(said), fields, Service(service, ""), metrics, _queries_of_code)
    indicator = objective.indicator
    if "counted" not in fields and _refusal_at_the_source(indicator.kind, indicator.metric) is None:
        objective = replace(objective, indicator=replace(indicator, counted="source"))
    return Promise(said, service, objective)


def _free_name(text: str) -> str:
    if text in (PRESENCE, TELEMETRY):
        raise Unusable(f"other than {PRESENCE} and {TELEMETRY}", "Rename it: these have alerts of their own.")
    return name(text)


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
    where = _filter(fields, "where", metric)
    if bad:
        _refuse_what_does_not_count(fields["bad"].fields(*metric.attributes), dict(where))
    return Indicator(
        kind=kind,
        metric=metric,
        where=where,
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
        return parse_queries(fields)
    except SetupError:
        unread = Query("vector(0)")
        return Queries("ratio", unread) if "ratio" in fields else Queries("bad", unread, unread)


def parse_queries(fields: Fields) -> Queries:
    """Read the queries of an objective of `kind: query`.

    Raises:
        ObjectivesError: One is missing or too many, or cannot be used; the message names the line.
        SetupError: What reads PromQL is not installed.
    """
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


def _refuse_what_does_not_count(bad: Fields, where: Mapping[str, tuple[str, ...]]) -> None:
    for attribute in (each for each in bad if each in where):
        for item in bad[attribute].some():
            if item.read(exact) not in where[attribute]:
                counts = " or ".join(where[attribute])
                raise item.refused(f"{counts}, as where has it", "What else there is does not count.")


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
