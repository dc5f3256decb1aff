"""`http_edges="contrib"`: upstream's own HTTP edges, with our routes, ids and access lines.

Contrib makes the span and the measurements. An exchange runs inside, borrows that span, and adds what contrib
leaves out: the route found by routing, the kind of failure, the response headers and the access line.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.metrics import Histogram, NoOpMeterProvider
from opentelemetry.trace import Span

from tercet.declare.metric import HTTP_SERVER_DURATION
from tercet.emit.asgi import AsgiEdge
from tercet.emit.correlation import correlation_id, with_correlation_id
from tercet.emit.distributions import Histograms
from tercet.emit.exchange import OWNER, App, Exchange, Message, Receive, Scope, Send, disclaim
from tercet.emit.headers import HeaderMap
from tercet.emit.http import span_name
from tercet.emit.registry import REGISTRY
from tercet.errors import SetupError

_app: ContextVar[App] = ContextVar("tercet-contrib-app")
_exchange: ContextVar["_Borrowing | None"] = ContextVar("tercet-contrib-exchange", default=None)


class ContribEdge(AsgiEdge):
    """Observe requests with contrib's ASGI middleware, without its spans for single messages.

    Args:
        options: As for `AsgiEdge`; the buckets come from the views.

    Raises:
        SetupError: The contrib package is not installed.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, meter_provider=NoOpMeterProvider())
        # Contrib measures; what is recorded here is collected by nobody, but counted for objectives.
        self.duration = counting = Histograms(replace(HTTP_SERVER_DURATION, buckets=()))
        options.get("registry", REGISTRY).objectives.take(counting)
        middleware = _middleware_class()(self._inside, exclude_spans=["receive", "send"])
        middleware.duration_histogram_new = _Completed(middleware.duration_histogram_new)
        self._middleware = middleware

    async def _run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        call = type(self._middleware).__call__
        # A request made within another one, in the same task, leaves that one as it was.
        app_token, exchange_token = _app.set(app), _exchange.set(None)
        # Contrib would take a span that the server left current for the parent.
        context_token = attach(Context())
        try:
            # Our hook on the class would take contrib's middleware for one that must stay out.
            await getattr(call, "__wrapped__", call)(self._middleware, scope, receive, send)
        finally:
            detach(context_token)
            _exchange.reset(exchange_token)
            _app.reset(app_token)
            disclaim(scope)

    async def _inside(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[OWNER] = exchange = _Borrowing(self, scope, receive, send)
        _exchange.set(exchange)
        await exchange.run(_app.get())


def _middleware_class() -> Any:
    try:
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
    except ImportError as error:
        raise _not_installed() from error
    return OpenTelemetryMiddleware


def _not_installed() -> SetupError:
    return SetupError(
        "http_edges (TERCET_HTTP_EDGES) must be tercet or off while contrib's edges are not installed, "
        "got 'contrib'. Write tercet, or install tercet[contrib]."
    )


class _Borrowing(Exchange):
    """An exchange on a span that contrib starts, ends and gives its status.

    Attributes:
        known: What is known when the response is complete, by attribute.
    """

    known: Mapping[str, str | int] = MappingProxyType({})

    def _start_span(self, _headers: HeaderMap) -> tuple[Span, Context]:
        context = get_current()
        return trace.get_current_span(), with_correlation_id(correlation_id(context), context)

    def _noticed(self, message: Message, kind: str) -> Message:
        # Contrib ends the span before we learn that the response is complete.
        if kind in ("http.response.start", "websocket.accept"):
            self._name_span()
        return super()._noticed(message, kind)

    def _name_span(self) -> None:
        if self.route and self._span.is_recording():
            self._span.update_name(span_name(self._method, self.route))
            self._span.set_attribute("http.route", self.route)

    def _end_span(self, failure: str | None, _error: BaseException | None) -> None:
        """Name it; leave the rest to contrib."""
        self.known = self.outcome(failure)
        self._name_span()


class _Completed:
    """A histogram that adds to each measurement what the exchange knows and contrib does not."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def record(self, amount: float, attributes: dict[str, Any], context: Context | None = None) -> None:
        exchange = _exchange.get()
        known = exchange.known if exchange is not None else {}
        self._histogram.record(amount, {**attributes, **known}, context)


def require_httpx() -> Any:
    """Return contrib's edge for httpx.

    Raises:
        SetupError: The contrib package is not installed.
    """
    try:
        from opentelemetry.instrumentation import httpx
    except ImportError as error:
        raise _not_installed() from error
    return httpx


def install_httpx() -> None:
    """Let contrib observe httpx, and httpx2 where it is installed."""
    httpx = require_httpx()
    for name in ("HTTPXClientInstrumentor", "HTTPX2ClientInstrumentor"):
        instrumentor = getattr(httpx, name, None)
        if instrumentor is not None:
            instrumentor().instrument()
