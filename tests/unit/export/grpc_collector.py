"""A collector for unit tests: gRPC by an HTTP/2 that is not ours, that answers as a function says."""

import socket
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

OK = ((":status", "200"), ("content-type", "application/grpc"))


@dataclass(frozen=True, slots=True)
class Request:
    headers: dict
    body: bytes
    peer: tuple


def answering(code=0, message=b"", *, said=OK, **trailers):
    """Make an answer; the underscores of trailers' names become dashes."""

    def answer(http, stream):
        http.send_headers(stream, said)
        if message:
            http.send_data(stream, b"\0" + len(message).to_bytes(4, "big") + message)
        named = [(name.replace("_", "-"), value) for name, value in trailers.items()]
        http.send_headers(stream, [("grpc-status", str(code)), *named], end_stream=True)

    return answer


def without_grpc(status):
    """Make the answer of a gateway that knows no gRPC."""
    return lambda http, stream: http.send_headers(stream, [(":status", str(status))], end_stream=True)


def resetting(code):
    """Give the request up."""
    return lambda http, stream: http.reset_stream(stream, code)


def cutting(http, stream):
    """End the connection with no answer."""
    raise ConnectionError


class Collector:
    """Requests that came are in `requests`; `answer` may be changed meanwhile."""

    def __init__(self, tls=None):
        self.requests, self.answer, self.connections = [], answering(), 0
        self._tls = tls
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"localhost:{self._listening.getsockname()[1]}"
        self.url = f"http{'s' if tls else ''}://{self.address}"
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self):
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()

    def _listen(self):
        with suppress(OSError):
            while True:
                wire, peer = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(wire, peer), daemon=True).start()

    def _serve(self, wire, peer):
        with suppress(OSError), self._secured(wire) as secured:
            http = H2Connection(H2Configuration(client_side=False, header_encoding="ascii"))
            http.initiate_connection()
            bodies, headers = {}, {}
            while data := (secured.sendall(http.data_to_send()), secured.recv(65536))[1]:
                for event in http.receive_data(data):
                    self._take(http, event, headers, bodies, peer)

    def _secured(self, wire):
        return wire if self._tls is None else self._tls.wrap_socket(wire, server_side=True)

    def _take(self, http, event, headers, bodies, peer):
        if isinstance(event, RequestReceived):
            headers[event.stream_id], bodies[event.stream_id] = dict(event.headers), b""
        elif isinstance(event, DataReceived):
            http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            bodies[event.stream_id] += event.data
        elif isinstance(event, StreamEnded):
            self.requests.append(Request(headers[event.stream_id], bodies[event.stream_id], peer))
            self.answer(http, event.stream_id)


@contextmanager
def collecting(**options):
    """Listen on a free port."""
    collector = Collector(**options)
    try:
        yield collector
    finally:
        collector.close()
