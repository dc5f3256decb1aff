"""The door to a scrape on a port of its own; what is imported for it, most processes can do without."""

import errno
import ipaddress
import logging
import os
import re
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6, SHUT_RDWR, socket
from socketserver import TCPServer
from typing import Any

from tercet.errors import SetupError
from tercet.export.scrape import SCRAPES_AT_ONCE, Answer, Headers, Scrapable, respond, say, too_many

CONNECTIONS_AT_ONCE = 32
READ_TIMEOUT_SECONDS = 5
CONNECTION_LIMIT_SECONDS = 30
_POLL_SECONDS = 0.1  # how long close() may take
_HOST_HEADER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:@/]+)(?::\d*)?")

_logger = logging.getLogger("tercet.prometheus")


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
            return too_many()
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
            return say(HTTPStatus.FORBIDDEN, "This port answers requests addressed to this machine alone.")
        if path == "/metrics":
            return self.server.scrape(self.command, self._header("Accept"), self._header("Accept-Encoding"))
        if path == "/":
            return say(HTTPStatus.OK, "Metrics are at /metrics.")
        return say(HTTPStatus.NOT_FOUND, "Only /metrics is here.")

    def _header(self, name: str) -> str:
        return ",".join(self.headers.get_all(name, []))

    def log_message(self, *_: Any, **__: Any) -> None:
        """Write nothing: a scrape every few seconds is no news."""

    def version_string(self) -> str:
        """Keep Python's version to ourselves."""
        return "tercet"


for _method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
    setattr(_Handler, f"do_{_method}", _Handler.answer)
