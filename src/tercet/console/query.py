"""Questions about stored rows, as pure functions: a trace as a tree, a service in numbers, logs of an id."""

import datetime
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, NumberDataPoint
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from tercet.console.answers import Attributes, LogLine, Node, Red, Span, Trace, Use
from tercet.console.rows import CORRELATION_ID, LogRow, PointRow, SpanRow
from tercet.declare.metric import HTTP_SERVER_DURATION
from tercet.declare.usage import PROCESS_MEMORY

#: Deeper spans are left out of a tree, so that nobody who reads it recurses without end.
MAX_TREE_DEPTH = 100


def trace(rows: Iterable[SpanRow]) -> Trace | None:
    """Return one trace, or None when there is no row.

    A span that arrived twice, as after a retried export, is there once.
    """
    parsed = [(row.service, SpanMessage.FromString(row.wire)) for row in rows]
    if not parsed:
        return None
    unique = {span.span_id: (service, span) for service, span in parsed}
    found = sorted(unique.values(), key=lambda pair: pair[1].start_time_unix_nano)
    origin = found[0][1].start_time_unix_nano
    end = max(span.end_time_unix_nano for _, span in found)
    spans = [_span(service, span, origin) for service, span in found]
    return Trace(
        trace_id=spans[0]["trace_id"],
        correlation_id=_correlation_id(spans),
        start=_timestamp(origin),
        duration_ms=_milliseconds(end - origin),
        spans=spans,
        roots=tree(spans),
    )


def summary(rows: Iterable[SpanRow]) -> dict[str, Any] | None:
    """Return one line about a trace, or None when there is no row."""
    whole = trace(rows)
    if whole is None:
        return None
    first = whole["spans"][0]
    return {
        "trace_id": whole["trace_id"],
        "correlation_id": whole["correlation_id"],
        "start": whole["start"],
        "service": first["service"],
        "name": first["name"],
        "duration_ms": whole["duration_ms"],
        "spans": len(whole["spans"]),
        "errors": sum(span["status"] == "error" for span in whole["spans"]),
    }


def tree(spans: Sequence[Span]) -> list[Node]:
    """Return the roots of a trace with their children, in order of start.

    A client span whose far side reported is replaced by that far side: the tree shows who did the work.
    Spans that claim each other as parents have no root, and are left out.
    """
    known = {span["span_id"] for span in spans}
    children: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        children[span["parent_span_id"]].append(span)
    roots = [span for span in spans if span["parent_span_id"] not in known]
    return [node for root in roots for node in _nodes(root, children, MAX_TREE_DEPTH)]


def red(rows: Iterable[PointRow]) -> list[Red]:
    """Return rate, errors and duration of each service, by name.

    All rates are over the same time, from the first start to the last measurement of any service: so the
    services that one request crosses show one rate.
    """
    by_service: dict[str, list[HistogramDataPoint]] = defaultdict(list)
    for row in rows:
        if row.metric == HTTP_SERVER_DURATION.name and row.kind == "histogram":
            by_service[row.service].append(HistogramDataPoint.FromString(row.wire))
    seconds = _seconds_measured([point for points in by_service.values() for point in points])
    return [_red(service, points, seconds) for service, points in sorted(by_service.items())]


def use(rows: Iterable[PointRow]) -> list[Use]:
    """Return what each service uses that has sent a metric, by name."""
    memory: dict[str, int | None] = {}
    for row in rows:
        memory.setdefault(row.service, None)
        if row.metric == PROCESS_MEMORY.name and row.kind == "sum":
            point = NumberDataPoint.FromString(row.wire)
            memory[row.service] = (memory[row.service] or 0) + int(point.as_int or point.as_double)
    return [Use(service=service, memory_bytes=used) for service, used in sorted(memory.items())]


def percentile(points: Sequence[HistogramDataPoint], share: float) -> float | None:
    """Return the value that `share` of the measurements stay under, or None when nothing was measured.

    Interpolated within its bucket, and never outside the least and greatest value that was measured.
    """
    measured = [point for point in points if point.count]
    buckets: Counter[tuple[float, float]] = Counter()
    for point in measured:
        buckets.update(_buckets(point))
    rank = share * buckets.total()
    for (lower, upper), count in sorted(buckets.items()):
        if count and rank <= count:
            least, greatest = min(map(_least, measured)), max(map(_greatest, measured))
            low, high = max(lower, least), min(upper, greatest)
            return low + (high - low) * rank / count
        rank -= count
    return None


