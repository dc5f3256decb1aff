"""The link to the collector: one connection a signal, what the collector answers, and whether it is there.

https://opentelemetry.io/docs/specs/otlp/#otlphttp says what each answer means.
"""

import gzip
import logging
import os
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import urllib3
from urllib3.util import Retry

from tercet.declare.settings import Otlp, Signal
from tercet.declare.version import VERSION

Kind = Literal["delivered", "later", "too_large", "refused"]

_OK = range(200, 300)
_LATER = frozenset({429, 502, 503, 504})
_TOO_LARGE = 413
# An answer is a few bytes; whoever sends more is no collector.
_LONGEST_ANSWER = 64 * 1024
_TELL_EVERY = 60.0
_COMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    # Level 1: telemetry repeats itself, and higher levels cost three times the time for a tenth of the bytes.
    "gzip": lambda body: gzip.compress(body, 1),
    "deflate": lambda body: zlib.compress(body, 1),
    "none": lambda body: body,
}

logger = logging.getLogger("tercet.export")


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
    """

    def __init__(self, otlp: Otlp, signal: Signal, clock: Callable[[], float] = time.monotonic) -> None:
        self._otlp = otlp
        self._signal = signal
        self._compress = _COMPRESS[otlp.compression]
        self._headers = _headers(otlp)
        self._outage = Outage(f"{signal} to {_host(otlp.endpoint)}", clock)
        self._connect()
        # A forked child must not talk on its parent's connection.
        os.register_at_fork(after_in_child=self._connect)

    def _connect(self) -> None:
        otlp = self._otlp
        self._pool = urllib3.PoolManager(
            num_pools=1,
            maxsize=1,
            retries=False,
            ca_certs=otlp.certificate,
            cert_file=otlp.client_certificate,
            key_file=otlp.client_key,
        )

    def pack(self, body: bytes) -> bytes:
        """Compress a request as the link sends it."""
        return self._compress(body)

    def post(self, packed: bytes, timeout: float | None = None) -> Answer:
        """Send one packed request, and say what became of it; never raise.

        Args:
            packed: What `pack` returned.
            timeout: Seconds to wait at most; the setting when not given.
        """
        answer = self._answer(packed, self._otlp.timeout if timeout is None else timeout)
        if answer.kind == "later":
            self._outage.goes_on(answer.reason)
        else:
            self._outage.is_over()
        if answer.kind == "refused":
            self._outage.tell(f"refused by the collector: {answer.reason}")
        elif answer.rejected:
            self._outage.tell(f"taken in part, {answer.rejected} rejected: {answer.reason}")
        return answer

    def _answer(self, packed: bytes, timeout: float) -> Answer:
        try:
            return self._request(packed, timeout)
        except urllib3.exceptions.ProtocolError:
            # Most likely a kept connection that the collector had closed; a new one tells.
            pass
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return Answer("later", _why(error))
        try:
            return self._request(packed, timeout)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            return Answer("later", _why(error))

    def _request(self, packed: bytes, timeout: float) -> Answer:
        response = self._pool.request(
            "POST",
            self._otlp.endpoint,
            body=packed,
            headers=self._headers,
            timeout=urllib3.Timeout(total=timeout),
            redirect=False,
            preload_content=False,
        )
        data = response.read(_LONGEST_ANSWER)
        response.release_conn()
        return self._meaning(response.status, response.headers.get("Retry-After"), data)

    def _meaning(self, status: int, retry_after: str | None, data: bytes) -> Answer:
        if status in _OK:
            return _partial_success(self._signal, data) if data else Answer("delivered")
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
        clock: Seconds that only go forward.
    """

    def __init__(self, what: str, clock: Callable[[], float]) -> None:
        self._what = what
        self._clock = clock
        self._lock = threading.Lock()
        self._since: float | None = None
        self._told_at = -_TELL_EVERY

    def goes_on(self, reason: str) -> None:
        """Take note of a try that failed."""
        now = self._clock()
        if self._since is None:
            self._since = now
            self._told_at = now
            logger.warning(
                "Cannot deliver %s: %s. It waits, and is sent when the collector is back.", self._what, reason
            )
        else:
            self.tell(f"still not delivered after {now - self._since:.0f} s: {reason}")

    def is_over(self) -> None:
        """Take note of a try that the collector answered."""
        if self._since is not None:
            seconds, self._since = self._clock() - self._since, None
            logger.warning("Delivering %s again, after %.0f s.", self._what, seconds)

    def tell(self, what: str) -> None:
        """Say something about this link, at most once a minute."""
        now = self._clock()
        if now - self._told_at >= _TELL_EVERY:
            self._told_at = now
            logger.warning("%s: %s.", self._what, what)


def _headers(otlp: Otlp) -> dict[str, str]:
    own = {"Content-Type": "application/x-protobuf", "User-Agent": f"tercet/{VERSION}"}
    if otlp.compression != "none":
        own["Content-Encoding"] = otlp.compression
    return {**otlp.headers, **own}


def _host(endpoint: str) -> str:
    parsed = urllib3.util.parse_url(endpoint)
    return f"{parsed.host}:{parsed.port}" if parsed.port else str(parsed.host)


def _why(error: Exception) -> str:
    """Name a failed connection without the URL, which may hold a password."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    known = cause.strerror if isinstance(cause, OSError) and cause.strerror else None
    return known or type(error).__name__


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    try:
        return max(0.0, Retry().parse_retry_after(retry_after))
    except urllib3.exceptions.InvalidHeader:
        return None


def _partial_success(signal: Signal, data: bytes) -> Answer:
    """Read how many items the collector rejected although it took the request."""
    from google.protobuf.message import DecodeError

    response, field = _response_type(signal)
    try:
        partial = response.FromString(data).partial_success
    except DecodeError:
        return Answer("delivered")  # Some gateways answer 200 with a word of their own.
    return Answer("delivered", partial.error_message[:200], None, max(0, getattr(partial, field)))


def _response_type(signal: Signal) -> tuple[Any, str]:
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        return ExportTraceServiceResponse, "rejected_spans"
    if signal == "metrics":
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

        return ExportMetricsServiceResponse, "rejected_data_points"
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    return ExportLogsServiceResponse, "rejected_log_records"
