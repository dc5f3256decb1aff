"""A scrape endpoint: a reader that collects when it is scraped, and two doors to it, an ASGI app and a port.

MeterProvider ◄─collects─ PrometheusReader ◄─renders─ respond() ◄─┬─ PrometheusApp      in the application
                                                                  └─ PrometheusServer   on a port of its own
"""

import asyncio
import errno
import gzip
import ipaddress
import json
import logging
import math
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6, SHUT_RDWR, socket
from socketserver import TCPServer
from typing import Any, Protocol, TypeVar

from opentelemetry.sdk.metrics import Exemplar as SdkExemplar
from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogram,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricReader,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation

from tercet.declare.metric import METRICS, Across, Kind, Values
from tercet.declare.metric import Metric as Declared
from tercet.declare.names import label_name, metric_name, unit_name
from tercet.errors import SetupError
from tercet.export import native
from tercet.export.exposition import (
    Exposition,
    Family,
    Heading,
    Measured,
    Series,
    exemplar_by_bucket,
    label_text,
)
from tercet.export.sheets import Sheet

Headers = list[tuple[str, str]]
Answer = tuple[int, Headers, bytes]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Add = Callable[..., bool]
T = TypeVar("T")

CLASSIC_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

SCRAPES_AT_ONCE = 8
CONNECTIONS_AT_ONCE = 32
READ_TIMEOUT_SECONDS = 5
CONNECTION_LIMIT_SECONDS = 30
_POLL_SECONDS = 0.1  # how long close() may take

_PLAIN_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_NEVER_STORED = ("Cache-Control", "no-store")
_GZIP_LEVEL = 1  # repetitive text: higher levels cost three times the time for a tenth of the bytes
_TRACE = 2  # where it stands in what is remembered of a measurement
_TARGET = Heading("target", "info", "What is scraped: its resource.")
_OVERFLOW = {"otel.metric.overflow": True}
# Attributes and metrics whose names begin so speak of a single process.
_OF_A_PROCESS = ("process.", "cpython.")
_HOST_HEADER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@/]+)(?::\d*)?")

_logger = logging.getLogger("tercet.prometheus")


class Scrapable(Protocol):
    """Anything that has a text for Prometheus."""

    def render(self, openmetrics: bool) -> bytes:
        """Write the current metrics, in OpenMetrics or in the classic format."""
        ...


class Ledger(Protocol):
    """The series of one declared metric."""

    metric: Declared

    def read(self) -> Iterator[tuple[Values | None, tuple[float, ...], tuple[Measured, ...]]]:
        """Walk through its series: attribute values, numbers since the process started, exemplars."""
        ...


class Others(Protocol):
    """The other workers of the same service."""

    def publish(self, told: Sheet) -> None:
        """Let them know what only this process can collect, and the exemplars of all that it measures."""
        ...

    def add_others(self, exposition: Exposition, pause: Callable[[], object]) -> None:
        """Add what they have measured, those that have ended included; gauges by their rules."""
        ...

    def close(self) -> None:
        """Publish no more."""
        ...


