"""A metric as data: its name, kind, unit, help, buckets and the attributes it may carry."""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, get_args

from tercet.errors import MetricError

#: Values of a metric's attributes, in the order of its declaration; None for one that is not there.
Values = tuple[str | int | None, ...]
Kind = Literal["counter", "up_down_counter", "gauge", "histogram", "summary"]
#: Which value of a gauge a scrape shows for all workers of a service: the one set last, the sum, the highest,
#: the lowest, or each, with the number of its worker.
Across = Literal["last", "sum", "max", "min", "each"]

#: Seconds; the founding document's buckets, from a cache hit to a request nobody waits for.
DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Seconds; work that nobody waits for takes longer.
OPERATION_BUCKETS = (*DURATION_BUCKETS, 30.0, 60.0, 300.0)
#: The specification's, for what is not measured in seconds.
DEFAULT_BUCKETS = (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000)
#: Series of one metric, unless it or the settings say otherwise.
MOST_SERIES = 2_000
#: An attribute's value is cut to so many characters: it names a series, and is kept as long as that.
LONGEST_VALUE = 200

# https://opentelemetry.io/docs/specs/otel/metrics/api/#instrument-name-syntax and the unit's rule below it.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_./-]{0,254}")
_UNIT = re.compile(r"[ -~]{0,63}")


