"""Export requests cut into rows: what the store keeps of each span, log record and metric point.

A row holds its message as bytes: a parsed sub-message would keep the memory of its whole request alive,
and bytes can be counted.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

CORRELATION_ID = "correlation_id"

#: What a row costs beside its text and bytes: the objects that hold them and its place in the store.
ROW_OVERHEAD_BYTES = 500

_MAX_NAME_CHARS = 256


@dataclass(frozen=True, slots=True)
class SpanRow:
    """One span."""

    service: str
    trace_id: bytes
    wire: bytes

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return ROW_OVERHEAD_BYTES + len(self.service) + len(self.wire)


@dataclass(frozen=True, slots=True)
class LogRow:
    """One log record."""

    service: str
    logger: str
    trace_id: bytes
    correlation_id: str
    wire: bytes

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        text = len(self.service) + len(self.logger) + len(self.correlation_id)
        return ROW_OVERHEAD_BYTES + text + len(self.wire)


@dataclass(frozen=True, slots=True)
class PointRow:
    """One metric point; `series` identifies resource, metric and attributes together."""

    service: str
    metric: str
    kind: str
    series: bytes
    time_unix_nano: int
    cumulative: bool
    wire: bytes

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return ROW_OVERHEAD_BYTES + len(self.service) + len(self.metric) + len(self.wire)


def span_rows(request: ExportTraceServiceRequest) -> Iterator[SpanRow]:
    """Cut a trace export into rows."""
    for group in request.resource_spans:
        service = service_name(group.resource)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield SpanRow(service, span.trace_id, span.SerializeToString())


def log_rows(request: ExportLogsServiceRequest) -> Iterator[LogRow]:
    """Cut a log export into rows."""
    for group in request.resource_logs:
        service = service_name(group.resource)
        for scope in group.scope_logs:
            logger = _clipped(scope.scope.name)
            for record in scope.log_records:
                correlation_id = _text(record.attributes, CORRELATION_ID)
                yield LogRow(service, logger, record.trace_id, correlation_id, record.SerializeToString())


def point_rows(request: ExportMetricsServiceRequest) -> Iterator[PointRow]:
    """Cut a metric export into rows."""
    for group in request.resource_metrics:
        service = service_name(group.resource)
        resource = group.resource.SerializeToString(deterministic=True)
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                yield from _points(service, resource, metric)


def service_name(resource: Resource) -> str:
    """Return who emits, or `unknown_service` where the resource does not say."""
    return _text(resource.attributes, "service.name") or "unknown_service"


def _points(service: str, resource: bytes, metric: Metric) -> Iterator[PointRow]:
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data = getattr(metric, kind)
    cumulative = _is_cumulative(data)
    for point in data.data_points:
        series = _series(resource, metric.name, point.attributes)
        name = _clipped(metric.name)
        yield PointRow(
            service, name, kind, series, point.time_unix_nano, cumulative, point.SerializeToString()
        )


def _is_cumulative(data: object) -> bool:
    """Tell whether the latest point says it all; gauges and summaries have no temporality, and do."""
    cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    return bool(getattr(data, "aggregation_temporality", cumulative) == cumulative)


def _series(resource: bytes, metric: str, attributes: Iterable[KeyValue]) -> bytes:
    """Digest what makes a series, so that its identity has a fixed size."""
    digest = hashlib.blake2b(digest_size=16)
    pairs = sorted(pair.SerializeToString(deterministic=True) for pair in attributes)
    for part in (resource, metric.encode(), *pairs):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()


def _text(attributes: Iterable[KeyValue], key: str) -> str:
    found = (pair.value.string_value for pair in attributes if pair.key == key)
    return _clipped(next(found, ""))


def _clipped(text: str) -> str:
    return text[:_MAX_NAME_CHARS]