def logs(rows: Iterable[LogRow], *, trace_id: bytes = b"", correlation_id: str = "") -> list[LogLine]:
    """Return the log lines that carry every id given, by time."""
    chosen = [
        (row, LogRecord.FromString(row.wire))
        for row in rows
        if (not trace_id or row.trace_id == trace_id)
        and (not correlation_id or row.correlation_id == correlation_id)
    ]
    return [_log_line(row, record) for row, record in sorted(chosen, key=lambda pair: _log_time(pair[1]))]


def _span(service: str, span: SpanMessage, origin: int) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        service=service,
        name=span.name,
        kind=_enum_name(SpanMessage.SpanKind, span.kind, "SPAN_KIND_"),
        start_ms=_milliseconds(span.start_time_unix_nano - origin),
        duration_ms=_milliseconds(span.end_time_unix_nano - span.start_time_unix_nano),
        status=_enum_name(Status.StatusCode, span.status.code, "STATUS_CODE_"),
        attributes=_attributes(span.attributes),
    )


def _correlation_id(spans: Iterable[Span]) -> str | None:
    ids = (span["attributes"].get(CORRELATION_ID) for span in spans)
    return next((found for found in ids if isinstance(found, str)), None)


def _nodes(span: Span, children: dict[str, list[Span]], depth: int) -> list[Node]:
    if depth == 0:
        return []
    below = [
        node for child in children.get(span["span_id"], ()) for node in _nodes(child, children, depth - 1)
    ]
    if span["kind"] == "client" and below:
        return below
    return [Node(service=span["service"], name=span["name"], span_id=span["span_id"], children=below)]


def _red(service: str, points: Sequence[HistogramDataPoint], seconds: float) -> Red:
    requests = sum(point.count for point in points)
    errors = sum(point.count for point in points if _is_error(point))
    return Red(
        service=service,
        requests=requests,
        errors=errors,
        rate=round(requests / seconds, 3) if seconds else None,
        error_ratio=errors / requests if requests else 0.0,
        p50_ms=_seconds_to_ms(percentile(points, 0.50)),
        p95_ms=_seconds_to_ms(percentile(points, 0.95)),
        p99_ms=_seconds_to_ms(percentile(points, 0.99)),
    )


def _is_error(point: HistogramDataPoint) -> bool:
    return any(pair.key == "error.type" for pair in point.attributes)


def _seconds_measured(points: Sequence[HistogramDataPoint]) -> float:
    start = min((point.start_time_unix_nano for point in points), default=0)
    end = max((point.time_unix_nano for point in points), default=0)
    return max(0, end - start) / 1e9


def _buckets(point: HistogramDataPoint) -> dict[tuple[float, float], int]:
    edges = [-math.inf, *point.explicit_bounds, math.inf]
    return dict(zip(pairwise(edges), point.bucket_counts, strict=False))


def _least(point: HistogramDataPoint) -> float:
    return point.min if point.HasField("min") else 0.0


def _greatest(point: HistogramDataPoint) -> float:
    if point.HasField("max"):
        return point.max
    return point.explicit_bounds[-1] if point.explicit_bounds else point.sum / point.count


def _log_line(row: LogRow, record: LogRecord) -> LogLine:
    fields = _attributes(record.attributes)
    fields.pop(CORRELATION_ID, None)
    return {
        "timestamp": _timestamp(_log_time(record)),
        "level": record.severity_text,
        "logger": row.logger,
        "message": _text(record.body),
        "service": row.service,
        "trace_id": record.trace_id.hex() or None,
        "span_id": record.span_id.hex() or None,
        "correlation_id": row.correlation_id or None,
    } | {name: value for name, value in fields.items() if name not in _LOG_KEYS}


_LOG_KEYS = frozenset({"timestamp", "level", "logger", "message", "service", "trace_id", "span_id"})


def _log_time(record: LogRecord) -> int:
    return record.time_unix_nano or record.observed_time_unix_nano


def _text(body: AnyValue) -> str:
    value = _value(body)
    return value if isinstance(value, str) else json.dumps(value)


def _attributes(pairs: Iterable[KeyValue]) -> Attributes:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return value.bytes_value.hex()
    if kind == "double_value" and not math.isfinite(value.double_value):
        return str(value.double_value)  # JSON has no word for it
    return getattr(value, kind) if kind else None


def _enum_name(enum: Any, number: int, prefix: str) -> str:
    """Name an enum's number, or give the number itself where a later version of OTLP added it."""
    return enum.Name(number).removeprefix(prefix).lower() if number in enum.values() else str(number)


def _timestamp(unix_nano: int) -> str:
    """RFC 3339 in UTC, to the microsecond."""
    seconds, nanos = divmod(unix_nano, 10**9)
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC).replace(microsecond=nanos // 1000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _milliseconds(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)


def _seconds_to_ms(seconds: float | None) -> float | None:
    return round(seconds * 1e3, 3) if seconds is not None and math.isfinite(seconds) else None
