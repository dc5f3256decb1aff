import asyncio
import sys

import httpx
import pytest
from asgi_driver import (
    BODY,
    CONNECT,
    GONE,
    body_of,
    headers_of,
    http_scope,
    play,
    play_failing,
    serve,
    websocket_scope,
)
from fastapi import APIRouter, FastAPI
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute

from tercet import ObservabilityMiddleware, correlation_id
from tercet.emit import asgi, contrib
from tercet.emit import httpx as our_httpx
from tercet.emit.contrib import ContribEdge
from tercet.emit.logs import access_logger
from tercet.errors import SetupError
from tercet.testing import span_tree

DURATION = "http.server.request.duration"
ACTIVE = "http.server.active_requests"


@pytest.fixture(autouse=True)
def _contrib(seen):
    """Contrib observes requests, as `http_edges="contrib"` sets it up."""
    ours = asgi.installed
    asgi.install(ContribEdge(excluded_paths=("/health",), access_log=access_logger()))
    yield
    asgi.install(ours)


def shop():
    app = FastAPI()
    router = APIRouter(prefix="/orders")

    @router.get("/{order}")
    async def order(order: int):
        if order == 13:
            raise LookupError("no such order")
        return correlation_id()

    app.include_router(router, prefix="/api")
    sub = FastAPI()
    sub.include_router(router)
    app.mount("/tenants/{tenant}", sub)
    return app


def outcome(seen):
    """What the only duration point says of the response."""
    (point,) = seen.measured(DURATION)
    assert point.count == 1
    keys = ("http.route", "http.response.status_code", "error.type")
    return {key: point.attributes[key] for key in keys if key in point.attributes}


def test_contrib_makes_the_only_span_and_the_only_point(seen):
    """With our route on both, our ids in the response, and our access line."""
    sent = play(shop(), http_scope("/tenants/a/orders/7", headers=[(b"x-correlation-id", b"order-7")]))
    (span,) = seen.spans
    (line,) = [record.log_record for record in seen.logs]
    assert (span.name, span.kind) == ("GET /tenants/{tenant}/orders/{order}", SpanKind.SERVER)
    assert span.instrumentation_scope.name == "opentelemetry.instrumentation.asgi"
    assert span.attributes["http.route"] == "/tenants/{tenant}/orders/{order}"
    assert outcome(seen) == {
        "http.route": "/tenants/{tenant}/orders/{order}",
        "http.response.status_code": 200,
    }
    assert headers_of(sent)["x-correlation-id"] == "order-7"
    assert headers_of(sent)["x-trace-id"] == f"{span.context.trace_id:032x}"
    assert (line.body, line.attributes["route"]) == ("request_completed", "/tenants/{tenant}/orders/{order}")
    assert line.trace_id == span.context.trace_id
    assert body_of(sent) == '"order-7"'


def test_its_span_is_ended_by_contrib_alone(seen, caplog):
    """Ended twice, the SDK would complain of each request in the log."""
    play(shop(), http_scope("/api/orders/7"))
    assert (len(seen.spans), [each.message for each in caplog.records if "end" in each.message]) == (1, [])


def test_there_are_no_spans_for_single_messages(seen):
    """A stream of many parts is one span."""
    app = Starlette(routes=[Route("/", lambda _request: StreamingResponse(iter("abc")))])
    play(app, http_scope())
    assert span_tree(seen.spans) == "GET /"


def test_a_crash_is_named_by_its_exception(seen):
    """Contrib alone says 500."""
    play_failing(shop(), http_scope("/api/orders/13"))
    assert outcome(seen) == {
        "http.route": "/api/orders/{order}",
        "http.response.status_code": 500,
        "error.type": "LookupError",
    }
    assert seen.spans[0].status.status_code == StatusCode.ERROR
    assert [record.log_record.body for record in seen.logs] == ["request_failed"]


def test_a_crash_that_nobody_answers_is_named_by_its_exception(seen):
    """A plain ASGI application leaves the answer to the server."""

    async def app(_scope, _receive, _send):
        raise KeyError("id")

    play_failing(ObservabilityMiddleware(app), http_scope())
    assert outcome(seen) == {"http.response.status_code": 500, "error.type": "KeyError"}


