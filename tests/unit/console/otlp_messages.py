"""OTLP messages for the console's tests, with only what a test wants to say."""

from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, HistogramDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span

TRACE = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
MILLISECOND = 10**6
START = 1_700_000_000 * 10**9
CUMULATIVE = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
DELTA = AggregationTemporality.AGGREGATION_TEMPORALITY_DELTA


def attributes(**pairs: Any) -> list[KeyValue]:
    """Pairs as OTLP has them; `__` in a name stands for a dot."""
    return [KeyValue(key=key.replace("__", "."), value=value(given)) for key, given in pairs.items()]


def value(given: Any) -> AnyValue:
    """One value as OTLP has it."""
    kinds = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
    return AnyValue(**{kinds[type(given)]: given})


def span(
    number: int, parent: int = 0, *, kind: str = "SERVER", start: int = 0, lasts: int = 10, **rest: Any
) -> Span:
    """A span with a small number for an id, `start` and `lasts` in milliseconds."""
    return Span(
        trace_id=rest.pop("trace_id", TRACE),
        span_id=number.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        name=rest.pop("name", f"span {number}"),
        kind=Span.SpanKind.Value(f"SPAN_KIND_{kind}"),
        start_time_unix_nano=START + start * MILLISECOND,
        end_time_unix_nano=START + (start + lasts) * MILLISECOND,
        attributes=attributes(**rest),
    )


def traces(**by_service: list[Span]) -> ExportTraceServiceRequest:
    """An export of spans by service; `_` in a service's name stands for a hyphen."""
    request = ExportTraceServiceRequest()
    for service, spans in by_service.items():
        group = request.resource_spans.add()
        group.resource.attributes.extend(attributes(service__name=service.replace("_", "-")))
        group.scope_spans.add().spans.extend(spans)
    return request


def logs(service: str, /, *messages: str, **rest: Any) -> ExportLogsServiceRequest:
    """An export of log records of one service, a millisecond apart."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.extend(attributes(service__name=service))
    scope = group.scope_logs.add()
    scope.scope.name = rest.pop("logger", "orders")
    trace_id = rest.pop("trace_id", TRACE)
    for index, message in enumerate(messages):
        record = scope.log_records.add(trace_id=trace_id, severity_text="INFO", body=value(message))
        record.time_unix_nano = START + index * MILLISECOND
        record.attributes.extend(attributes(**rest))
    return request


def durations(
    service: str, *counts: int, seconds: int = 10, temporality: int = CUMULATIVE, **rest: Any
) -> Any:
    """An export of `http.server.request.duration` with buckets up to 0.1, 0.2, 0.4 and infinity."""
    request = ExportMetricsServiceRequest()
    group = request.resource_metrics.add()
    group.resource.attributes.extend(
        attributes(service__name=service, service__instance__id=rest.pop("instance", "1"))
    )
    metric = group.scope_metrics.add().metrics.add(
        name=rest.pop("metric", "http.server.request.duration"), unit="s"
    )
    metric.histogram.aggregation_temporality = temporality
    metric.histogram.data_points.append(point(*counts, seconds=seconds, **rest))
    return request


def point(
    *counts: int, seconds: int = 10, least: float | None = None, greatest: float | None = None, **rest: Any
) -> HistogramDataPoint:
    """A histogram point with buckets up to 0.1, 0.2, 0.4 and infinity, `seconds` after its start."""
    return HistogramDataPoint(
        start_time_unix_nano=START,
        time_unix_nano=START + seconds * 10**9,
        count=sum(counts),
        bucket_counts=counts,
        explicit_bounds=[0.1, 0.2, 0.4],
        min=least,
        max=greatest,
        attributes=attributes(**rest),
    )
