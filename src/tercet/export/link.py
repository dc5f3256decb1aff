"""The link to the collector: one connection a signal, what the collector answers, and whether it is there.

https://opentelemetry.io/docs/specs/otlp/#otlphttp says what each answer means.
"""

import codecs
import logging
import math
import os
import queue
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import urllib3
from google.protobuf.message import DecodeError
from urllib3.util import Retry

from tercet.declare.settings import Otlp, Signal
from tercet.declare.version import VERSION
from tercet.errors import SettingsError
from tercet.export.compression import COMPRESS, encoding

Kind = Literal["delivered", "later", "too_large", "refused"]

_OK = range(200, 300)
_LATER = frozenset({429, 502, 503, 504})
_TOO_LARGE = 413
# An answer is a few bytes; whoever sends more is no collector.
_LONGEST_ANSWER = 64 * 1024
# A collector that asks for a longer pause is asked again all the same.
_LONGEST_WAIT = 300.0
_TELL_EVERY = 60.0
# A second outage within a minute is told when it lasts, so that a flapping collector fills no log.
_LASTING = 5.0
_HARMLESS = frozenset(map(chr, range(32, 127)))

_WAITS = "It waits, and is sent"
_MEANWHILE: Mapping[Signal, str] = {
    "traces": _WAITS,
    "logs": _WAITS,
    # They are not kept: the next collection has the sums of this one, too.
    "metrics": "The sums go on, and are sent",
}

logger = logging.getLogger("tercet.export")
# Nothing may be imported while requests are sent: a child that is forked meanwhile would wait for ever for a
# thread that it does not have. Looking a host up imports this one.
codecs.lookup("idna")