def test_a_route_that_sends_nothing_is_on_the_span(seen):
    """It was found before the application failed."""

    class Silent:
        async def __call__(self, scope, receive, send):
            await receive()

    play(ObservabilityMiddleware(Route("/x/{id}", Silent())), http_scope("/x/1"), [BODY])
    assert seen.spans[0].name == "GET /x/{id}"
    assert outcome(seen) == {"http.route": "/x/{id}", "error.type": "incomplete_response"}


def test_a_disconnect_is_an_error(seen):
    """Contrib alone counts it as nothing."""

    async def app(_scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    play(ObservabilityMiddleware(app), http_scope(), [GONE])
    assert outcome(seen) == {"http.response.status_code": 200, "error.type": "client_disconnected"}


def test_an_excluded_path_leaves_nothing_behind(seen):
    """As with our own edge."""
    play(shop(), http_scope("/health"))
    assert (seen.spans, seen.measured(DURATION), seen.logs) == ([], [], [])


def test_a_websocket_is_one_span_without_a_point(seen):
    """Named by its route."""

    async def chat(websocket):
        await websocket.accept()
        await websocket.close()

    play(Starlette(routes=[WebSocketRoute("/rooms/{room}", chat)]), websocket_scope("/rooms/7"), [CONNECT])
    assert [span.name for span in seen.spans] == ["WS /rooms/{room}"]
    assert seen.measured(DURATION) == []


def test_active_requests_are_counted_once_and_end_at_zero(seen):
    """By contrib alone."""
    play(shop(), http_scope("/api/orders/7"))
    play_failing(shop(), http_scope("/api/orders/13"))
    scopes = {point.value for point in seen.measured(ACTIVE)}
    assert scopes <= {0}


def test_a_call_within_a_request_leaves_that_request_as_it_was(seen):
    """Both are in one task, and each is measured with its own route."""
    inner = shop()

    async def outer(_request):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(inner), base_url="http://shop") as client:
            return PlainTextResponse((await client.get("/api/orders/7")).text)

    play(Starlette(routes=[Route("/outer", outer)]), http_scope("/outer"))
    assert sorted(point.attributes["http.route"] for point in seen.measured(DURATION)) == [
        "/api/orders/{order}",
        "/outer",
    ]


def test_a_request_that_starts_inside_another_ones_context_is_its_own(seen):
    """Servers start a pipelined request in the task of the one before."""

    async def pipelined():
        tasks = []

        async def first(_request):
            tasks.append(asyncio.create_task(serve(shop(), http_scope("/api/orders/7"))))
            return PlainTextResponse("ok")

        await serve(Starlette(routes=[Route("/first", first)]), http_scope("/first"))
        await tasks[0]

    asyncio.run(pipelined())
    assert [span.kind for span in seen.spans] == [SpanKind.SERVER] * 2
    assert len({span.context.trace_id for span in seen.spans}) == 2


def test_two_requests_at_once_are_measured_each_with_its_own_route(seen):
    """On one loop, taking turns."""

    async def both():
        barrier = asyncio.Barrier(2)

        async def wait(_request):
            await barrier.wait()
            return PlainTextResponse("ok")

        app = Starlette(routes=[Route("/a", wait), Route("/b", wait)])
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            await asyncio.gather(client.get("/a"), client.get("/b"))

    asyncio.run(both())
    assert sorted(point.attributes["http.route"] for point in seen.measured(DURATION)) == ["/a", "/b"]


@pytest.mark.parametrize(
    ("module", "act"),
    [
        ("opentelemetry.instrumentation.asgi", ContribEdge),
        ("opentelemetry.instrumentation.httpx", contrib.install_httpx),
    ],
)
def test_a_missing_package_is_an_error_that_says_what_to_install(monkeypatch, module, act):
    """At setup, not at the first request."""
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delattr("opentelemetry.instrumentation.httpx", raising=False)
    with pytest.raises(
        SetupError, match=r"must be tercet or off .* got 'contrib'.*install tercet\[contrib\]"
    ):
        act()


def test_contrib_observes_httpx_where_it_is_asked_to(seen):
    """One span a call, of contrib's making."""
    ours = our_httpx._edge()
    our_httpx.install(None)
    contrib.install_httpx()
    try:
        with pytest.raises(httpx.ConnectError), httpx.Client(trust_env=False) as client:
            client.get("http://127.0.0.1:1/")
    finally:
        HTTPXClientInstrumentor().uninstrument()
        HTTPX2ClientInstrumentor().uninstrument()
        our_httpx.install(ours)
    assert [span.instrumentation_scope.name for span in seen.spans] == ["opentelemetry.instrumentation.httpx"]
