"""A Prometheus for tests, which answers whatever it is told to."""

import json
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs


def vector(*series):
    """Answer with series: labels and values."""
    result = [{"metric": labels, "value": [1, value]} for labels, value in series]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


class FakePrometheus:
    """Answer each question with `status` and `body`, and remember what was asked and by whom."""

    def __init__(self, body="", status=200, *, slow=0.0, tls=None, headers=()):
        self.asked, self.known_as = [], []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):  # noqa: N805
                form = handler.rfile.read(int(handler.headers["content-length"])).decode()
                self.asked.append((handler.path, parse_qs(form)["query"][0]))
                self.known_as.append(handler.headers["authorization"])
                data = body if isinstance(body, bytes) else body.encode()
                try:
                    handler.send_response(status)
                    for name, value in headers:
                        handler.send_header(name, value)
                    handler.send_header("content-length", str(len(data)))
                    # Headers that come one by one would hold whoever waits for each alone.
                    for number in range(int(slow / 0.05)):
                        handler.send_header(f"x-{number}", "slow")
                        handler.flush_headers()
                        time.sleep(0.05)
                    handler.end_headers()
                    handler.wfile.write(data)
                except OSError:
                    pass  # Who asked has gone.

            def log_message(handler, *_):  # noqa: N805
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.address = f"{scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def certificate(folder):
    """Make a certificate for this machine, and its key."""
    files = "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")
    kind = "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"
    named = "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"
    subprocess.run(["openssl", "req", *kind, *named, *files], check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"