class PrometheusReader(MetricReader):
    """Collect metrics when Prometheus asks for them.

    Every instrument is cumulative and every histogram has explicit buckets, whatever the environment asks of
    other readers. A view may still choose exponential ones: those are left out of the scrape and named once,
    for their bounds change as they measure, which the text formats cannot tell.

    Attributes:
        ledgers: What gives the ledgers, which are read where they are: as the SDK's data points they would
            cost a scrape twice as much.
        workers: What the other workers of the same service measure; None where there are none.
    """

    def __init__(self) -> None:
        super().__init__(preferred_aggregation={HistogramInstrument: ExplicitBucketHistogramAggregation()})
        self.ledgers: Callable[[], Iterable[Ledger]] = tuple
        self.workers: Others | None = None
        self.describe = Describer()
        self._is_shut_down = False
        self._scraping = threading.Lock()
        self._collected: MetricsData | None = None
        self._exemplars: dict[tuple[str, str], tuple[Measured, ...]] = {}
        self._left_out: set[tuple[str, str]] = set()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._start_anew)

    def _start_anew(self) -> None:
        self._scraping = threading.Lock()

    def render(self, openmetrics: bool) -> bytes:
        """Collect, and write the result as text; one scrape at a time, each of them whole.

        Args:
            openmetrics: OpenMetrics 1.0, with exemplars, instead of the classic format 0.0.4.

        Returns:
            UTF-8; without any family before the first measurement and after shutdown.

        Raises:
            Exception: What the SDK raises when callbacks of instruments take more than ten seconds.
        """
        pause = Breath()
        with self._scraping:
            exposition = Exposition() if self._is_shut_down else self._expose(pause)
        return exposition.render(openmetrics=openmetrics, pause=pause).encode()

    def publish(self) -> None:
        """Let the other workers know what only this process can collect."""
        with self._scraping:
            if not self._is_shut_down:
                self._publish(Exposition(), Breath())

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Do nothing: whoever wants the metrics scrapes."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Stop collecting, once the other workers know the last of it; later scrapes are empty."""
        if not self._is_shut_down and self.workers is not None:
            self.publish()
            self.workers.close()
        self._is_shut_down = True

    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        self._collected = metrics_data

    def _expose(self, pause: Callable[[], object]) -> Exposition:
        exposition = Exposition()
        if self.workers is None:
            self._add_collected(exposition, pause)
            self._add_ledgers(exposition, pause)
        else:
            self._publish(exposition, pause)
            self.workers.add_others(exposition, pause)
        return exposition

    def _publish(self, exposition: Exposition, pause: Callable[[], object]) -> None:
        """Say first what is shown then, so that no later scrape of another worker shows less of it."""
        if self.workers is not None:
            self._add_collected(exposition, pause)
            told = Sheet()
            told.add(exposition.families, pause)
            self._add_ledgers(exposition, pause)
            told.add_exemplars(exposition.families)
            self.workers.publish(told)

    def _add_collected(self, exposition: Exposition, pause: Callable[[], object]) -> None:
        """Collect the SDK's own instruments."""
        for resource_metrics in self._collect_anew():
            self._add_target(exposition, resource_metrics.resource.attributes)
            for scope_metrics in resource_metrics.scope_metrics:
                for metric in scope_metrics.metrics:
                    self._attempt(exposition, scope_metrics.scope.name, metric.name, self._add, metric, pause)
        self._remember_exemplars(exposition.families)

    def _collect_anew(self) -> Sequence[ResourceMetrics]:
        self._collected = None
        self.collect()
        collected: MetricsData | None = self._collected
        return collected.resource_metrics if collected is not None else ()

    def _add_target(self, exposition: Exposition, attributes: Mapping[str, Any]) -> None:
        family = exposition.open(_TARGET)
        if family is not None:
            shown = {key: attributes[key] for key in attributes if self.workers is None or not _of_one(key)}
            family.series[label_text(_labels(shown))] = ((1.0,), (), ())

    def _add_ledgers(self, exposition: Exposition, pause: Callable[[], object]) -> None:
        for ledger in self.ledgers():
            self._attempt(exposition, "tercet", ledger.metric.name, _add_ledger, self.describe, ledger, pause)

    def _attempt(self, exposition: Exposition, scope_name: str, name: str, add: Add, *arguments: Any) -> None:
        try:
            added = add(exposition, *arguments)
            reason = "another instrument of a different type has its name"
        except Exception as error:  # one instrument must not cost the scrape
            added, reason = False, str(error)
        if not added and (scope_name, name) not in self._left_out:
            self._left_out.add((scope_name, name))
            _logger.warning("Instrument %r is left out of the Prometheus scrape: %s.", name, reason)

    def _add(self, exposition: Exposition, metric: Metric, pause: Callable[[], object]) -> bool:
        if isinstance(metric.data, ExponentialHistogram):
            raise ValueError("the text formats have no exponential buckets")
        heading = self.describe.heading(
            metric.name, metric.unit or "", metric.description or "", _kind(metric.data), _across(metric.name)
        )
        family = exposition.open(heading)
        if family is None:
            return False
        for point in metric.data.data_points:
            family.add(self.describe.labels(heading, point.attributes or {}), _series(point))
            pause()
        return True

    def _remember_exemplars(self, families: Iterable[Family]) -> None:
        """Keep the latest exemplar of each bucket: the SDK hands each out once, to whoever scrapes first."""
        remembered = {}
        for family in families:
            for labels, series in family.series.items():
                key = (family.heading.name, labels)
                known = self._exemplars.get(key, ())
                numbers, bounds, exemplars = series
                if known or exemplars:
                    latest = exemplar_by_bucket((numbers, bounds, known + exemplars))
                    remembered[key] = exemplars = tuple(latest.values())
                    family.series[labels] = numbers, bounds, exemplars
        self._exemplars = remembered


