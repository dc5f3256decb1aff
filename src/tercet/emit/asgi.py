"""The edge for ASGI: each request has one owner, whoever else is in the stack."""

import logging
import random
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, create_key, detach, get_value, set_value
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from tercet.declare.metric import DURATION_BUCKETS, HTTP_SERVER_ACTIVE, HTTP_SERVER_DURATION
from tercet.emit.exchange import (
    CLAIMS,
    OWNER,
    App,
    Exchange,
    Receive,
    Scope,
    Send,
    disclaim,
    tell_of_trouble,
)
from tercet.emit.metrics import ActiveCounts, build_recorder
from tercet.emit.registry import REGISTRY, Registry

#: What is observed, by the type of its scope, where nobody owns it yet.
OBSERVED = ("http", "websocket")
#: Where a context says that its work is left out of all signals.
EXCLUDED = create_key("tercet-excluded")


def is_excluded(context: Context | None = None) -> bool:
    """Say whether the work at hand belongs to a path that is left out of all signals."""
    return bool(get_value(EXCLUDED) if context is None else context.get(EXCLUDED))


def any_of(patterns: Iterable[str]) -> Callable[[str], object]:
    """Return what says whether a path is one of these; a trailing `*` takes everything below.

    >>> is_probe = any_of(("/health", "/internal/*"))
    >>> bool(is_probe("/health")), bool(is_probe("/internal/x")), bool(is_probe("/healthy"))
    (True, True, False)
    """
    written = [re.escape(pattern.removesuffix("*")) + ".*" * pattern.endswith("*") for pattern in patterns]
    return re.compile("|".join(written) if written else "(?!)", re.DOTALL).fullmatch


class AsgiEdge:
    """Observe the requests of an ASGI application.

    Args:
        excluded_paths: Paths left out of all three signals; a trailing `*` takes everything below.
        access_log: Where `request_completed` and `request_failed` are written; None for nowhere.
        duration_buckets: Upper bounds of the request duration, in seconds.
        begin: Called once, when this process begins to serve: then it is no supervisor of others that do.
        end: Called when an application has ended its lifespan.
        tracer_provider: The global one when not given; likewise for the meter provider.
        meter_provider: See above.
        registry: Knows the objectives whose events are counted.
    """

    def __init__(
        self,
        *,
        excluded_paths: Iterable[str] = (),
        access_log: logging.Logger | None = None,
        duration_buckets: tuple[float, ...] = DURATION_BUCKETS,
        begin: Callable[[], object] | None = None,
        end: Callable[[], object] = lambda: None,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        registry: Registry = REGISTRY,
    ) -> None:
        meter = metrics.get_meter("tercet.asgi", meter_provider=meter_provider)
        self._is_excluded = any_of(excluded_paths)
        self.access_log = access_log
        self._begin = [begin] if begin is not None else []
        self._end = end
        self.tracer = trace.get_tracer("tercet.asgi", tracer_provider=tracer_provider)
        metric = replace(HTTP_SERVER_DURATION, buckets=duration_buckets)
        self.duration = build_recorder(meter, metric, registry.objectives)
        self.active = ActiveCounts(meter, HTTP_SERVER_ACTIVE)

    def observe(self, app: App, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Run `app` for one request that nobody owns yet, and observe it."""
        # Not a coroutine itself: each one on the way costs the request whenever it waits for something.
        scope.update(CLAIMS)
        if self._begin:
            self._begin_to_serve()
        path, root = scope["path"], scope.get("root_path")
        if self._is_excluded(path) or (root and self._is_excluded(path.removeprefix(root))):
            return _run_excluded(app, scope, receive, send)
        return self._run(app, scope, receive, send)

    async def live(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Run an application's lifespan, and take note where the outermost one begins and ends."""
        if OWNER in scope:
            await app(scope, receive, send)
            return
        self._begin_to_serve()
        scope[OWNER] = None
        try:
            await app(scope, receive, send)
        finally:
            del scope[OWNER]
            # The process is about to end, whatever its event loop is; nothing is left to hold up.
            self._end()

    def _begin_to_serve(self) -> None:
        while self._begin:
            self._begin.pop()()

    def _run(self, app: App, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        try:
            scope[OWNER] = exchange = Exchange(self, scope, receive, send)
        except Exception as trouble:  # of a foreign processor or propagator
            tell_of_trouble(trouble)
            return _run_unobserved(app, scope, receive, send)
        return exchange.run(app)


async def _run_unobserved(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await app(scope, receive, send)
    finally:
        disclaim(scope)


async def _run_excluded(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    """Run `app` under a span that is sampled by nobody, so that its children and callees stay out too."""
    unsampled = SpanContext(random.getrandbits(128) | 1, random.getrandbits(64) | 1, is_remote=False)
    context = set_span_in_context(NonRecordingSpan(unsampled), set_value(EXCLUDED, True, Context()))
    token = attach(context)
    try:
        await app(scope, receive, send)
    finally:
        detach(token)
        disclaim(scope)


#: The edge that middlewares and framework hooks use; see `install`.
installed: AsgiEdge | None = None


def install(edge: AsgiEdge | None) -> None:
    """Make `edge` the one that middlewares and framework hooks use; None turns them off."""
    global installed  # noqa: PLW0603 - one process, one edge
    installed = edge


class ObservabilityMiddleware:
    """Observe any ASGI application, also one whose framework tercet does not know.

    FastAPI and Starlette applications need none: `setup_observability()` finds them. Adding it there all the
    same, or twice, changes nothing.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, observed if nobody outside observes the request already."""
        edge = installed
        if edge is not None and scope["type"] == "lifespan":
            await edge.live(self.app, scope, receive, send)
        elif edge is not None and scope["type"] in OBSERVED and OWNER not in scope:
            await edge.observe(self.app, scope, receive, send)
        else:
            await self.app(scope, receive, send)
