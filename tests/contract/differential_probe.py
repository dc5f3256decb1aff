"""Send requests, observed by tercet's edges or by contrib's; say what was said of each, as JSON."""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import fastapi
import httpx
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.responses import StreamingResponse

Facts = dict[str, Any]
TRACEPARENT = (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
ACTIVE = "http.server.active_requests"

spans = InMemorySpanExporter()
reader = InMemoryMetricReader(preferred_temporality={Histogram: AggregationTemporality.DELTA})


def setup(edges: str) -> None:
    """Install providers in memory, and the edges that are asked for."""
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    if edges == "tercet":
        from tercet import setup_observability

        nowhere = dict.fromkeys(("traces_exporter", "metrics_exporter", "logs_exporter"), "none")
        only_http = {"usage": "off", "runtime_metrics": False, "disabled_instrumentations": ("*",)}
        setup_observability("shop", log_format="off", **only_http, **nowhere)
    else:
        from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
        from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor

        FastAPIInstrumentor().instrument(exclude_spans=["receive", "send"])
        HTTPXClientInstrumentor().instrument()


def shop() -> Any:
    """The application under observation."""
    app = fastapi.FastAPI()
    sub = fastapi.FastAPI()

    @app.get("/orders/{order}")
    @app.head("/orders/{order}")
    @sub.get("/orders/{order}")
    async def order(order: int) -> int:
        return order

    @app.post("/orders")
    async def place(body: dict[str, int]) -> dict[str, int]:
        return body

    @app.get("/crash")
    async def crash() -> None:
        raise LookupError("no such order")

    @app.get("/unavailable")
    async def unavailable() -> None:
        raise fastapi.HTTPException(503)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(iter("abc"))

    @app.websocket("/rooms/{room}")
    async def live(websocket: fastapi.WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    app.mount("/tenants/{tenant}", sub)
    return app


INCOMING: dict[str, dict[str, Any]] = {
    "get with a parameter": {"path": "/orders/7"},
    "post with a body": {
        "path": "/orders",
        "method": "POST",
        "body": b'{"item": 1}',
        "headers": [(b"content-length", b"11")],
    },
    "not found": {"path": "/nowhere"},
    "not allowed": {"path": "/orders", "method": "GET"},
    "unknown method": {"path": "/orders", "method": "BREW"},
    "invalid": {"path": "/orders/seven"},
    "crash": {"path": "/crash"},
    "unavailable": {"path": "/unavailable"},
    "streaming": {"path": "/stream"},
    "head": {"path": "/orders/7", "method": "HEAD"},
    "mounted": {"path": "/tenants/a/orders/7"},
    "query with a secret": {"path": "/orders/7", "query_string": b"page=2&token=abc"},
    "traced caller": {"path": "/orders/7", "headers": [TRACEPARENT]},
    "websocket": {"path": "/rooms/7", "type": "websocket", "scheme": "ws"},
}


async def receive_request(app: Any, request: dict[str, Any]) -> None:
    """Play the server for one request."""
    body = request.pop("body", b"")
    headers = [
        (b"host", b"shop.example:8443"),
        (b"user-agent", b"probe/1"),
        (b"content-type", b"application/json"),
    ]
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "client": ("192.0.2.7", 4711),
        "server": ("10.0.0.1", 8443),
        **request,
        "headers": [*headers, *request.get("headers", [])],
    }
    kind = "websocket.connect" if scope["type"] == "websocket" else "http.request"
    messages = iter([{"type": kind, "body": body}])

    async def receive() -> Any:
        return next(messages, None) or await asyncio.Event().wait()

    async def send(_message: Any) -> None:
        pass

    with contextlib.suppress(LookupError):
        await app(scope, receive, send)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one call with the status that its path names."""
    line = await reader.readuntil(b"\r\n\r\n")
    status = line.split()[1].strip(b"/").split(b"?")[0]
    writer.write(b"HTTP/1.1 %s X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status)
    await writer.drain()
    writer.close()


def refusing_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return int(closed.getsockname()[1])


async def send_calls(port: int) -> dict[str, Facts]:
    """Make the outgoing calls."""
    calls = {
        "outgoing 200": f"http://127.0.0.1:{port}/200",
        "outgoing 404": f"http://127.0.0.1:{port}/404",
        "outgoing 503": f"http://127.0.0.1:{port}/503",
        "outgoing with a secret": f"http://me:pw@127.0.0.1:{port}/200?token=abc",
        "outgoing refused": f"http://127.0.0.1:{refusing_port()}/",
    }
    said = {}
    async with httpx.AsyncClient(trust_env=False) as client:
        for name, url in calls.items():
            with contextlib.suppress(httpx.ConnectError):
                await client.get(url)
            said[name] = dict(facts())
    return said


def facts() -> Iterator[tuple[str, Any]]:
    """Say what was emitted since the last time, one fact at a time; of several spans, the last."""
    for span in spans.get_finished_spans():
        yield "span name", span.name
        yield "span kind", span.kind.name
        yield "span status", span.status.status_code.name
        yield "span status description", span.status.description
        yield "span parent", parent_of(span)
        yield "span events", [event.name for event in span.events]
        yield from ((f"span {key}", stable(key, value)) for key, value in (span.attributes or {}).items())
    yield "spans", len(spans.get_finished_spans())
    spans.clear()
    for metric in collected():
        yield f"{metric.name} unit", metric.unit
        yield f"{metric.name} count", sum(point.count for point in metric.data.data_points)
        for point in metric.data.data_points:
            yield from (
                (f"{metric.name} {key}", stable(key, value)) for key, value in point.attributes.items()
            )


def parent_of(span: Any) -> str | None:
    """Name the parent of a span: the remote caller, or some span of this process."""
    if span.parent is None:
        return None
    return f"{span.parent.span_id:016x}" if span.parent.is_remote else "some"


def collected(active: bool = False) -> Iterable[Any]:
    """Return the metrics that were measured since the last time: what is in progress, or all else."""
    data = reader.get_metrics_data()
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            yield from (metric for metric in scope.metrics if (metric.name == ACTIVE) is active)


def at_rest() -> Iterator[tuple[str, Any]]:
    """Say how many requests are in progress when there are none."""
    for metric in collected(active=True):
        yield f"{metric.name} unit", metric.unit
        yield f"{metric.name} is monotonic", metric.data.is_monotonic
        series = sorted((sorted(point.attributes.items()), point.value) for point in metric.data.data_points)
        yield f"{metric.name} series", series


def stable(key: str, value: Any) -> Any:
    """Take out what differs from run to run."""
    if key in ("server.port", "network.peer.port", "correlation_id"):
        return "some"
    return value.split("127.0.0.1:")[0] + "/" + value.rpartition("/")[2] if key == "url.full" else value


async def main(edges: str) -> dict[str, Facts]:
    """Send everything."""
    setup(edges)
    app, said = shop(), {}
    for name, request in INCOMING.items():
        await receive_request(app, dict(request))
        said[name] = dict(facts())
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        said["at rest"] = dict(at_rest())
        said |= await send_calls(server.sockets[0].getsockname()[1])
    return said


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main(sys.argv[1]))))
