"""What telemetry itself is watched by: silence everywhere, lost items, and alerting that died."""

from collections.abc import Iterable, Iterator

from tercet.declare.burn_rate import MINUTE, duration
from tercet.declare.metric import EXPORT_ITEMS, EXPORT_WAITING
from tercet.declare.names import label_name
from tercet.declare.objective import Advice, Catalog, Service
from tercet.generate import names, presence, rules
from tercet.generate.alerts import IN_ENVIRONMENT, JOB, Alert
from tercet.generate.promql import Match, equal, select, summed

_SIGNAL, _OUTCOME = label_name("signal"), label_name("outcome")


def telemetry_alerts(catalog: Catalog) -> Iterator[Alert]:
    """Watch the way that telemetry takes."""
    if reporting := presence.reporting_services(catalog):
        yield _all_silent(reporting, catalog)
    yield _dropped(catalog)
    yield _overflow(catalog)
    yield _waiting(catalog)
    yield _watchdog(catalog)


def _all_silent(services: Iterable[Service], catalog: Catalog) -> Alert:
    return Alert(
        name=names.ALL_SILENT,
        expression=presence.silence_of_all(services, catalog.environment),
        lasting=2 * MINUTE,  # what has just started may not have exported yet
        # Where silence everywhere becomes silence in one environment, this is another series, which must last
        # anew: until it fires, that one goes on, or each service that is still silent would page.
        staying=3 * MINUTE,
        severity="SEV-2",
        service=names.TELEMETRY,
        team=catalog.team,
        slo=names.TELEMETRY,
        summary=f"Nothing has come from any service{IN_ENVIRONMENT} for {duration(presence.SILENT_AFTER)}",
        meaning=(
            "Prometheus has no sample of any service, or of none in an environment from which some came "
            "within a day. Alerts on single services there are held back meanwhile."
        ),
        advice=Advice(
            "Nobody would see an outage: all alerts on services are blind.",
            (
                "The collector is down, or cannot reach Prometheus.",
                "Prometheus refuses what it is sent: its disk is full, or its limits are reached.",
                "All services are down, or the environment was taken down: then silence this for a day.",
            ),
            (
                "Ask some services whether they answer. If none does, it is an outage: page everybody.",
                "Look whether the collector runs, and at the end of its log.",
                "Look at the log of Prometheus, and at the disk that it writes to.",
            ),
        ),
        queries=(
            (
                "Does anything report?",
                f"count by ({names.JOB}, {names.ENVIRONMENT}) ({names.TARGET_INFO})",
            ),
        ),
    )


def _dropped(catalog: Catalog) -> Alert:
    lost = select(
        names.series(EXPORT_ITEMS),
        Match(_OUTCOME, "!=", "delivered"),
        *rules.of_environment(catalog.environment),
    )
    by = (names.JOB, names.ENVIRONMENT, _SIGNAL, _OUTCOME)
    return Alert(
        name="TelemetryDropped",
        # A series that is new has lost what it begins with, of which an increase knows nothing. One that was
        # away for some minutes, as after a scrape that failed, is not new.
        expression=(
            f"{summed(f'increase({lost}[10m])', *by)} > 0\n"
            f"or {summed(f'{lost} unless last_over_time({lost}[1h] offset 10m)', *by)} > 0"
        ),
        severity="SEV-3",
        service=JOB,
        team=catalog.team,
        slo=names.TELEMETRY,
        summary=(
            f"{JOB}{IN_ENVIRONMENT}: about {{{{ $value | humanize }}}} items of {{{{ $labels.{_SIGNAL} }}}} "
            f"dropped within 10m ({{{{ $labels.{_OUTCOME} }}}})"
        ),
        meaning=(
            f"{EXPORT_ITEMS.name} counts what was not delivered, by signal and by the reason, its outcome. "
            "docs/delivery.md of tercet says what each reason means."
        ),
        advice=Advice(
            "Traces, logs or metrics of a service are incomplete; users notice nothing.",
            (
                "queue_full or too_many_bytes: the collector is away or slow, or the service emits more.",
                "refused or rejected: the collector does not accept it; a token or a limit has changed.",
                "spool_full or spool_age: the collector was away for longer than the disk is meant for.",
            ),
            (
                "Look at the outcome: is it the collector that refuses, or the service that overflows?",
                "Look at the collector's log and its memory limit.",
                "If the service emits too much, look for what is new in its logs.",
            ),
        ),
        queries=(("What is lost, and why?", summed(f"increase({lost}[1h])", *by)),),
    )


