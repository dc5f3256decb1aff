"""A collector for tests: OTLP over HTTP, decoded to plain values, awaited by condition."""

import gzip
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, TypeVar

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SpanMessage
from service import PATIENCE

T = TypeVar("T")
Attributes = dict[str, Any]

_UNPACK: Mapping[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@dataclass(frozen=True, slots=True)
class Span:
    """One span as it arrived."""

    resource: Attributes
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: Attributes
    failed: bool
    events: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One log record as it arrived."""

    resource: Attributes
    logger: str
    severity: str
    body: str
    trace_id: str
    span_id: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Point:
    """The last state of one series, with all its exemplars."""

    resource: Attributes
    name: str
    attributes: Attributes
    count: int
    value: float
    bounds: tuple[float, ...]
    exemplar_traces: tuple[str, ...]


@dataclass(slots=True)
class Received:
    """Everything that has arrived; of metrics the last state of each series of each process."""

    spans: list[Span] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    series: dict[tuple[Any, ...], Point] = field(default_factory=dict)

    def server_spans(self) -> list[Span]:
        """List the spans of incoming requests, in the order of their arrival."""
        return [span for span in self.spans if span.kind == "SERVER"]

    def points(self, name: str) -> list[Point]:
        """List the last state of each series of one metric."""
        return [point for point in self.series.values() if point.name == name]

    def instances(self) -> dict[str, set[str]]:
        """Name the processes that have sent each signal."""
        return {
            "traces": _instances(self.spans),
            "metrics": _instances(self.series.values()),
            "logs": _instances(self.records),
        }

    def bodies(self, logger: str) -> list[str]:
        """List what one logger said."""
        return [record.body for record in self.records if record.logger == logger]


def _instances(emitted: Iterable[Span | Record | Point]) -> set[str]:
    return {str(each.resource["service.instance.id"]) for each in emitted}


class Listener(ThreadingHTTPServer):
    """A server that many processes may come to at once, and hang up on."""

    daemon_threads = True
    request_queue_size = 128  # a full queue costs whoever comes then a second

    def handle_error(self, _request: Any, _client_address: Any) -> None:
        """Say nothing: a process that ends cuts its connection."""


class Receiver:
    """Listen for OTLP on a free loopback port while the block is open."""

    protocol = "http/protobuf"

    def __init__(self) -> None:
        self.received = Received()
        self._changed = threading.Condition()
        self._server = Listener(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def endpoint(self) -> str:
        """Say where to send."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def wait_for(self, find: Callable[[Received], T], seconds: float = PATIENCE) -> T:
        """Wait until `find` finds something in what has arrived, and return that.

        Raises:
            AssertionError: Nothing was found in time; the message says what has arrived instead.
        """
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (found := find(self.received)):
                if not self._changed.wait(deadline - time.monotonic()):
                    raise AssertionError(f"not received in {seconds:g} s; here is what was: {self.received}")
            return found

    def take(self, path: str, body: bytes) -> None:
        """Keep one export."""
        with self._changed:
            _KEEP[path](self.received, body)
            self._changed.notify_all()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(receiver: Receiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            unpack = _UNPACK.get(self.headers.get("Content-Encoding", ""), bytes)
            receiver.take(self.path, unpack(body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    return Handler


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)


def _attributes(pairs: Iterable[Any]) -> Attributes:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _keep_spans(received: Received, body: bytes) -> None:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            received.spans += [_span(resource, span) for span in scope.spans]


def _span(resource: Attributes, span: Any) -> Span:
    return Span(
        resource=resource,
        name=span.name,
        kind=SpanMessage.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_attributes(span.attributes),
        failed=span.status.code == span.status.STATUS_CODE_ERROR,
        events=tuple(event.name for event in span.events),
    )


def _keep_records(received: Received, body: bytes) -> None:
    for group in ExportLogsServiceRequest.FromString(body).resource_logs:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_logs:
            received.records += [_record(resource, scope.scope.name, record) for record in scope.log_records]


def _record(resource: Attributes, logger: str, record: Any) -> Record:
    return Record(
        resource=resource,
        logger=logger,
        severity=record.severity_text,
        body=str(_plain(record.body)),
        trace_id=record.trace_id.hex(),
        span_id=record.span_id.hex(),
        attributes=_attributes(record.attributes),
    )


def _keep_points(received: Received, body: bytes) -> None:
    for group in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_metrics:
            for metric in scope.metrics:
                for point in _points(resource, metric):
                    _keep_point(received, point)


def _keep_point(received: Received, point: Point) -> None:
    """Replace the series' last state; each export brings only the exemplars since the one before."""
    identity = _identity(point)
    earlier = received.series.get(identity)
    known = earlier.exemplar_traces if earlier is not None else ()
    received.series[identity] = replace(point, exemplar_traces=known + point.exemplar_traces)


def _identity(point: Point) -> tuple[Any, ...]:
    labels = tuple(sorted((key, str(value)) for key, value in point.attributes.items()))
    return point.resource.get("service.instance.id"), point.name, labels


def _points(resource: Attributes, metric: Any) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    for point in getattr(metric, kind).data_points:
        is_many = kind in ("histogram", "summary")
        yield Point(
            resource=resource,
            name=metric.name,
            attributes=_attributes(point.attributes),
            count=point.count if is_many else 1,
            value=point.sum if is_many else getattr(point, point.WhichOneof("value") or "as_int"),
            bounds=tuple(point.explicit_bounds) if kind == "histogram" else (),
            exemplar_traces=tuple(exemplar.trace_id.hex() for exemplar in _exemplars(kind, point)),
        )


def _exemplars(kind: str, point: Any) -> Iterable[Any]:
    return () if kind == "summary" else point.exemplars


_KEEP: Mapping[str, Callable[[Received, bytes], None]] = {
    "/v1/traces": _keep_spans,
    "/v1/metrics": _keep_points,
    "/v1/logs": _keep_records,
}