class Breath:
    """Let other threads have their turn now and then: Python alone lets them wait for five milliseconds."""

    _EVERY, _SECONDS = 0.002, 0.00005

    def __init__(self) -> None:
        self._next = time.perf_counter() + self._EVERY

    def __call__(self) -> None:
        """Pause, if it is time to."""
        if time.perf_counter() > self._next:
            # Not for nothing: a thread that only lets go has the interpreter back before another one wakes.
            # And not gevent's, whose other greenlets would find locks taken by their own thread.
            native.sleep(self._SECONDS)
            self._next = time.perf_counter() + self._EVERY


class Describer:
    """Translate metrics and attributes, and remember the texts: each scrape asks for the same ones."""

    _MOST = 50_000

    def __init__(self) -> None:
        self._headings: dict[tuple[str, ...], Heading] = {}
        self._texts: dict[object, str] = {}

    def heading(self, name: str, unit: str, help_text: str, kind: Kind, across: Across) -> Heading:
        """Say what the series of a metric have in common.

        Raises:
            ValueError: Prometheus has no name for it.
        """
        key = (name, unit, help_text, kind, across)
        known = self._headings.get(key)
        if known is None:
            known = self._remember(self._headings, key, _heading(*key))
        return known

    def declared(self, metric: Declared) -> Heading:
        """Do so for a declared metric.

        Raises:
            ValueError: See above.
        """
        return self.heading(metric.name, metric.unit, metric.help, metric.kind, metric.across)

    def labels(self, heading: Heading, attributes: Mapping[str, Any]) -> str:
        """Write attributes as labels."""
        reserved = _reserved(heading)
        key = (
            reserved,
            *[(k, v) if v.__class__ is str else (k, None, repr(v)) for k, v in attributes.items()],
        )
        known = self._texts.get(key)
        if known is None:
            known = self._remember(self._texts, key, label_text(_labels(attributes, reserved)))
        return known

    def values(self, heading: Heading, metric: Declared, values: Values | None) -> str:
        """Write the attribute values of a ledger's series as labels."""
        key = (heading.name, metric.attributes, values)
        known = self._texts.get(key)
        if known is None:
            attributes = _OVERFLOW if values is None else metric.named(values)
            text = label_text(_labels(attributes, _reserved(heading)))
            known = self._remember(self._texts, key, text)
        return known

    def _remember(self, texts: dict[Any, T], key: object, text: T) -> T:
        if len(texts) >= self._MOST:
            texts.clear()
        texts[key] = text
        return text


def _heading(name: str, unit: str, help_text: str, kind: Kind, across: Across) -> Heading:
    translated = metric_name(name, unit, kind)
    if not translated:
        raise ValueError("its name holds no letter or digit that a Prometheus name may contain")
    unit = "ratio" if kind == "gauge" and unit == "1" else unit_name(unit)
    translated = translated.removesuffix("_total") if kind == "counter" else translated
    # Never empty: `promtool check metrics` asks for it.
    help_text = _encodable(help_text) or f"The instrument {_encodable(name)} has no description."
    return Heading(translated, kind, help_text, unit, across)


_OWN_LABELS: Mapping[str, str] = {"histogram": "le", "summary": "quantile"}


def _reserved(heading: Heading) -> str:
    """Name the label that the series themselves need, if any."""
    if heading.kind in _OWN_LABELS:
        return _OWN_LABELS[heading.kind]
    return "worker" if heading.across == "each" else ""


_DECLARED: Mapping[str, Across] = {metric.name: metric.across for metric in METRICS}


def _across(name: str) -> Across:
    """Choose what is shown of a gauge of the SDK: what nobody declared is a state of all, or of a process.

    What one process says of itself means nothing in place of what another one says, and no rule suits both
    its uptime and its share of the processor; so each is shown.
    """
    return _DECLARED.get(name, "each" if name.startswith(_OF_A_PROCESS) else "last")


