"""Every name that generated rules, dashboards and runbooks share, in one place."""

import re

from tercet.declare import objective as declared
from tercet.declare.burn_rate import Window, duration
from tercet.declare.metric import Metric
from tercet.declare.names import label_name, metric_name
from tercet.declare.objective import IndicatorKind, Objective

# Recorded for each objective, with the labels SERVICE and SLO, and ENVIRONMENT where telemetry has it.
EVENTS = "slo:events:rate5m"
BAD_EVENTS = "slo:bad_events:rate5m"
COUNTED_EVENTS = "slo:events:increase2m"
COUNTED_BAD_EVENTS = "slo:bad_events:increase2m"
PERIOD_RATIO = "slo:bad_ratio:period"
TARGET = "slo:objective:ratio"
REMAINING = "slo:budget_remaining:ratio"
REMAINING_MINUTES = "slo:budget_remaining:minutes"
MONTHLY_EVENTS = "slo:events:by_month"
MONTHLY_BAD_EVENTS = "slo:bad_events:by_month"

# Recorded for each service.
REPORTING_INSTANCES = "slo:reporting:instances"
REPORTING_ENVIRONMENTS = "slo:reporting:environments"
RETURNED_INSTANCES = "slo:returned:instances"

SERVICE = "service"
SLO = "slo"
ENVIRONMENT = label_name("deployment.environment.name")
#: Given by Prometheus to what comes over OTLP, and by `job_name` to what it scrapes.
JOB = "job"

TARGET_INFO = "target_info"
OVERFLOW = label_name("otel.metric.overflow")
WATCHDOG = "Watchdog"
ALL_SILENT = "AllServicesSilent"
#: What no objective may be called, for alerts have it as their `slo`.
TELEMETRY, PRESENCE = declared.TELEMETRY, declared.PRESENCE
_LINES: dict[IndicatorKind, str] = {
    "availability": "bad_at_most",
    "latency": "at_most",
    "throughput": "at_least",
    "level": "at_most",
}

INSTANCE = "instance"
VERSION = label_name("service.version")
#: Of the dashboard that links lead to; its variables are `service` and `environment`.
DASHBOARD = "tercet-service"
SLO_DASHBOARD = "tercet-slo"
TELEMETRY_DASHBOARD = "tercet-telemetry"


def bad_ratio(seconds: int) -> str:
    """Name the share of bad events in a window.

    >>> bad_ratio(3600)
    'slo:bad_ratio:rate1h'
    """
    return f"slo:bad_ratio:rate{duration(seconds)}"


def bad_count(seconds: int) -> str:
    """Name the number of bad events in a window.

    >>> bad_count(3600)
    'slo:bad_events:increase1h'
    """
    return f"slo:bad_events:increase{duration(seconds)}"


def line(series: str, kind: IndicatorKind) -> str:
    """Name where objectives draw their line through a panel on a series.

    >>> line("queue_size", "level")
    'slo:queue_size:at_most'
    """
    return f"slo:{series}:{_LINES[kind]}"


def series(metric: Metric) -> str:
    """Name a declared metric's series, without a histogram's suffix."""
    return metric_name(metric.name, metric.unit, metric.kind)


def burn_alert(objective: Objective, window: Window) -> str:
    """Name the alert on the budget that goes within a window: `OrderServiceAvailabilityBurn1h`."""
    return f"{_of(objective)}Burn{duration(window.long)}"


def symptom_alert(objective: Objective, number: int) -> str:
    """Name the alert on a symptom, the first without a number: `OrderServiceLatencyHigh`."""
    word = "High" if objective.indicator.kind == "latency" else "Failing"
    return f"{_of(objective)}{word}{number + 1 if number else ''}"


def blind_alert(objective: Objective) -> str:
    """Name the alert on an objective that cannot be measured: `OrderServiceLatencyBlind`."""
    return f"{_of(objective)}Blind"


def silence_alert(service: str) -> str:
    """Name the alert on a service from which nothing comes.

    >>> silence_alert("order-service")
    'OrderServiceSilent'
    """
    return f"{words_joined(service)}Silent"


def of_any_service(alert: str, service: str) -> str:
    """Match the alerts of all services that are named as one is named in its own.

    >>> of_any_service("OrderServiceAvailabilityBurn1h", "order-service")
    '.+AvailabilityBurn1h'
    """
    return f".+{alert.removeprefix(words_joined(service))}"


def words_joined(name: str) -> str:
    """Join the words of a name as an alert is written.

    >>> words_joined("order-service"), words_joined("api.v2")
    ('OrderService', 'ApiV2')
    """
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", name))


def _of(objective: Objective) -> str:
    return words_joined(objective.service.name) + words_joined(objective.name)
