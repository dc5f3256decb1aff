"""The server that telemetry is delivered to: it answers at once, and counts what it was given when asked.

It is a process of its own and decodes nothing while a variant runs, so that its work is in no figure.
"""

import asyncio
import gzip
import json
import os
import subprocess
import sys
import threading
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.process import ROOT

_TAKEN = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"
_AS_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
_UNPACK: dict[bytes, Callable[[bytes], bytes]] = {b"gzip": gzip.decompress, b"deflate": zlib.decompress}
_SERVER = 2  # SpanKind.SPAN_KIND_SERVER

Headers = dict[bytes, bytes]
_requests: list[tuple[str, Headers, bytes]] = []


@dataclass(frozen=True)
class Receiver:
    """The counting server, as its parent sees it."""

    url: str

    def counts(self) -> dict[str, int]:
        """Say what it was given since it started, or since it last forgot."""
        with urllib.request.urlopen(f"{self.url}/counts", timeout=120) as answer:
            counts: dict[str, int] = json.load(answer)
            return counts


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run the counting server for as long as the block runs."""
    command = [sys.executable, "-m", "bench.counter"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Receiver(json.loads(process.stdout.readline())["url"])
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(10)


class Connection(asyncio.Protocol):
    """One connection: requests are kept as they come, and answered before anything else."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._buffer = bytearray()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while self._take_one():
            pass

    def _take_one(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        start, *lines = bytes(self._buffer[:end]).split(b"\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
        taken = _body(self._buffer, end, headers)
        if taken is None:
            return False
        body, used = taken
        del self._buffer[:used]
        self._answer(start.split()[1].decode(), headers, body)
        return True

    def _answer(self, path: str, headers: Headers, body: bytes) -> None:
        if path == "/counts":
            self._answer_json(counts())
        elif path == "/forget":
            _requests.clear()
            self._answer_json({})
        elif path.startswith("/v1/"):
            self._transport.write(_TAKEN)
            _requests.append((path, headers, body))
        else:  # An agent of Datadog is asked in JSON.
            self._answer_json({})
            _requests.append((path, headers, body))

    def _answer_json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self._transport.write(_AS_JSON % (len(body), body))


def _body(buffer: bytearray, start: int, headers: Headers) -> tuple[bytes, int] | None:
    """Return a body and where it ends, or None while some of it is missing."""
    if headers.get(b"transfer-encoding", b"").lower() == b"chunked":
        return _chunks(buffer, start)
    end = start + int(headers.get(b"content-length", b"0"))
    return (bytes(buffer[start:end]), end) if len(buffer) >= end else None


def _chunks(buffer: bytearray, start: int) -> tuple[bytes, int] | None:
    body = b""
    while (line_end := buffer.find(b"\r\n", start)) >= 0:
        size = int(buffer[start:line_end], 16)
        start = line_end + 2 + size + 2
        if len(buffer) < start:
            return None
        if not size:
            return body, start
        body += buffer[line_end + 2 : start - 2]
    return None


def counts() -> dict[str, int]:
    """Decode everything that was received, and count it."""
    found: Counter[str] = Counter(requests=len(_requests))
    seen: set[bytes] = set()
    for path, headers, packed in _requests:
        found["bytes"] += len(packed)
        if b"x-datadog-trace-count" in headers:
            found["traces"] += int(headers[b"x-datadog-trace-count"])
        elif path.startswith("/v1/"):
            unpack = _UNPACK.get(headers.get(b"content-encoding", b""), bytes)
            found.update(_count(path, unpack(packed), seen))
    found["distinct_spans"] = len(seen)
    return found


def _count(path: str, body: bytes, seen: set[bytes]) -> Counter[str]:
    if path == "/v1/traces":
        return _count_spans(body, seen)
    if path == "/v1/logs":
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

        records = ExportLogsServiceRequest.FromString(body).resource_logs
        return Counter(logs=sum(len(scope.log_records) for each in records for scope in each.scope_logs))
    return _count_points(body)


def _count_spans(body: bytes, seen: set[bytes]) -> Counter[str]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    found: Counter[str] = Counter()
    for each in ExportTraceServiceRequest.FromString(body).resource_spans:
        for span in (span for scope in each.scope_spans for span in scope.spans):
            seen.add(span.trace_id + span.span_id)
            # A log record of logfire is a span of no length.
            is_log = any(
                pair.key == "logfire.span_type" and pair.value.string_value == "log"
                for pair in span.attributes
            )
            found.update(
                ("logs",) if is_log else ("spans", "server_spans") if span.kind == _SERVER else ("spans",)
            )
    return found


def _count_points(body: bytes) -> Counter[str]:
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

    metrics = [
        metric
        for each in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in each.scope_metrics
        for metric in scope.metrics
    ]
    return Counter(
        points=sum(len(getattr(metric, str(metric.WhichOneof("data"))).data_points) for metric in metrics)
    )


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
    await server.serve_forever()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(_serve())
