"""OTLP over HTTP: https://opentelemetry.io/docs/specs/otlp/#otlphttp."""

import functools
import queue
import ssl

import urllib3
from urllib3.util import Retry

from tercet.declare.settings import Otlp, Signal
from tercet.export.address import build_headers, build_tls
from tercet.export.answer import LONGEST_ANSWER, Answer, Cut, Successes, bounded_wait, without_success
from tercet.export.compression import encoding
from tercet.export.deadline import BoundedHttp, BoundedHttps, Deadline

_OK = range(200, 300)


class Http:
    """Carry requests of one signal over HTTP, on one connection.

    Args:
        otlp: Where and how.
        signal: Of what.

    Raises:
        SettingsError: A certificate or a key cannot be used.
    """

    def __init__(self, otlp: Otlp, signal: Signal) -> None:
        self._endpoint = otlp.endpoint
        self._path = urllib3.util.parse_url(otlp.endpoint).request_uri
        self._headers = build_headers(otlp, "application/x-protobuf")
        self._tls = build_tls(otlp)
        self._successes = Successes(signal)
        self._deadline = Deadline()
        self._connect()

    def _connect(self) -> None:
        tls = {"ssl_context": self._tls} if self._tls is not None else {}
        self._pool = urllib3.connection_from_url(self._endpoint, maxsize=1, retries=False, **tls)
        kind = BoundedHttps if self._pool.scheme == "https" else BoundedHttp
        self._pool.ConnectionCls = functools.partial(kind, self._deadline)  # type: ignore[assignment]

    def renew(self) -> None:
        """Leave the connection to the parent that it is of."""
        # The parent's thread may have held the lock of its pool's queue. Nobody frees it in a child, and
        # urllib3 would wait for it when it closes the pool, at the latest when the child ends.
        inherited = self._pool.pool
        if inherited is not None:
            queue.LifoQueue.__init__(inherited, 1)
        self._connect()

    def carry(self, packed: bytes, timeout: float) -> Answer:
        """Send one packed request.

        Raises:
            Cut: The connection ended before the answer.
            TimeoutError: The time did not suffice to send it.
            Exception: Anything else that urllib3 or http.client says.
        """
        kind = encoding(packed)
        self._deadline.start(timeout)
        try:
            response = self._pool.request(
                "POST",
                self._path,
                body=packed,
                headers=self._headers if kind == "none" else self._headers | {"content-encoding": kind},
                timeout=timeout,
                redirect=False,
                preload_content=False,
            )
        except urllib3.exceptions.ProtocolError as error:
            if isinstance(error.__context__, TimeoutError):
                raise error.__context__ from None
            raise Cut from error
        except urllib3.exceptions.SSLError as error:
            if isinstance(error.__context__, ssl.SSLEOFError):
                raise Cut from error
            raise
        data = _content(response)
        if response.status in _OK:
            return self._successes.read(data)
        return without_success(response.status, _seconds(response.headers.get("Retry-After")))


def _content(response: urllib3.BaseHTTPResponse) -> bytes:
    """Read the body, and give the connection back; where it has no end, the status holds all the same."""
    try:
        data = response.read(LONGEST_ANSWER)
    except (urllib3.exceptions.HTTPError, OSError):
        data = b""
    if len(data) < LONGEST_ANSWER:
        response.release_conn()
    else:
        response.close()  # The rest would be taken for the next answer.
    return data


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    try:
        return bounded_wait(Retry().parse_retry_after(retry_after))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None
