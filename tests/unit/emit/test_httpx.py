import asyncio
import contextlib
import http.server
import importlib
import logging
import socket
import threading
import types

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tercet.emit import httpx as edge_module
from tercet.emit.correlation import correlation_id
from tercet.emit.http import redacted_url
from tercet.emit.httpx import HttpxEdge
from tercet.testing import span_tree

DURATION = "http.client.request.duration"
LIBRARIES = [httpx, importlib.import_module("httpx2")]


class Server(http.server.BaseHTTPRequestHandler):
    """What is at the other end."""

    protocol_version = "HTTP/1.1"
    released: threading.Event

    def do_GET(self):
        if self.path.startswith("/slow"):
            self.released.wait(5)
        status = int(self.path.strip("/").split("?")[0] or 200) if self.path[1:4].isdigit() else 200
        self.send_response(302 if self.path == "/redirect" else status)
        if self.path == "/redirect":
            self.send_header("Location", "/404")
        self.send_header("Content-Length", "2")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(b"ok")

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def server():
    Server.released = threading.Event()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


@pytest.fixture(params=[(library, kind) for library in LIBRARIES for kind in ("sync", "async")],
                ids=lambda param: f"{param[0].__name__} {param[1]}")  # fmt: skip
def get(request):
    """Send a GET request, with either kind of client of either library."""
    library, kind = request.param

    def get_sync(url, transport=None, **options):
        with library.Client(transport=transport, trust_env=False) as client:
            return client.get(url, **options)

    async def get_async(url, transport=None, **options):
        async with library.AsyncClient(transport=transport, trust_env=False) as client:
            return await client.get(url, **options)

    if kind == "sync":
        get_sync.library = library
        return get_sync

    def run(url, **options):
        return asyncio.run(get_async(url, **options))

    run.library = library
    return run


def outcome(seen):
    """What the points say beside the address, one a series."""
    address = {"http.request.method", "server.address", "server.port"}
    points = seen.measured(DURATION)
    assert all(point.count == 1 for point in points)
    return [{key: value for key, value in point.attributes.items() if key not in address} for point in points]


def test_a_call_is_one_span_and_one_point(seen, get, server):
    """Described in the terms of the conventions."""
    get(f"{server}/200?page=2&token=abc")
    (span,) = seen.spans
    (point,) = seen.measured(DURATION)
    address = {"server.address": "127.0.0.1", "server.port": int(server.rpartition(":")[2])}
    assert (span.name, span.kind, span.status.status_code) == ("GET", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes) == {
        "http.request.method": "GET",
        "url.full": f"{server}/200?page=2&token=REDACTED",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
        "correlation_id": f"{span.context.trace_id:032x}",
        **address,
    }
    assert point.attributes == {"http.request.method": "GET", "http.response.status_code": 200, **address}


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_an_answer_that_refuses_is_an_error_of_the_call(seen, get, server, status):
    """For a client, 4xx counts as well."""
    get(f"{server}/{status}")
    assert seen.spans[0].status.status_code == StatusCode.ERROR
    assert outcome(seen) == [{"http.response.status_code": status, "error.type": str(status)}]


def test_each_redirect_is_a_call_of_its_own(seen, get, server):
    """They belong to the same work, not to each other."""
    with trace.get_tracer("test").start_as_current_span("work"):
        get(f"{server}/redirect", follow_redirects=True)
    assert span_tree(seen.spans) == "work\n  GET\n  GET"
    assert [span.attributes.get("http.response.status_code") for span in seen.spans] == [302, 404, None]
    outcomes = sorted(outcome(seen), key=len)
    assert outcomes == [
        {"http.response.status_code": 302},
        {"http.response.status_code": 404, "error.type": "404"},
    ]


