"""OTLP over HTTP: https://opentelemetry.io/docs/specs/otlp/#otlphttp."""

import functools
import queue
import re
import ssl
from typing import Any

import urllib3
from urllib3.util import Retry

from tercet.declare.settings import Otlp, Signal
from tercet.export.address import build_headers, build_tls
from tercet.export.answer import (
    LONGEST_ANSWER,
    Answer,
    Cut,
    Successes,
    bounded_wait,
    without_success,
    without_tunnel,
)
from tercet.export.compression import encoding
from tercet.export.deadline import BoundedHttp, BoundedHttps, Deadline
from tercet.export.proxy import Proxy, find_proxy

_OK = range(200, 300)
# What http.client says of a proxy that opens no tunnel; the proxy's own words follow.
_REFUSED = re.compile(r"Tunnel connection failed: (\d+)").match


class Http:
    """Carry requests of one signal over HTTP, on one connection, through the environment's proxy.

    Args:
        otlp: Where and how.
        signal: Of what.

    Raises:
        SettingsError: A certificate or a key cannot be used.
    """

    def __init__(self, otlp: Otlp, signal: Signal) -> None:
        self._endpoint = otlp.endpoint
        self._proxy = find_proxy(otlp.endpoint)
        self._target = _target(otlp.endpoint, self._proxy)
        self._headers = build_headers(otlp, "application/x-protobuf")
        self._tls = build_tls(otlp)
        self._successes = Successes(signal)
        self._deadline = Deadline()
        self._connect()

    def _connect(self) -> None:
        options: dict[str, Any] = {"maxsize": 1, "retries": False}
        if self._tls is not None:
            options["ssl_context"] = self._tls
        if self._proxy is None:
            self._pool = urllib3.connection_from_url(self._endpoint, **options)
        else:
            way = urllib3.ProxyManager(self._proxy.url, proxy_headers=self._proxy.headers, **options)
            self._pool = way.connection_from_url(self._endpoint)
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
                self._target,
                body=packed,
                headers=self._headers if kind == "none" else self._headers | {"content-encoding": kind},
                timeout=timeout,
                redirect=False,
                assert_same_host=False,  # The pool is the proxy's, where there is one.
                preload_content=False,
            )
        except urllib3.exceptions.HTTPError as error:
            return _without_response(error)
        data = _content(response)
        if response.status in _OK:
            return self._successes.read(data)
        return without_success(response.status, _seconds(response.headers.get("Retry-After")))


def _target(endpoint: str, proxy: Proxy | None) -> str:
    """Say what a request is for: a proxy without a tunnel must know it all, and the login is in a header."""
    url = urllib3.util.parse_url(endpoint)
    is_forwarded = proxy is not None and url.scheme == "http"
    return url._replace(auth=None, fragment=None).url if is_forwarded else url.request_uri


def _without_response(error: urllib3.exceptions.HTTPError) -> Answer:
    """Say what a proxy answers in the collector's place, or raise what became of the connection."""
    context, cause = error.__context__, error.__cause__
    if isinstance(error, urllib3.exceptions.ProtocolError) and isinstance(context, TimeoutError):
        raise context
    is_cut = isinstance(error, urllib3.exceptions.ProtocolError) or isinstance(context, ssl.SSLEOFError)
    # One that is closed while it is kept is taken for one that never was.
    if is_cut or (isinstance(error, urllib3.exceptions.ProxyError) and isinstance(cause, ConnectionError)):
        raise Cut from error
    if status := _REFUSED(str(cause)):
        return without_tunnel(int(status[1]))
    raise error


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