def _add_ledger(
    exposition: Exposition, describe: Describer, ledger: Ledger, pause: Callable[[], object]
) -> bool:
    metric = ledger.metric
    heading = describe.declared(metric)
    family = exposition.open(heading)
    if family is None:
        return False
    bounds = metric.quantiles or metric.buckets
    for values, numbers, measured in ledger.read():
        exemplars = tuple(each for each in measured if each[_TRACE]) if measured else ()
        family.add(describe.values(heading, metric, values), (numbers, bounds, exemplars))
        pause()
    return True


def _kind(data: Sum | Gauge | Histogram) -> Kind:
    if isinstance(data, Sum):
        return "counter" if data.is_monotonic else "up_down_counter"
    return "gauge" if isinstance(data, Gauge) else "histogram"


def _series(point: NumberDataPoint | HistogramDataPoint) -> Series:
    exemplars = tuple(map(_measured, filter(_leads_to_a_trace, point.exemplars))) if point.exemplars else ()
    if isinstance(point, NumberDataPoint):
        return (point.value, point.time_unix_nano / 1e9), (), exemplars
    # Its lowest and highest measurement are in neither format.
    numbers = (float(point.sum), math.inf, -math.inf, *point.bucket_counts)
    return numbers, tuple(point.explicit_bounds), exemplars


def _leads_to_a_trace(exemplar: SdkExemplar) -> bool:
    return bool(exemplar.trace_id and exemplar.span_id) and not math.isnan(exemplar.value)


def _measured(exemplar: SdkExemplar) -> Measured:
    """Translate an exemplar, without the attributes that a view has filtered out on purpose."""
    return exemplar.value, exemplar.time_unix_nano, exemplar.trace_id or 0, exemplar.span_id or 0


def _of_one(attribute: str) -> bool:
    """Say whether an attribute of the resource tells one worker from the others."""
    return attribute == "service.instance.id" or attribute.startswith(_OF_A_PROCESS)


def _labels(attributes: Mapping[str, Any], reserved: str = "") -> Iterator[tuple[str, str]]:
    """Translate attributes; values whose keys share a label are joined in the order of their keys."""
    values: dict[str, list[str]] = {}
    for key in sorted(attributes):
        name = label_name(key)
        values.setdefault(f"exported_{name}" if name == reserved else name, []).append(
            _label_value(attributes[key])
        )
    joined = ((name, ";".join(filter(None, texts))) for name, texts in sorted(values.items()))
    return ((name, text) for name, text in joined if text)  # to Prometheus an empty label is no label


def _label_value(value: object) -> str:
    return _encodable(value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False))


def _encodable(text: str) -> str:
    return text if text.isascii() else text.encode(errors="replace").decode()


def respond(reader: Scrapable, method: str, accept: str, accept_encoding: str) -> Answer:
    """Answer one scrape; never raises.

    Args:
        reader: What has the metrics.
        method: The request's method, in capitals.
        accept: The request's `Accept` header, or empty.
        accept_encoding: The request's `Accept-Encoding` header, or empty.

    Returns:
        Status, headers and body; a HEAD has the headers of its GET and no body.
    """
    if method not in {"GET", "HEAD"}:
        return _say(HTTPStatus.METHOD_NOT_ALLOWED, "Metrics are read with GET.", ("Allow", "GET, HEAD"))
    openmetrics = _asks_for_openmetrics(accept)
    try:
        body = reader.render(openmetrics)
    except Exception:
        _logger.exception("The metrics could not be collected for a scrape.")
        return _say(HTTPStatus.INTERNAL_SERVER_ERROR, "The metrics could not be collected; the log says why.")
    headers = [("Content-Type", OPENMETRICS_TYPE if openmetrics else CLASSIC_TYPE)]
    headers += [_NEVER_STORED, ("Vary", "Accept, Accept-Encoding")]
    if _takes_gzip(accept_encoding):
        headers.append(("Content-Encoding", "gzip"))
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
    headers.append(("Content-Length", str(len(body))))
    return HTTPStatus.OK, headers, body if method == "GET" else b""


def _say(status: HTTPStatus, text: str, *more: tuple[str, str]) -> Answer:
    body = f"{text}\n".encode()
    return status, [_PLAIN_TEXT, _NEVER_STORED, ("Content-Length", str(len(body))), *more], body