def _overflow(catalog: Catalog) -> Alert:
    overflowing = select("", equal(names.OVERFLOW, "true"), *rules.of_environment(catalog.environment))
    return Alert(
        name="TelemetryOverflow",
        expression=f"count by ({names.JOB}, {names.ENVIRONMENT}) ({overflowing}) > 0",
        lasting=10 * MINUTE,
        severity="SEV-4",
        service=JOB,
        team=catalog.team,
        slo=names.TELEMETRY,
        summary=f"{JOB}{IN_ENVIRONMENT}: a metric has more series than its limit",
        meaning=(
            "Beyond the limit, measurements go to one series that says so. Totals stay right; what they were "
            "told apart by is lost."
        ),
        advice=Advice(
            "Totals are right, but objectives that look at single routes or other attributes see too little.",
            ("An attribute takes ever new values: an id, a path, a header.",),
            (
                "Find the metric with the query below.",
                "Look in the service's log for the warning that names the attribute.",
                "Take the attribute out of the metric's declaration, or give it few values.",
            ),
        ),
        queries=(("Which metric is it?", f"count by (__name__, {names.JOB}) ({overflowing})"),),
    )


def _waiting(catalog: Catalog) -> Alert:
    waiting = select(names.series(EXPORT_WAITING), *rules.of_environment(catalog.environment))
    by = f"{names.JOB}, {names.ENVIRONMENT}, {_SIGNAL}"
    return Alert(
        name="TelemetryWaiting",
        expression=f"max by ({by}) ({waiting}) > {catalog.waiting_limit}",
        lasting=5 * MINUTE,
        severity="SEV-3",
        service=JOB,
        team=catalog.team,
        slo=names.TELEMETRY,
        summary=(
            f"{JOB}{IN_ENVIRONMENT}: {{{{ $value | humanize }}}} items of {{{{ $labels.{_SIGNAL} }}}} "
            f"wait (threshold: {catalog.waiting_limit})"
        ),
        meaning=(
            f"{EXPORT_WAITING.name} of one process has been above {catalog.waiting_limit}, half of what may "
            "wait before the oldest are dropped."
        ),
        advice=Advice(
            "Traces and logs come late, and will be dropped if it goes on.",
            ("The collector is slow or away.", "The service emits more than it can deliver."),
            (
                "Look at the collector: does it run, and does its own queue grow?",
                "Look at how long exports take, with the query below.",
                "Raise span_queue_size and log_queue_size if it is only a peak.",
            ),
        ),
        queries=(("Which process is it?", f"topk(5, {waiting})"),),
    )


def _watchdog(catalog: Catalog) -> Alert:
    return Alert(
        name=names.WATCHDOG,
        expression="vector(1)",
        severity="SEV-4",
        service=names.TELEMETRY,
        team=catalog.team,
        slo=names.TELEMETRY,
        summary="Alerting works; this always fires",
        meaning=(
            "It always fires, and is sent once a minute to somebody outside, the dead man's switch. When it "
            "stops coming, Prometheus or Alertmanager is down, and the switch raises the alarm."
        ),
        advice=Advice(
            "When the switch raises the alarm: nobody is told of any outage.",
            (
                "Prometheus or Alertmanager is down, or its disk is full.",
                "Prometheus cannot reach Alertmanager.",
                "Alertmanager cannot reach the outside.",
            ),
            (
                "Look whether Prometheus and Alertmanager run, and at the end of their logs.",
                "Open Prometheus' page of alerts: is Watchdog firing there? Then look at Alertmanager.",
                "Until it works again, watch the dashboards.",
            ),
        ),
    )
