"""A scrape endpoint: a reader that collects when it is scraped, and two doors to it, an ASGI app and a port.

MeterProvider ◄─collects─ PrometheusReader ◄─renders─ respond() ◄─┬─ PrometheusApp      in the application
                                                                  └─ PrometheusServer   on a port of its own
"""

import asyncio
import gzip
import json
import logging
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from http import HTTPStatus
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

_PLAIN_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_NEVER_STORED = ("Cache-Control", "no-store")
_GZIP_LEVEL = 1  # repetitive text: higher levels cost three times the time for a tenth of the bytes
_TRACE = 2  # where it stands in what is remembered of a measurement
_TARGET = Heading("target", "info", "What is scraped: its resource.")
_OVERFLOW = {"otel.metric.overflow": True}
# Attributes and metrics whose names begin so speak of a single process.
_OF_A_PROCESS = ("process.", "cpython.")

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
        return say(HTTPStatus.METHOD_NOT_ALLOWED, "Metrics are read with GET.", ("Allow", "GET, HEAD"))
    openmetrics = _asks_for_openmetrics(accept)
    try:
        body = reader.render(openmetrics)
    except Exception:
        _logger.exception("The metrics could not be collected for a scrape.")
        return say(HTTPStatus.INTERNAL_SERVER_ERROR, "The metrics could not be collected; the log says why.")
    headers = [("Content-Type", OPENMETRICS_TYPE if openmetrics else CLASSIC_TYPE)]
    headers += [_NEVER_STORED, ("Vary", "Accept, Accept-Encoding")]
    if _takes_gzip(accept_encoding):
        headers.append(("Content-Encoding", "gzip"))
        body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
    headers.append(("Content-Length", str(len(body))))
    return HTTPStatus.OK, headers, body if method == "GET" else b""


def say(status: HTTPStatus, text: str, *more: tuple[str, str]) -> Answer:
    """Answer with a line of text."""
    body = f"{text}\n".encode()
    return status, [_PLAIN_TEXT, _NEVER_STORED, ("Content-Length", str(len(body))), *more], body


def too_many() -> Answer:
    """Refuse a scrape, for others are under way."""
    return say(HTTPStatus.SERVICE_UNAVAILABLE, "Too many scrapes at once.", ("Retry-After", "1"))


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
            return too_many()
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
            return too_many()
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
