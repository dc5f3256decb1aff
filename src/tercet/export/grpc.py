"""OTLP over gRPC: https://opentelemetry.io/docs/specs/otlp/#otlpgrpc.

A unary call of gRPC is a POST over HTTP/2 whose body is a message behind five bytes, its trailers say
how it went:
https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
"""

import re
import socket
import struct
import time
import zlib
from base64 import b64decode
from collections import deque
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

import urllib3
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from tercet.declare.settings import Otlp, Signal
from tercet.errors import SettingsError
from tercet.export.address import build_headers, build_tls
from tercet.export.advice import after_status
from tercet.export.answer import Answer, Successes, bounded_wait, harmless, without_success
from tercet.export.compression import COMPRESS, encoding, unpack
from tercet.export.http2 import Connection, Reset, Response

_METHODS: Mapping[Signal, str] = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_PORTS = {"http": 80, "https": 443}
# Whether the message is compressed, and its length.
_PREFIX = struct.Struct(">?I")
_CODES = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_LATER = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"})
# No code says so alone: the words are those of gRPC in C, Go, Java and .NET, and of tonic in Rust.
_SIZE_CODES = frozenset({"RESOURCE_EXHAUSTED", "OUT_OF_RANGE"})
_TOO_LARGE = re.compile(r"larger than max|exceeds (the )?maximum|too large", re.IGNORECASE).search
_CANCEL = 0x8
_OK = "200"
_NAME = re.compile(r"[0-9a-z_.-]+").fullmatch
_VALUE = re.compile(r"[ -~]*").fullmatch
# What only the protocol itself may say, and what it has no place for.
_RESERVED = re.compile(
    r"grpc-.*|.*-bin|host|te|connection|keep-alive|proxy-connection|transfer-encoding|upgrade|content-length"
).fullmatch


class Grpc:
    """Carry requests of one signal over gRPC, on one connection.

    Args:
        otlp: Where and how.
        signal: Of what.

    Raises:
        SettingsError: A certificate, a key, a header, or the compression cannot be used.
    """

    def __init__(self, otlp: Otlp, signal: Signal) -> None:
        if otlp.compression == "deflate":
            raise SettingsError("otlp_compression must be gzip or none for gRPC, got 'deflate'. Write gzip.")
        url = urllib3.util.parse_url(otlp.endpoint)
        scheme = str(url.scheme)
        host = str(url.host).strip("[]")
        self._address = host, url.port or _PORTS[scheme]
        self._tls = build_tls(otlp)
        if self._tls is not None:
            self._tls.set_alpn_protocols(["h2"])
        self._headers = (
            (":method", "POST"),
            (":scheme", scheme),
            (":path", _METHODS[signal]),
            (":authority", str(url.netloc)),
            ("te", "trailers"),
            *_usable(build_headers(otlp, "application/grpc")).items(),
        )
        self._successes = Successes(signal)
        self.renew()

    def renew(self) -> None:
        """Leave the connection to the parent that it is of."""
        # Whoever asks takes it out meanwhile: what fails is not put back, and nobody asks beside another.
        self._kept: deque[Connection] = deque(maxlen=1)

    def carry(self, packed: bytes, timeout: float) -> Answer:
        """Send one packed request.

        Raises:
            Cut: The connection ended before the answer.
            Exception: Anything else that the system or HTTP/2 says.
        """
        deadline = time.monotonic() + timeout
        try:
            kind, message = _sendable(packed)
        except (OSError, EOFError, zlib.error):
            return Answer("refused", "it is damaged, and cannot be unpacked")
        headers = [*self._headers, ("grpc-timeout", f"{int(timeout * 1000) + 1}m")]
        if kind != "none":
            headers.append(("grpc-encoding", kind))
        connection = self._connection(deadline)
        try:
            response = connection.ask(headers, _PREFIX.pack(kind != "none", len(message)) + message, deadline)
        except Reset as reset:
            is_later = reset.code == _CANCEL
            return Answer("later" if is_later else "refused", f"HTTP/2 error {reset.code}")
        self._kept.append(connection)
        return self._meaning(response)

    def _connection(self, deadline: float) -> Connection:
        try:
            kept = self._kept.pop()
        except IndexError:
            kept = None
        if kept is not None and kept.is_open():
            return kept
        wire = socket.create_connection(self._address, _left(deadline))
        try:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                wire.settimeout(_left(deadline))
                wire = self._tls.wrap_socket(wire, server_hostname=self._address[0])
        except Exception:
            wire.close()
            raise
        return Connection(wire)

    def _meaning(self, response: Response) -> Answer:
        said = response.headers
        if said.get(":status") != _OK:
            return without_success(int(said[":status"]))
        code = _code(said.get("grpc-status", ""))
        if code == "OK":
            return self._successes.read(_message(response.data))
        message = harmless(unquote(said.get("grpc-message", "")))
        reason = f"gRPC {code} ({message})" if message else f"gRPC {code}"
        if code in _SIZE_CODES and _TOO_LARGE(message):
            return Answer("too_large", reason)
        wait = _retry_delay(said.get("grpc-status-details-bin", ""))
        is_later = code in _LATER or (code == "RESOURCE_EXHAUSTED" and wait is not None)
        return Answer("later", reason, wait) if is_later else Answer("refused", after_status(reason, code))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _usable(headers: dict[str, str]) -> dict[str, str]:
    """Return headers that gRPC can send.

    Raises:
        SettingsError: One of them it cannot.
    """
    for name, value in headers.items():
        if not _NAME(name) or not _VALUE(value) or _RESERVED(name):
            raise SettingsError(
                "otlp_headers (OTEL_EXPORTER_OTLP_HEADERS) must be headers that gRPC can send, "
                f"got {name!r}: <hidden>. Write names of letters, digits, hyphens, underscores and dots that "
                "are none of gRPC's own, and values of ASCII in one line."
            )
    return headers


def _sendable(packed: bytes) -> tuple[str, bytes]:
    """Return how a request is compressed, and its bytes."""
    kind = encoding(packed)
    # A spool may hold what was packed for HTTP, and few servers of gRPC know deflate.
    return (kind, packed) if kind != "deflate" else ("gzip", COMPRESS["gzip"](unpack(packed)))


def _code(status: str) -> str:
    """Name a status; a response that names none is no gRPC."""
    return _CODES[int(status)] if status.isdecimal() and int(status) < len(_CODES) else "UNKNOWN"


def _message(data: bytes | bytearray) -> bytes:
    """Return the message of a response; "" where there is none, or one compressed, as nobody asked for."""
    return bytes(data[_PREFIX.size :]) if data.startswith(b"\0") else b""


def _retry_delay(details: str) -> float | None:
    """Read the wait that a `google.rpc.Status` asks for in its `RetryInfo`, if it does."""
    try:
        status = b64decode(details + "=" * (-len(details) % 4))
        for packed in _fields(status, 3):
            detail = Any.FromString(packed)
            if detail.type_url.endswith("/google.rpc.RetryInfo"):
                delay = Duration.FromString(b"".join(_fields(detail.value, 1)))
                return bounded_wait(delay.seconds + delay.nanos / 1e9)
    except (ValueError, DecodeError):
        pass  # Whatever it says, it does not say when to come back.
    return None


def _fields(message: bytes, number: int) -> Iterator[bytes]:
    """Walk through the fields of one number, texts or messages, of a message whose type is not at hand."""
    unknown = UnknownFieldSet(Empty.FromString(message))
    for each in (unknown[place] for place in range(len(unknown))):
        if each.field_number == number and isinstance(each.data, bytes):
            yield each.data
