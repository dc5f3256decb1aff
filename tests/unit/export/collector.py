"""A collector for unit tests: HTTP on loopback, with TLS if wanted, that answers as a function says."""

import socket
import ssl
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    headers: dict
    body: bytes
    peer: tuple


def answering(status=200, body=b"", **headers):
    """Make an answer; the underscores of header names become dashes."""

    def answer(handler):
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def cutting(handler):
    """End the connection with no answer."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def dripping(beginning=b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", drop=b"x"):
    """Make an answer that never comes to its end, until nobody listens any more."""

    def answer(handler):
        with suppress(OSError):
            handler.wfile.write(beginning)
            while True:
                handler.wfile.write(drop)
                time.sleep(0.01)

    return answer


def cutting_body(handler):
    """End the connection in the middle of an answer that says 200."""
    handler.send_response(200)
    handler.send_header("Content-Length", "100")
    handler.end_headers()
    handler.wfile.write(b"\x0a")
    cutting(handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.requests.append(Request(self.path, headers, body, self.client_address))
        self.server.answer(self)

    def log_message(self, *_args):
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # A client that trusts nobody ends the handshake.


@contextmanager
def collecting(answer=None, tls=None):
    """Listen on a free port; `requests` are those that came, `answer` may be changed meanwhile."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.requests, server.answer = [], answer or answering()
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.url = f"http{'s' if tls else ''}://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certify(folder, name, host="localhost"):
    """Make a certificate that signs itself, and its key, for a host; return their paths."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    named = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{host}"]
    kind = ["-x509", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", *kind, *named, *files], check=True, capture_output=True)
    return str(certificate), str(key)


def server_tls(certificate, key, client=None):
    """Make the server's side; with `client`, only who shows that certificate may speak."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client)
    return context
