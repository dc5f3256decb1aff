import asyncio
import logging

import pytest
from asgi_driver import CONNECT, body_of, http_scope, play, serve, websocket_scope
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ContribMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route, Router

from tercet import ObservabilityMiddleware
from tercet.emit import asgi, starlette
from tercet.emit.asgi import AsgiEdge, any_of

DURATION = "http.server.request.duration"


def endpoint(_request):
    return PlainTextResponse("ok")


def fastapi_app(**options):
    app = FastAPI(**options)
    app.add_route("/x/{id}", endpoint)
    return app


def starlette_app(**options):
    return Starlette(routes=[Route("/x/{id}", endpoint)], **options)


def with_middleware(kind, app=None, times=1):
    app = app or fastapi_app()
    for _ in range(times):
        app.add_middleware(kind)
    return app


def starlettes_own(app):
    return pytest.importorskip("starlette.middleware.opentelemetry").OpenTelemetryMiddleware(app)


def with_starlettes_own():
    own = pytest.importorskip("starlette.middleware.opentelemetry").OpenTelemetryMiddleware
    return with_middleware(own, starlette_app())


def instrumented():
    app = fastapi_app()
    FastAPIInstrumentor.instrument_app(app)
    return app


def mounted(inner):
    app = FastAPI()
    app.mount("/in", inner)

    async def below(scope, receive, send):
        await app({**scope, "path": f"/in{scope['path']}"}, receive, send)

    return below


def everything():
    inside = with_middleware(ContribMiddleware, with_middleware(ObservabilityMiddleware, instrumented()))
    return ObservabilityMiddleware(ContribMiddleware(inside))


class Subclass(FastAPI):
    """An application that does something of its own first."""

    async def __call__(self, scope, receive, send):
        scope["state"] = {"seen": True}
        await super().__call__(scope, receive, send)


def subclass():
    app = Subclass()
    app.add_route("/x/{id}", endpoint)
    return app


STACKS = {
    "FastAPI": fastapi_app,
    "Starlette": starlette_app,
    "our middleware around FastAPI": lambda: ObservabilityMiddleware(fastapi_app()),
    "our middleware around our middleware": lambda: ObservabilityMiddleware(
        ObservabilityMiddleware(Router([Route("/x/{id}", endpoint)]))
    ),
    "our middleware added": lambda: with_middleware(ObservabilityMiddleware),
    "our middleware added twice": lambda: with_middleware(ObservabilityMiddleware, times=2),
    "Starlette's middleware added": with_starlettes_own,
    "Starlette's middleware around Starlette": lambda: starlettes_own(starlette_app()),
    "Starlette's middleware around FastAPI": lambda: starlettes_own(fastapi_app()),
    "Starlette's middleware around a router": lambda: starlettes_own(Router([Route("/x/{id}", endpoint)])),
    "contrib's middleware added": lambda: with_middleware(ContribMiddleware),
    "contrib's middleware around FastAPI": lambda: ContribMiddleware(fastapi_app()),
    "contrib's middleware around a router": lambda: ContribMiddleware(Router([Route("/x/{id}", endpoint)])),
    "contrib's instrumentor": instrumented,
    "contrib's instrumentor and our middleware": lambda: ObservabilityMiddleware(instrumented()),
    "everything": everything,
    "FastAPI mounted": lambda: mounted(fastapi_app()),
    "contrib's instrumentor mounted": lambda: mounted(instrumented()),
    "Starlette mounted": lambda: mounted(starlette_app()),
    "a subclass": subclass,
}  # fmt: skip


@pytest.mark.parametrize("name", STACKS)
def test_every_request_has_one_owner(seen, name):
    """Whoever else is in the stack: one server span, one duration point, one access line."""
    play(STACKS[name](), http_scope("/x/1"))
    points = seen.measured(DURATION)
    assert [span.kind for span in seen.spans] == [SpanKind.SERVER]
    assert seen.spans[0].name == ("GET /in/x/{id}" if "mounted" in name else "GET /x/{id}")
    assert [point.count for point in points] == [1]
    assert [record.log_record.body for record in seen.logs] == ["request_completed"]


@pytest.mark.parametrize("name", STACKS)
def test_an_excluded_request_has_no_owner_at_all(seen, name):
    """Nobody else in the stack takes it over."""
    play(STACKS[name](), http_scope("/health"))
    if "mounted" not in name:
        assert (seen.spans, seen.measured(DURATION), seen.logs) == ([], [], [])


@pytest.mark.parametrize(
    "name", ["FastAPI", "contrib's instrumentor", "everything", "our middleware added twice"]
)
def test_every_websocket_has_one_owner(seen, name):
    """As every request."""
    play(STACKS[name](), websocket_scope("/nowhere"), [CONNECT])
    assert [span.name for span in seen.spans] == ["WS"]
    assert seen.measured(DURATION) == []


def test_an_application_made_before_the_edge_was_installed_is_observed(seen):
    """The hooks sit on the classes."""
    edge = asgi.installed
    asgi.install(None)
    before = (
        fastapi_app(telemetry={"tracing": False, "metrics": False, "logs": False})
        if native()
        else fastapi_app()
    )
    play(before, http_scope("/x/1"))
    assert seen.spans == []
    asgi.install(edge)
    play(before, http_scope("/x/1"))
    assert [span.name for span in seen.spans] == ["GET /x/{id}"]


def native():
    """Whether this FastAPI has telemetry of its own, which takes over when no edge is installed."""
    return hasattr(FastAPI(), "_native_telemetry")