def _too_many() -> Answer:
    return _say(HTTPStatus.SERVICE_UNAVAILABLE, "Too many scrapes at once.", ("Retry-After", "1"))


def _asks_for_openmetrics(accept: str) -> bool:
    wanted = dict.fromkeys(("application/openmetrics-text", "text/plain", "text/*", "*/*"), -1.0)
    for name, parameters, quality in _preferences(accept):
        if name in wanted and (name != OPENMETRICS_TYPE.partition(";")[0] or _is_offered(parameters)):
            wanted[name] = max(wanted[name], quality)
    openmetrics, *classic = wanted.values()
    return openmetrics > 0 and openmetrics >= next((quality for quality in classic if quality >= 0), 0)


def _is_offered(parameters: Mapping[str, str]) -> bool:
    return parameters.get("version", "1.0.0") in {"1.0.0", "0.0.1"}


def _takes_gzip(accept_encoding: str) -> bool:
    qualities = {name: quality for name, _, quality in _preferences(accept_encoding)}
    return qualities.get("gzip", qualities.get("*", 0)) > 0


def _preferences(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Read what a client prefers; a quality that is no number from 0 to 1 counts as a refusal."""
    for preference in header.lower().split(","):
        name, *settings = (part.strip() for part in preference.split(";"))
        parameters = {
            key.strip(): value.strip(' "') for key, _, value in (s.partition("=") for s in settings)
        }
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0
        yield name, parameters, quality if 0 <= quality <= 1 else 0


class PrometheusApp:
    """Serve the metrics from inside an ASGI application, as an endpoint or a mount, whatever the path."""

    def __init__(self, reader: Scrapable) -> None:
        self._reader = reader
        self._slots = threading.BoundedSemaphore(SCRAPES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection; websockets are refused."""
        match scope["type"]:
            case "http":
                await self._send_answer(scope, send)
            case "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1000})
            case "lifespan":
                await _live(receive, send)

    def wsgi(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Answer one request of a WSGI server: mount this method where an application of that kind can be."""
        accept, encoding = environ.get("HTTP_ACCEPT", ""), environ.get("HTTP_ACCEPT_ENCODING", "")
        status, headers, body = self._answer_at_once(environ["REQUEST_METHOD"], accept, encoding)
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [body]

    def _answer_at_once(self, method: str, accept: str, accept_encoding: str) -> Answer:
        if not self._slots.acquire(blocking=False):
            return _too_many()
        try:
            return respond(self._reader, method, accept, accept_encoding)
        finally:
            self._slots.release()

    async def _send_answer(self, scope: Scope, send: Send) -> None:
        status, headers, body = await self._answer(scope)
        raw_headers = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": int(status), "headers": raw_headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope) -> Answer:
        if not self._slots.acquire(blocking=False):
            return _too_many()
        try:
            accept, encoding = _header(scope, b"accept"), _header(scope, b"accept-encoding")
            return await asyncio.to_thread(respond, self._reader, scope["method"], accept, encoding)
        finally:
            self._slots.release()


def _header(scope: Scope, wanted: bytes) -> str:
    return ",".join(value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


def start_server(reader: Scrapable, host: str, port: int) -> "PrometheusServer":
    """Serve the metrics on a port of their own, from a daemon thread.

    Args:
        reader: What has the metrics.
        host: The address to listen on; a loopback address answers only requests addressed to this machine.
        port: The port; 0 takes any free one.

    Returns:
        A server that is listening already.

    Raises:
        SetupError: The port is taken or forbidden, or the host is no address of this machine.
    """
    try:
        server = PrometheusServer(reader, host, port)
    except (OSError, OverflowError, ValueError) as error:
        raise SetupError(_why_not_listening(error, host, port)) from error
    server.start()
    return server


def _why_not_listening(error: Exception, host: str, port: int) -> str:
    if isinstance(error, OverflowError) or getattr(error, "errno", None) in {errno.EADDRINUSE, errno.EACCES}:
        return (
            f"OTEL_EXPORTER_PROMETHEUS_PORT must be a free port, got {port!r}. "
            f"Choose one that nothing else on {host} listens on, or 0 to take any that is free."
        )
    return (
        f"OTEL_EXPORTER_PROMETHEUS_HOST must be an address of this machine, got {host!r}. "
        "Write localhost to answer this machine alone, or 0.0.0.0 to answer the network."
    )


class PrometheusServer(ThreadingHTTPServer):
    """Listen on a port of its own; one connection is one request, and never more than a few at once."""

    def __init__(self, reader: Scrapable, host: str, port: int) -> None:
        self.address_family = AF_INET6 if ":" in host else AF_INET
        self._reader = reader
        self._slots = threading.BoundedSemaphore(SCRAPES_AT_ONCE)
        self._open_since: dict[socket, float] = {}
        super().__init__((host, port), _Handler)
        if hasattr(os, "register_at_fork"):
            # A child that kept it would keep the port, and answer nobody.
            os.register_at_fork(after_in_child=self.socket.close)
        self.own_names = {host.lower(), "localhost"} if _is_loopback(self.address[0]) else None
        self._thread = threading.Thread(
            target=self.serve_forever, args=(_POLL_SECONDS,), name="tercet-prometheus", daemon=True
        )

    @property
    def address(self) -> tuple[str, int]:
        """Tell where it listens: IP address and port."""
        host, port = self.socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop listening; calling it twice, or in a forked child, does no harm."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()

    def scrape(self, method: str, accept: str, accept_encoding: str) -> Answer:
        """Answer one scrape, or refuse it when too many are under way."""
        if not self._slots.acquire(blocking=False):
            return _too_many()
        try:
            return respond(self._reader, method, accept, accept_encoding)
        finally:
            self._slots.release()

    def server_bind(self) -> None:
        """Bind without the reverse DNS lookup that the standard library makes here."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread of its own, or hang up when too many of them are busy."""
        if len(self._open_since) >= CONNECTIONS_AT_ONCE:
            self.shutdown_request(request)
            return
        request.settimeout(READ_TIMEOUT_SECONDS)
        self._open_since[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and free its place."""
        self._open_since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Hang up on clients that feed or read their request drop by drop."""
        oldest = time.monotonic() - CONNECTION_LIMIT_SECONDS
        for request, since in self._open_since.copy().items():
            if since < oldest:
                _hang_up(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note a broken connection; the standard library would print a traceback."""
        _logger.debug("A connection to the Prometheus port broke.", exc_info=True)

    def is_addressed(self, hosts: Iterable[str]) -> bool:
        """Tell whether a request means this server: a page that rebinds its DNS name to loopback does not."""
        return self.own_names is None or all(_names_this_machine(host, self.own_names) for host in hosts)


def _hang_up(request: socket) -> None:
    with suppress(OSError):  # it may have ended meanwhile
        request.shutdown(SHUT_RDWR)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _names_this_machine(host_header: str, own_names: Iterable[str]) -> bool:
    match = _HOST_HEADER.fullmatch(host_header.strip())
    name = match[1].strip("[]").lower() if match else ""
    return name in own_names or name.endswith(".localhost") or _is_ip_literal(name)


def _is_ip_literal(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _raw(status: int, headers: Headers, body: bytes) -> bytes:
    lines = [
        f"HTTP/1.0 {status} {HTTPStatus(status).phrase}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class _Handler(BaseHTTPRequestHandler):
    server: PrometheusServer

    def answer(self) -> None:
        status, headers, body = self._choose()
        self.wfile.write(_raw(status, headers, b"" if self.command == "HEAD" else body))

    def _choose(self) -> Answer:
        path = self.path.partition("?")[0]
        if not self.server.is_addressed(self.headers.get_all("Host", [])):
            return _say(HTTPStatus.FORBIDDEN, "This port answers requests addressed to this machine alone.")
        if path == "/metrics":
            return self.server.scrape(self.command, self._header("Accept"), self._header("Accept-Encoding"))
        if path == "/":
            return _say(HTTPStatus.OK, "Metrics are at /metrics.")
        return _say(HTTPStatus.NOT_FOUND, "Only /metrics is here.")

    def _header(self, name: str) -> str:
        return ",".join(self.headers.get_all(name, []))

    def log_message(self, *_: Any, **__: Any) -> None:
        """Write nothing: a scrape every few seconds is no news."""

    def version_string(self) -> str:
        """Keep Python's version to ourselves."""
        return "tercet"


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler.answer)
