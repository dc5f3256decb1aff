"""The console over HTTP: `handle`, a pure function of store and request, and the socket in front of it.

It listens on loopback, and a browser's foreign page can neither read it nor write to it: a `Host` that a
rebound name would send and any foreign `Origin` are refused, no CORS header is ever sent, and OTLP is taken
only in content types that need a preflight.
"""

import ipaddress
import json
import re
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from tercet.console import otlp, query
from tercet.console.answers import Trace
from tercet.console.otlp import MAX_BODY_BYTES, RefusedError
from tercet.console.rows import log_rows, point_rows, span_rows
from tercet.console.store import Store

MAX_CONNECTIONS = 64
READ_TIMEOUT_SECONDS = 30.0
MAX_LISTED_TRACES = 100


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request; header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response."""

    status: int
    body: bytes
    content_type: str = otlp.JSON


@dataclass(frozen=True, slots=True)
class Intake:
    """How one signal is taken in: its messages, where it goes, and how its reply counts what was rejected."""

    request: type[Message]
    reply: type[Message]
    record: Callable[[Store, Any], int]
    rejected: str


INTAKES = {
    "/v1/traces": Intake(
        trace_service_pb2.ExportTraceServiceRequest,
        trace_service_pb2.ExportTraceServiceResponse,
        lambda store, request: store.add_spans(span_rows(request)),
        "rejected_spans",
    ),
    "/v1/metrics": Intake(
        metrics_service_pb2.ExportMetricsServiceRequest,
        metrics_service_pb2.ExportMetricsServiceResponse,
        lambda store, request: store.add_points(point_rows(request)),
        "rejected_data_points",
    ),
    "/v1/logs": Intake(
        logs_service_pb2.ExportLogsServiceRequest,
        logs_service_pb2.ExportLogsServiceResponse,
        lambda store, request: store.add_logs(log_rows(request)),
        "rejected_log_records",
    ),
}

Parameters = Mapping[str, str]


def handle(store: Store, request: Request) -> Response:
    """Answer one request; whatever it holds, the answer is a response and never an exception."""
    try:
        _check_caller(request.headers)
        return _route(store, request)
    except RefusedError as refusal:
        return refused(refusal)


def refused(refusal: RefusedError) -> Response:
    """Answer with why a request is not served."""
    return _json({"message": str(refusal)}, refusal.status)


def _check_caller(headers: Mapping[str, str]) -> None:
    host = headers.get("host", "")
    if not _is_local_name(host):
        raise RefusedError(403, f"Host must be an IP address or localhost, got {host!r}.")
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        raise RefusedError(403, f"Origin must be this server, got {origin!r}.")


def _is_local_name(host: str) -> bool:
    """Tell whether a Host cannot have been rebound: DNS answers neither for an address nor for localhost."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or name.endswith(".localhost") or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _route(store: Store, request: Request) -> Response:
    path, parameters = _parse_target(request.target)
    if intake := INTAKES.get(path):
        _check_method(request, "POST")
        return _take_in(store, intake, request)
    if answer := _answer(path):
        _check_method(request, "GET", "HEAD")
        return _json(answer(store, parameters))
    raise RefusedError(404, f"path must be one that this server knows, got {path!r}.")


def _parse_target(target: str) -> tuple[str, Parameters]:
    try:
        parts = urlsplit(target)
        parameters = parse_qs(parts.query, max_num_fields=20)
    except ValueError as error:
        raise RefusedError(400, f"target must be a valid path, got {target!r}.") from error
    return parts.path, {name: values[-1] for name, values in parameters.items()}


def _check_method(request: Request, *allowed: str) -> None:
    if request.method not in allowed:
        raise RefusedError(405, f"method must be {' or '.join(allowed)}, got {request.method!r}.")