def test_installing_the_hooks_again_hooks_nothing_twice(seen):
    """Setup may be called more than once."""
    before = (FastAPI.__call__, Starlette.__call__, Route.handle)
    starlette.install()
    assert before == (FastAPI.__call__, Starlette.__call__, Route.handle)


def test_the_middleware_without_an_edge_passes_on(seen):
    """`http_edges="off"`, or no setup at all."""
    edge = asgi.installed
    asgi.install(None)
    try:
        sent = play(ObservabilityMiddleware(Router([Route("/x/{id}", endpoint)])), http_scope("/x/1"))
    finally:
        asgi.install(edge)
    assert (body_of(sent), seen.spans) == ("ok", [])


def test_the_lifespan_is_no_request(seen):
    """It passes through, unobserved."""
    scopes = []

    async def app(scope, _receive, _send):
        scopes.append(dict(scope))

    scope = {"type": "lifespan"}
    play(ObservabilityMiddleware(app), scope)
    assert (len(scopes), scope, seen.spans) == (1, {"type": "lifespan"}, [])


def test_the_outermost_lifespan_begins_and_ends_the_serving(seen):
    """Once each, around applications that are nested; a request begins it where there is no lifespan."""
    told = []
    edge = AsgiEdge(begin=lambda: told.append("begin"), end=lambda: told.append("end"))

    async def inner(_scope, _receive, _send):
        told.append("live")

    async def outer(scope, receive, send):
        await edge.live(inner, scope, receive, send)

    async def app(scope, receive, send):
        await edge.live(outer, scope, receive, send)

    play(app, {"type": "lifespan"})
    play(app, {"type": "lifespan"})
    assert told == ["begin", "live", "end", "live", "end"]


def test_a_request_begins_the_serving_where_there_is_no_lifespan():
    """Servers may be told to leave the lifespan out."""
    told = []
    edge = AsgiEdge(begin=lambda: told.append("begin"))

    async def app(scope, receive, send):
        await edge.observe(PlainTextResponse("ok"), scope, receive, send)

    play(app, http_scope("/x/1"))
    play(app, http_scope("/x/1"))
    assert told == ["begin"]


def test_a_call_made_inside_a_request_is_a_request_of_its_own(seen):
    """Applications in one process call each other without a network; the headers say who belongs to whom."""
    inner = fastapi_app()

    async def calling(_scope, _receive, send):
        traceparent = f"00-{trace.get_current_span().get_span_context().trace_id:032x}-{1:016x}-01"
        await serve(inner, http_scope("/x/1", headers=[(b"traceparent", traceparent.encode())]))
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    play(ObservabilityMiddleware(calling), http_scope("/out"))
    assert [span.name for span in seen.spans] == ["GET /x/{id}", "GET"]
    assert len({span.context.trace_id for span in seen.spans}) == 1
    assert sorted(point.attributes["http.response.status_code"] for point in seen.measured(DURATION)) == [
        200,
        204,
    ]


def test_the_edge_takes_providers_of_its_own(seen):
    """What is given is used, and the global ones are left alone."""
    reader, log = InMemoryMetricReader(), logging.getLogger("test.access")
    edge = AsgiEdge(
        access_log=log,
        duration_buckets=(0.1, 1.0),
        tracer_provider=TracerProvider(),
        meter_provider=MeterProvider([reader]),
    )
    asyncio.run(edge.observe(Router([Route("/x/{id}", endpoint)]), *driven(http_scope("/x/1"))))
    metrics = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    (point,) = next(metric for metric in metrics if metric.name == DURATION).data.data_points
    assert (tuple(point.explicit_bounds), point.count) == ((0.1, 1.0), 1)
    assert [record.log_record.attributes["route"] for record in seen.logs] == ["/x/{id}"]
    assert (seen.spans, seen.measured(DURATION)) == ([], [])


def driven(scope):
    """A scope with a server that nobody watches."""

    async def receive():
        return {"type": "http.request"}

    async def send(_message):
        pass

    return scope, receive, send


def test_without_an_access_log_there_are_no_lines(seen):
    """A setting."""
    edge = AsgiEdge()
    asyncio.run(edge.observe(Mount("/", Router([Route("/x/{id}", endpoint)])), *driven(http_scope("/x/1"))))
    assert (len(seen.spans), seen.logs) == (1, [])


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        ("/health", True),
        ("/health/", False),
        ("/healthy", False),
        ("/internal/", True),
        ("/internal/\n", True),
        ("/internal", False),
    ],
)
def test_paths_match_whole_or_by_prefix(path, is_one):
    """Nothing matches by accident."""
    assert bool(any_of(["/health", "/internal/*"])(path)) is is_one


def test_no_patterns_exclude_nothing():
    """A setting."""
    assert not any_of([])("/")


class Failing(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise RuntimeError("no start")

    def on_end(self, span):
        raise RuntimeError("no end")


class FailingAtTheEnd(Failing):
    def on_start(self, span, parent_context=None):
        pass


@pytest.mark.parametrize("processor", [Failing(), FailingAtTheEnd()])
def test_a_processor_that_fails_fails_no_request(processor):
    """A foreign span processor that raises costs the telemetry of the request, not the request."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    edge = AsgiEdge(tracer_provider=provider)

    async def app(scope, receive, send):
        await edge.observe(PlainTextResponse("ok"), scope, receive, send)

    assert body_of(play(app, http_scope("/x/1"))) == "ok"