@dataclass(frozen=True, slots=True)
class Metric:
    """Declare one metric.

    Attributes:
        name: The OpenTelemetry name, dotted.
        kind: Which instrument measures it.
        unit: A UCUM code, or an annotation in braces for things that are counted.
        help: What it means, in one sentence.
        attributes: The only attribute keys its series may carry.
        buckets: The upper bounds of a histogram, in `unit`; empty for other kinds.
        quantiles: Those of a summary, each from 0 to 1; empty for other kinds.
        window: Seconds that a summary's quantiles look back; 0 for other kinds.
        limit: How many series there may be; None for as many as the settings say.
        across: What a scrape shows of a gauge that several workers set; the other kinds are added up.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    quantiles: tuple[float, ...] = ()
    window: float = 0.0
    limit: int | None = None
    across: Across = "last"

    def named(self, values: Values) -> dict[str, str | int]:
        """Name the attribute values that are there.

        >>> Metric("queue", "gauge", "1", "", attributes=("name", "kind")).named(("mail", None))
        {'name': 'mail'}
        """
        pairs = zip(self.attributes, values, strict=True)
        return {key: value for key, value in pairs if value is not None}

    def bounded_at(self, bounds: Iterable[float]) -> "Metric":
        """Let buckets of a histogram end at these bounds, too.

        >>> Metric("wait", "histogram", "s", "", buckets=(0.1, 1)).bounded_at([0.3, 1.0]).buckets
        (0.1, 0.3, 1)
        """
        return replace(self, buckets=tuple(sorted({*self.buckets, *map(float, bounds)})))

    def check(self) -> None:
        """Hold the declaration to the rules.

        Raises:
            MetricError: It breaks one; the message says which, and how to mend it.
        """
        for is_kept, where, rule, got, mend in self._rules():
            if not is_kept:
                raise MetricError(f"{self.name}: {where} must be {rule}, got {got!r}. {mend}")

    def _rules(self) -> Iterator[tuple[bool, str, str, object, str]]:
        yield (
            isinstance(self.name, str) and _NAME.fullmatch(self.name) is not None,
            "name",
            "a letter, followed by at most 254 letters, digits and _ . - /",
            self.name,
            "Write orders.placed.",
        )
        is_text = isinstance(self.help, str) and bool(self.help.strip())
        yield is_text, "help", "a sentence", self.help, "Say what the metric means."
        is_unit = isinstance(self.unit, str) and _UNIT.fullmatch(self.unit) is not None
        yield is_unit, "unit", "at most 63 characters of ASCII", self.unit, "Write s, By or {order}."
        keys = self.attributes
        yield (
            isinstance(keys, tuple) and all(map(_is_key, keys)) and len(set(keys)) == len(keys),
            "attributes",
            "different keys",
            keys,
            'Write attributes=("status", "payment_method").',
        )
        bounds = self.buckets
        is_sorted = all(map(_is_number, bounds)) and all(low < high for low, high in pairwise(bounds))
        yield (
            is_sorted,
            "buckets",
            "finite upper bounds in ascending order",
            bounds,
            "Sort them, and leave out what is there twice; the last bucket is open anyway.",
        )
        yield (
            all(_is_number(quantile) and 0 <= quantile <= 1 for quantile in self.quantiles),
            "quantiles",
            "numbers from 0 to 1",
            self.quantiles,
            "Write 0.99 for what one in a hundred exceeds.",
        )
        is_window = self.kind != "summary" or (_is_number(self.window) and self.window > 0)
        yield is_window, "window", "seconds above 0", self.window, "Write 600 for ten minutes."
        is_rule = self.across in get_args(Across)
        yield is_rule, "across", f"one of {get_args(Across)}", self.across, "Write last."
        is_limit = self.limit is None or (isinstance(self.limit, int) and self.limit > 0)
        yield is_limit, "limit", "a whole number above 0", self.limit, "Write 500."


def overflow_message(name: str, series: int, distinct: Mapping[str, int]) -> str:
    """Say of a metric that it has no room for more series, and which attribute takes it.

    Args:
        name: Of the metric.
        series: How many it has.
        distinct: How many different values each attribute has.
    """
    key = max(distinct, key=lambda each: distinct[each], default="")
    return (
        f"Metric {name} has {series} series, its limit; others are counted under otel.metric.overflow. "
        f"Attribute {key!r} has {distinct.get(key, 0)} different values: measure something bounded instead, "
        "or raise the limit (TERCET_METRIC_SERIES_LIMIT)."
    )


def _is_key(key: object) -> bool:
    return isinstance(key, str) and bool(key)


def _is_number(number: object) -> bool:
    return isinstance(number, int | float) and math.isfinite(number)


# https://opentelemetry.io/docs/specs/semconv/http/http-metrics/ is the source of names, units and attributes.
HTTP_SERVER_DURATION = Metric(
    "http.server.request.duration",
    "histogram",
    "s",
    "Duration of HTTP server requests.",
    attributes=(
        "http.request.method",
        "url.scheme",
        "http.route",
        "http.response.status_code",
        "error.type",
    ),
    buckets=DURATION_BUCKETS,
)
HTTP_SERVER_ACTIVE = Metric(
    "http.server.active_requests",
    "up_down_counter",
    "{request}",
    "Number of HTTP server requests in progress.",
    attributes=("http.request.method", "url.scheme"),
)
HTTP_CLIENT_DURATION = Metric(
    "http.client.request.duration",
    "histogram",
    "s",
    "Duration of HTTP client requests.",
    attributes=(
        "http.request.method",
        "server.address",
        "server.port",
        "http.response.status_code",
        "error.type",
    ),
    buckets=DURATION_BUCKETS,
)
CORRELATION_REPLACED = Metric(
    "tercet.correlation.replaced",
    "counter",
    "{id}",
    "Incoming correlation ids that were replaced because they broke the rules.",
    attributes=("reason",),
)

# What `@observed` measures. https://opentelemetry.io/docs/specs/semconv/ has nothing for work in
# general; this follows what it has for each special kind: db.client.operation.duration, and so on.
OPERATION_DURATION = Metric(
    "tercet.operation.duration",
    "histogram",
    "s",
    "Duration of what `@observed` marks; the attributes given to it are attributes here, too.",
    attributes=("operation", "error.type"),
    buckets=OPERATION_BUCKETS,
)
OPERATION_ACTIVE = Metric(
    "tercet.operation.active",
    "up_down_counter",
    "{operation}",
    "Number of those operations in progress.",
    attributes=("operation",),
)
METRICS_MISUSED = Metric(
    "tercet.metrics.misused",
    "counter",
    "{measurement}",
    "Measurements that broke the rules of their metric: unknown_attribute is counted without it, others are "
    "dropped.",
    attributes=("metric", "reason"),
)
METRICS_OVERFLOWED = Metric(
    "tercet.metrics.overflowed",
    "counter",
    "{measurement}",
    "Measurements that went to the series `otel.metric.overflow`, for their metric has no room for more.",
    attributes=("metric",),
)

# What objectives promise, counted where it is measured; `outcome` is good or bad.
SLO_EVENTS = Metric(
    "slo.events",
    "counter",
    "{event}",
    "Events of the objectives that code declares, each counted as good or bad where it happened.",
    attributes=("slo", "outcome"),
    limit=10_000,  # As many as the code has, whatever the limit of others: no promise shares its counts.
)

# How the telemetry itself is doing; `signal` is traces, metrics or logs.
EXPORT_CREATED = Metric(
    "tercet.export.created",
    "counter",
    "{item}",
    "Spans, log records and metric points that were made for export.",
    attributes=("signal",),
)
EXPORT_ITEMS = Metric(
    "tercet.export.items",
    "counter",
    "{item}",
    "Spans, log records and metric points that were delivered, or dropped for the reason that outcome names.",
    attributes=("signal", "outcome"),
)
EXPORT_WAITING = Metric(
    "tercet.export.waiting",
    "up_down_counter",
    "{item}",
    "Spans and log records that are neither delivered, spooled nor dropped yet.",
    attributes=("signal",),
)
EXPORT_DURATION = Metric(
    "tercet.export.duration",
    "histogram",
    "s",
    "Duration of export requests; outcome is delivered, later, too_large or refused.",
    attributes=("signal", "outcome"),
    buckets=DURATION_BUCKETS,
)
EXPORT_SPOOL = Metric(
    "tercet.export.spool.size",
    "gauge",
    "By",
    "Bytes that wait on disk, of all processes that share the directory.",
    attributes=("signal",),
)
METRICS = (
    HTTP_SERVER_DURATION,
    HTTP_SERVER_ACTIVE,
    HTTP_CLIENT_DURATION,
    CORRELATION_REPLACED,
    OPERATION_DURATION,
    OPERATION_ACTIVE,
    METRICS_MISUSED,
    METRICS_OVERFLOWED,
    SLO_EVENTS,
    EXPORT_CREATED,
    EXPORT_ITEMS,
    EXPORT_WAITING,
    EXPORT_DURATION,
    EXPORT_SPOOL,
)