def _take_in(store: Store, intake: Intake, request: Request) -> Response:
    content_type = request.headers.get("content-type", "")
    encoding = request.headers.get("content-encoding", "")
    message = otlp.decode(intake.request, request.body, content_type, encoding)
    reply: Any = intake.reply()
    if rejected := intake.record(store, message):
        setattr(reply.partial_success, intake.rejected, rejected)
        reply.partial_success.error_message = "spans need a trace id of 16 bytes, metrics must be cumulative"
    return Response(200, otlp.encode(reply, content_type), otlp.media_type(content_type))


Answer = Callable[[Store, Parameters], object]


def _answer(path: str) -> Answer | None:
    if found := re.fullmatch(r"/api/traces/([0-9a-f]{32})", path):
        trace_id = bytes.fromhex(found[1])
        return lambda store, _: _trace(store, trace_id)
    return ANSWERS.get(path)


def _trace(store: Store, trace_id: bytes) -> Trace:
    trace = query.trace(store.trace(trace_id))
    if trace is None:
        raise RefusedError(404, "trace must be one that is kept: it is unknown, or was evicted.")
    return trace


def _traces(store: Store, _: Parameters) -> object:
    newest = reversed(store.traces()[-MAX_LISTED_TRACES:])
    return [query.summary(rows) for rows in newest]


def _logs(store: Store, parameters: Parameters) -> object:
    trace_id = parameters.get("trace_id", "")
    correlation_id = parameters.get("correlation_id", "")
    if not trace_id and not correlation_id:
        raise RefusedError(400, "logs must be asked for by trace_id or correlation_id, got neither.")
    try:
        return query.logs(store.logs(), trace_id=bytes.fromhex(trace_id), correlation_id=correlation_id)
    except ValueError:
        raise RefusedError(400, f"trace_id must be hexadecimal, got {trace_id!r}.") from None


ANSWERS: dict[str, Answer] = {
    "/api/traces": _traces,
    "/api/red": lambda store, _: query.red(store.points()),
    "/api/use": lambda store, _: query.use(store.points()),
    "/api/logs": _logs,
    "/api/stats": lambda store, _: store.stats(),
}


def _json(document: object, status: int = 200) -> Response:
    return Response(status, json.dumps(document).encode())


class Server(ThreadingHTTPServer):
    """Serve a store on a listening socket, a thread a connection, up to a number of connections."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, store: Store) -> None:
        super().__init__(listener.getsockname(), Connection, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.store = store
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.socket.getsockname()[:2]
        return f"http://{host}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a connection a thread, or close it where all slots are taken."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve a connection, then free its slot."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about clients that go away; anything else is told on stderr."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Connection(BaseHTTPRequestHandler):
    """Turn bytes on a socket into requests, and responses into bytes."""

    protocol_version = "HTTP/1.1"
    timeout = READ_TIMEOUT_SECONDS
    disable_nagle_algorithm = True
    server: Server

    def _serve(self) -> None:
        try:
            response = handle(self.server.store, self._request())
        except RefusedError as refusal:
            # The body was not read, so the next request could not be found.
            self.close_connection = True
            response = refused(refusal)
        self._send(response)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _serve  # noqa: N815 - http.server looks for these names

    def _request(self) -> Request:
        headers: dict[str, str] = {}
        for name in {name.lower() for name in self.headers}:
            headers[name] = ", ".join(self.headers.get_all(name, ()))
        return Request(self.command, self.path, headers, self._body(headers))

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if "transfer-encoding" in headers:
            raise RefusedError(411, "body must be sent with a Content-Length, got Transfer-Encoding.")
        length = headers.get("content-length", "0")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            raise RefusedError(400, f"Content-Length must be a number, got {length!r}.")
        if int(length) > MAX_BODY_BYTES:
            raise RefusedError(
                413, f"body must be at most {MAX_BODY_BYTES} bytes, got {length}. Send smaller batches."
            )
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise RefusedError(400, f"body must have its Content-Length of {length} bytes, got {len(body)}.")
        return body

    def _send(self, response: Response) -> None:
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("Content-Security-Policy", "default-src 'none'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)

    def version_string(self) -> str:
        """Name the server without its versions."""
        return "tercet-console"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Keep quiet: stdout belongs to the ready line, and a failing client is told in its response."""