def say(message: str, *arguments: object) -> None:
    """Write a warning; whatever the application's own filters and handlers do with it, sending goes on."""
    with suppress(Exception):
        logger.warning(message, *arguments)


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one request.

    Attributes:
        kind: delivered; later, when it may be tried again; too_large, when halves may fit; refused for good.
        reason: Why, in a few words with no secrets in them; "" when delivered.
        wait: Seconds that the collector asked for before the next try, if it did.
        rejected: How many items the collector did not take although it took the request.
    """

    kind: Kind
    reason: str = ""
    wait: float | None = None
    rejected: int = 0


class Link:
    """Post requests of one signal to the collector, and tell when it goes away and comes back.

    Args:
        otlp: Where and how.
        signal: Of what.
        clock: Seconds that only go forward.

    Raises:
        SettingsError: A certificate or a key cannot be used.
    """

    def __init__(self, otlp: Otlp, signal: Signal, clock: Callable[[], float] = time.monotonic) -> None:
        self._otlp = otlp
        self._signal = signal
        self._clock = clock
        self._compress = COMPRESS[otlp.compression]
        self._headers = _headers(otlp)
        self._tls = _tls(otlp)
        #: Told how many seconds each request took, and what became of it; whoever measures it sets it.
        self.observe: Callable[[float, Answer], None] = lambda seconds, answer: None
        self._path = urllib3.util.parse_url(otlp.endpoint).request_uri
        self._response = _response_type(signal)
        self._connect()
        # A forked child must not talk on its parent's connection, nor end its parent's outage.
        os.register_at_fork(after_in_child=self._connect_anew)

    def _connect(self) -> None:
        what = f"{self._signal} to {_host(self._otlp.endpoint)}"
        self._outage = Outage(what, _MEANWHILE[self._signal], self._clock)
        tls = {"ssl_context": self._tls} if self._tls is not None else {}
        self._pool = urllib3.connection_from_url(self._otlp.endpoint, maxsize=1, retries=False, **tls)

    def _connect_anew(self) -> None:
        # The parent's thread may have held the lock of its pool's queue. Nobody frees it in a child, and
        # urllib3 would wait for it when it closes the pool, at the latest when the child ends.
        inherited = self._pool.pool
        if inherited is not None:
            queue.LifoQueue.__init__(inherited, 1)
        self._connect()

    def pack(self, body: bytes) -> bytes:
        """Compress a request as the settings say."""
        return self._compress(body)

    def post(self, packed: bytes, timeout: float = math.inf) -> Answer:
        """Send one packed request, and say what became of it; never raise.

        Args:
            packed: What `pack` returned, here or in another process with other settings.
            timeout: Seconds to wait at most, if the setting allows more.
        """
        began = time.perf_counter()
        answer = self._answer(packed, min(timeout, self._otlp.timeout))
        self.observe(time.perf_counter() - began, answer)
        if answer.kind == "later":
            self._outage.goes_on(answer.reason)
        elif answer.kind == "refused":
            self.tell(f"refused by the collector: {answer.reason}")
        else:
            self._outage.is_over()
        if answer.rejected:
            self.tell(f"taken in part, {answer.rejected} rejected: {answer.reason}")
        return answer

    def tell(self, what: str) -> bool:
        """Say something about what is sent here, at most once a minute; return whether it was said."""
        return self._outage.tell(what)

    def _answer(self, packed: bytes, timeout: float) -> Answer:
        # What fails at once on a kept connection, which the collector may have closed, is tried on a new one.
        with suppress(urllib3.exceptions.ProtocolError):
            return self._attempt(packed, timeout)
        try:
            return self._attempt(packed, timeout)
        except urllib3.exceptions.ProtocolError as error:
            return Answer("later", _why(error))

    def _attempt(self, packed: bytes, timeout: float) -> Answer:
        try:
            return self._request(packed, timeout)
        except urllib3.exceptions.ProtocolError:
            raise
        except Exception as error:  # urllib3's own, but also what http.client says of a header it cannot send
            return Answer("later", _why(error))

    def _request(self, packed: bytes, timeout: float) -> Answer:
        kind = encoding(packed)
        response = self._pool.request(
            "POST",
            self._path,
            body=packed,
            headers=self._headers if kind == "none" else self._headers | {"content-encoding": kind},
            timeout=urllib3.Timeout(total=max(timeout, 0.001)),
            redirect=False,
            preload_content=False,
        )
        return self._meaning(response.status, response.headers.get("Retry-After"), _content(response))

    def _meaning(self, status: int, retry_after: str | None, data: bytes) -> Answer:
        if status in _OK:
            return _partial_success(*self._response, data) if data else Answer("delivered")
        if status in _LATER:
            return Answer("later", f"HTTP {status}", _seconds(retry_after))
        if status == _TOO_LARGE:
            return Answer("too_large", f"HTTP {status}")
        # A redirect too: following it would send the telemetry, and its token, to somewhere nobody chose.
        return Answer("refused", f"HTTP {status}")


class Outage:
    """Tell in one line when the collector goes away, in one when it is back, and once a minute between.

    Args:
        what: What cannot be delivered, and where to.
        meanwhile: What becomes of it: the beginning of a sentence that ends with the collector's return.
        clock: Seconds that only go forward.
    """

    def __init__(self, what: str, meanwhile: str, clock: Callable[[], float]) -> None:
        self._what = what
        self._meanwhile = meanwhile
        self._clock = clock
        self._since: float | None = None
        self._is_told = False
        self._began_at = self._told_at = -math.inf

    def goes_on(self, reason: str) -> None:
        """Take note of a try that failed."""
        now = self._clock()
        if self._since is None:
            self._since = now
        lasted = now - self._since
        if self._is_told:
            self.tell(f"still not delivered after {lasted:.0f} s: {reason}")
        elif now - self._began_at >= _TELL_EVERY or lasted >= _LASTING:
            self._is_told = True
            self._began_at = self._told_at = now
            say("Cannot deliver %s: %s. %s when the collector is back.", self._what, reason, self._meanwhile)

    def is_over(self) -> None:
        """Take note of a try that the collector took."""
        if self._since is not None and self._is_told:
            say("Delivering %s again, after %.0f s.", self._what, self._clock() - self._since)
        self._since, self._is_told = None, False

    def tell(self, what: str) -> bool:
        """Say something about this link, at most once a minute; return whether it was said."""
        now = self._clock()
        if now - self._told_at < _TELL_EVERY:
            return False
        self._told_at = now
        say("%s: %s.", self._what, what)
        return True


def _headers(otlp: Otlp) -> dict[str, str]:
    """Name each header once: their names know no case, dictionaries do."""
    given = {name.lower(): value for name, value in otlp.headers.items()}
    user = urllib3.util.parse_url(otlp.endpoint).auth
    login = urllib3.make_headers(basic_auth=user) if user else {}
    own = {"content-type": "application/x-protobuf", "user-agent": f"tercet/{VERSION}"}
    return {**login, **given, **own}


def _tls(otlp: Otlp) -> ssl.SSLContext | None:
    if not otlp.endpoint.startswith("https:"):
        return None
    # urllib3's own, for what it knows of old systems' OpenSSL; it checks certificates and names.
    tls = urllib3.util.ssl_.create_urllib3_context()
    tls.check_hostname = True
    if otlp.certificate is None:
        tls.load_default_certs()
    else:
        _load("certificate", otlp.certificate, tls.load_verify_locations)
    if otlp.client_certificate is not None:
        # An encrypted key would ask for its password on the terminal, and hold the start.
        _load(
            "client_certificate",
            otlp.client_certificate,
            lambda path: tls.load_cert_chain(path, otlp.client_key, password=""),
        )
    return tls


def _load(name: str, path: str, load: Callable[[str], None]) -> None:
    try:
        load(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise SettingsError(
            f"otlp_{name} (OTEL_EXPORTER_OTLP_{name.upper()}) must be a PEM file that can be read, "
            f"and its key must fit, got {path!r}: {reason}. Correct the path or the file."
        ) from error


def _host(endpoint: str) -> str:
    parsed = urllib3.util.parse_url(endpoint)
    return f"{parsed.host}:{parsed.port}" if parsed.port else str(parsed.host)


def _content(response: urllib3.BaseHTTPResponse) -> bytes:
    """Read the body, and give the connection back; where the body is cut, the status holds all the same."""
    try:
        data = response.read(_LONGEST_ANSWER)
    except (urllib3.exceptions.HTTPError, OSError):
        data = b""
    if len(data) < _LONGEST_ANSWER:
        response.release_conn()
    else:
        response.close()  # The rest would be taken for the next answer.
    return data


def _why(error: Exception) -> str:
    """Name a failed connection without the URL, which may hold a password."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    known = cause.strerror if isinstance(cause, OSError) and cause.strerror else None
    if known is None and isinstance(error, urllib3.exceptions.TimeoutError):
        return "no answer in time"
    return known or type(error).__name__


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    try:
        return min(max(0.0, Retry().parse_retry_after(retry_after)), _LONGEST_WAIT)
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


def _partial_success(response: Any, field: str, data: bytes) -> Answer:
    """Read how many items the collector rejected although it took the request."""
    try:
        partial = response.FromString(data).partial_success
    except DecodeError:
        return Answer("delivered")  # Some gateways answer 200 with a word of their own.
    reason = "".join(each if each in _HARMLESS else "?" for each in partial.error_message[:200])
    return Answer("delivered", reason, None, max(0, getattr(partial, field)))


def _response_type(signal: Signal) -> tuple[Any, str]:
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        return ExportTraceServiceResponse, "rejected_spans"
    if signal == "metrics":
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

        return ExportMetricsServiceResponse, "rejected_data_points"
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    return ExportLogsServiceResponse, "rejected_log_records"
