"""A metric as data: its name, kind, unit, help, buckets and the attributes it may carry."""

from dataclasses import dataclass
from typing import Literal

#: Values of a metric's attributes, in the order of its declaration; None for one that is not there.
Values = tuple[str | int | None, ...]
Kind = Literal["counter", "up_down_counter", "gauge", "histogram"]
#: Which value of a gauge a scrape shows for all workers of a service: the one set last, the sum, the highest,
#: the lowest, or each, with the number of its worker.
Across = Literal["last", "sum", "max", "min", "each"]

#: Seconds; the founding document's buckets, from a cache hit to a request nobody waits for.
DURATION_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


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
        across: What a scrape shows of a gauge that several workers set; the other kinds are added up.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    across: Across = "last"

    def named(self, values: Values) -> dict[str, str | int]:
        """Name the attribute values that are there.

        >>> Metric("queue", "gauge", "1", "", attributes=("name", "kind")).named(("mail", None))
        {'name': 'mail'}
        """
        pairs = zip(self.attributes, values, strict=True)
        return {key: value for key, value in pairs if value is not None}


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
    EXPORT_CREATED,
    EXPORT_ITEMS,
    EXPORT_WAITING,
    EXPORT_DURATION,
    EXPORT_SPOOL,
)