def test_a_refused_connection_is_measured(seen, get):
    """The exception is on the span."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(get.library.ConnectError):
        get(f"http://127.0.0.1:{port}/")
    (span,) = seen.spans
    name = f"{get.library.__name__}.ConnectError"
    assert outcome(seen) == [{"error.type": name}]
    assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, name)
    assert span.status.description.startswith("ConnectError: ")
    assert [event.attributes["exception.type"] for event in span.events] == [name]


def test_a_timeout_is_measured(seen, get, server):
    """It is what operators look for."""
    Server.released.clear()
    try:
        with pytest.raises(get.library.ReadTimeout):
            get(f"{server}/slow", timeout=get.library.Timeout(5, read=0.02))
    finally:
        Server.released.set()
    assert outcome(seen) == [{"error.type": f"{get.library.__name__}.ReadTimeout"}]


def test_a_cancelled_call_is_measured(seen):
    """The caller gave up."""

    async def run():
        started, never = asyncio.Event(), asyncio.Event()

        async def hang(_request):
            started.set()
            await never.wait()

        async with httpx.AsyncClient(transport=httpx.MockTransport(hang)) as client:
            call = asyncio.create_task(client.get("http://pay.example/"))
            await started.wait()
            call.cancel()
            await asyncio.wait([call])

    asyncio.run(run())
    assert outcome(seen) == [{"error.type": "asyncio.exceptions.CancelledError"}]


def test_a_call_that_cannot_be_made_is_measured(seen):
    """A URL without a host never leaves the process."""
    with httpx.Client() as client, pytest.raises(httpx.UnsupportedProtocol):
        client.get("/relative")
    assert outcome(seen) == [{"error.type": "httpx.UnsupportedProtocol"}]


def test_the_ids_are_sent(seen, get):
    """Trace context of the call itself, and the correlation id of the work that it belongs to."""
    sent = []

    def answer(request):
        sent.append(request.headers)
        return get.library.Response(200)

    with trace.get_tracer("test").start_as_current_span("work"):
        expected = correlation_id()
        get(
            "http://pay.example/",
            transport=get.library.MockTransport(answer),
            headers={"traceparent": "stale"},
        )
    call = seen.spans[0].context
    ids = f"00-{call.trace_id:032x}-{call.span_id:016x}-{call.trace_flags:02x}"
    assert sent[0]["traceparent"] == ids
    assert sent[0]["x-correlation-id"] == expected == f"{call.trace_id:032x}"


def test_a_request_that_is_sent_again_gets_new_ids(seen):
    """Nothing of the first attempt stays."""
    sent = []

    def answer(request):
        sent.append(request.headers["traceparent"])
        return httpx.Response(503)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        request = client.build_request("GET", "http://pay.example/")
        client.send(request)
        client.send(request)
    assert [f"{span.context.span_id:016x}" for span in seen.spans] == [each.split("-")[2] for each in sent]


def test_inside_the_call_its_span_is_current(seen):
    """Log lines of transports belong to it."""
    current = []

    def answer(_request):
        current.append(trace.get_current_span().get_span_context().span_id)
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.get("http://pay.example/")
    assert current == [seen.spans[0].context.span_id]
    assert not trace.get_current_span().get_span_context().is_valid


def test_a_call_into_an_application_in_the_same_process_is_one_tree(seen):
    """Client span above server span, though both are in one task."""
    app = Starlette(routes=[Route("/x/{id}", lambda _request: PlainTextResponse(correlation_id()))])

    async def run():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pay") as client:
            return await client.get("/x/1", headers={"x-correlation-id": "order-7"})

    response = asyncio.run(run())
    assert span_tree(seen.spans) == "GET\n  GET /x/{id}"
    assert response.headers["x-trace-id"] == f"{seen.spans[0].context.trace_id:032x}"


def test_a_streamed_answer_is_measured_up_to_its_headers(seen):
    """How long its body is read is up to the caller."""
    app = Starlette(routes=[Route("/", lambda _request: StreamingResponse(iter(["a", "b"])))])

    async def run():
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pay") as client,
            client.stream("GET", "/") as response,
        ):
            before = [span.kind for span in seen.spans]
            return before, await response.aread()

    before, body = asyncio.run(run())
    assert (SpanKind.CLIENT in before, body) == (True, b"ab")


@pytest.mark.parametrize("suppress", [suppress_instrumentation, suppress_http_instrumentation])
def test_suppressed_calls_leave_nothing(seen, get, suppress):
    """Exporters ask for that, so that telemetry does not watch itself."""
    sent = []

    def answer(request):
        sent.append("traceparent" in request.headers)
        return get.library.Response(200)

    with suppress():
        get("http://pay.example/", transport=get.library.MockTransport(answer))
    assert (sent, seen.spans, seen.measured(DURATION)) == ([False], [], [])


def test_without_an_edge_calls_go_out_as_they_are(seen):
    """`http_edges="off"`, or no setup at all."""
    edge = edge_module._edge()
    edge_module.install(None)
    try:
        with httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(200))) as client:
            client.get("http://pay.example/")
    finally:
        edge_module.install(edge)
    assert seen.spans == []


def test_installing_again_observes_nothing_twice(seen):
    """Setup may be called more than once."""
    edge_module.install(edge_module._edge())
    with httpx.Client(transport=httpx.MockTransport(lambda _request: httpx.Response(200))) as client:
        client.get("http://pay.example/")
    assert len(seen.spans) == 1


def test_a_library_of_an_unknown_kind_is_left_alone(caplog):
    """A future release may rename what we hook; importing it still works."""
    future = types.SimpleNamespace(
        __name__="httpx9", Client=type("Client", (), {}), AsyncClient=type("Async", (), {})
    )
    with caplog.at_level(logging.WARNING, "tercet"):
        edge_module._hook(future)
    assert "httpx9 is of an unknown kind" in caplog.text


def test_the_edge_takes_providers_of_its_own(seen):
    """What is given is used, and the global ones are left alone."""
    reader = InMemoryMetricReader()
    edge = HttpxEdge(
        duration_buckets=(0.1, 1.0), tracer_provider=TracerProvider(), meter_provider=MeterProvider([reader])
    )
    with edge.observe(httpx.Request("GET", "http://pay.example/")) as note:
        note(httpx.Response(204))
    (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert (metric.name, metric.unit, tuple(point.explicit_bounds)) == (DURATION, "s", (0.1, 1.0))
    assert (seen.spans, seen.measured(DURATION)) == ([], [])


@given(st.text(max_size=12), st.text(max_size=12), st.text(max_size=12))
def test_no_password_stays_in_any_url(user, password, query):
    """Whatever it holds."""
    try:
        url = httpx.URL("http://pay.example/", params={"q": query}, username=user, password=password)
    except httpx.InvalidURL:
        return
    assert httpx.URL(redacted_url(str(url))).userinfo in (b"", b"REDACTED:REDACTED")


@given(st.text(max_size=30))
def test_any_text_that_httpx_takes_for_a_url_can_be_stored(text):
    """Whatever an application asks for, telemetry does not stand in its way."""
    try:
        url = httpx.URL(f"http://{text}")
    except Exception:
        return
    redacted_url(str(url))
