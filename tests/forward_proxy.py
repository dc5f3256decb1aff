"""A small proxy on loopback, whatever name it is asked for: it forwards, opens tunnels, or refuses."""

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP = ("connection", "proxy-authorization", "proxy-connection")


@dataclass(slots=True)
class Proxy:
    """What it was asked for.

    Attributes:
        port: Where it listens, and nobody else does.
        target: The port that everything leads to.
        refusal: The status that it answers with instead; 0 for none.
        asked: The first line of each request.
        logins: What was said of who asks.
    """

    port: int
    target: int
    refusal: int = 0
    asked: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: who ends cuts its connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self._refuses():
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.proxy.target)
        path = "/" + self.path.partition("//")[2].partition("/")[2]
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        connection.close()

    def do_CONNECT(self) -> None:
        self.close_connection = True
        if self._refuses():
            return
        self.send_response(200)
        self.end_headers()
        with socket.create_connection(("127.0.0.1", self.server.proxy.target)) as other:
            back = threading.Thread(target=_pass_on, args=(other, self.connection), daemon=True)
            back.start()
            _pass_on(self.connection, other)
            back.join()

    def _refuses(self) -> bool:
        proxy = self.server.proxy
        refusal = proxy.refusal  # asked once: a test that changes its mind meanwhile changes the next request
        proxy.asked.append(self.requestline)
        proxy.logins.append(self.headers["Proxy-Authorization"])
        if refusal:
            self.send_response(refusal, "no\x1bt you")
            self.send_header("Content-Length", "0")
            self.end_headers()
        return bool(refusal)

    def log_message(self, *_args: object) -> None:
        pass


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def forwarding(target: int) -> Iterator[Proxy]:
    """Lead everything to a port of this machine while it is open."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.proxy = Proxy(server.server_port, target)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
