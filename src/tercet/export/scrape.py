"""How a scrape is asked for and answered: two doors, an ASGI app here and a port in `scrape_port`.

MeterProvider ◄─collects─ PrometheusReader ◄─renders─ respond() ◄─┬─ PrometheusApp      in the application
                                                                  └─ PrometheusServer   on a port of its own
"""

import asyncio
import gzip
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

Headers = list[tuple[str, str]]
Answer = tuple[int, Headers, bytes]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CLASSIC_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"

SCRAPES_AT_ONCE = 8

_PLAIN_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_NEVER_STORED = ("Cache-Control", "no-store")
_GZIP_LEVEL = 1  # repetitive text: higher levels cost three times the time for a tenth of the bytes

_logger = logging.getLogger("tercet.prometheus")


class Scrapable(Protocol):
    """Anything that has a text for Prometheus."""

    def render(self, openmetrics: bool) -> bytes:
        """Write the current metrics, in OpenMetrics or in the classic format."""
        ...


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
