"""The edge for httpx and httpx2: a span and a duration point for each request that goes out.

The hook sits where a client sends one request through whichever transport it has, so redirects are spans of
their own, as the conventions want it, and test transports are covered too.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import Any

import wrapt
from opentelemetry import metrics, trace
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.trace import Span, SpanKind, StatusCode, set_span_in_context

from tercet.declare.metric import DURATION_BUCKETS, HTTP_CLIENT_DURATION
from tercet.emit.asgi import is_excluded
from tercet.emit.http import (
    CLIENT_FAILURE,
    Attributes,
    client_attributes,
    error_type,
    known_method,
    span_name,
)
from tercet.emit.metrics import build_recorder
from tercet.emit.propagate import propagate
from tercet.emit.registry import REGISTRY, Registry
from tercet.emit.traces import record_error

logger = logging.getLogger("tercet")


class HttpxEdge:
    """Observe outgoing requests.

    Args:
        duration_buckets: Upper bounds of the request duration, in seconds.
        tracer_provider: The global one when not given; likewise for the meter provider.
        meter_provider: See above.
        registry: Knows the objectives whose events are counted.
    """

    def __init__(
        self,
        *,
        duration_buckets: tuple[float, ...] = DURATION_BUCKETS,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        registry: Registry = REGISTRY,
    ) -> None:
        self._tracer = trace.get_tracer("tercet.httpx", tracer_provider=tracer_provider)
        meter = metrics.get_meter("tercet.httpx", meter_provider=meter_provider)
        metric = replace(HTTP_CLIENT_DURATION, buckets=duration_buckets)
        self._duration = build_recorder(meter, metric, registry.objectives)

    @contextmanager
    def observe(self, request: Any) -> Iterator[Callable[[Any], None]]:
        """Observe the sending of `request`; call what this yields with the response."""
        url = request.url
        attributes = client_attributes(request.method, str(url), url.host, url.port, url.scheme)
        span = self._tracer.start_span(
            span_name(known_method(request.method), None), kind=SpanKind.CLIENT, attributes=attributes
        )
        context = set_span_in_context(span)
        outcome: Attributes = {}
        started = perf_counter()
        token = attach(context)
        try:
            propagate.inject(request.headers, context)
            yield functools.partial(_note_response, span, outcome)
        except BaseException as error:
            outcome["error.type"] = error_type(error)
            record_error(span, error)
            raise
        finally:
            detach(token)
            self._finish(span, attributes, outcome, perf_counter() - started)

    def _finish(self, span: Span, attributes: Attributes, outcome: Attributes, seconds: float) -> None:
        span.set_attributes(outcome)
        known = {**attributes, **outcome}
        values = tuple(known.get(key) for key in HTTP_CLIENT_DURATION.attributes)
        self._duration.record(seconds, values, span.get_span_context())
        span.end()


def _note_response(span: Span, outcome: Attributes, response: Any) -> None:
    outcome["http.response.status_code"] = response.status_code
    outcome["network.protocol.version"] = response.http_version.removeprefix("HTTP/")
    if response.status_code >= CLIENT_FAILURE:
        outcome["error.type"] = str(response.status_code)
        span.set_status(StatusCode.ERROR)


_installed: HttpxEdge | None = None


def install(edge: HttpxEdge | None) -> None:
    """Observe every client of httpx and httpx2, also when they are imported later; None observes none."""
    global _installed  # noqa: PLW0603 - the hooks sit on classes, which are global too
    _installed = edge
    for module in ("httpx", "httpx2"):
        wrapt.register_post_import_hook(_hook, module)


def _edge() -> HttpxEdge | None:
    return _installed if is_http_instrumentation_enabled() and not is_excluded() else None


def _hook(module: Any) -> None:
    for client, hook in ((module.Client, _hooked_sync), (module.AsyncClient, _hooked_async)):
        original = getattr(client, "_send_single_request", None)
        if original is None:
            logger.warning("%s is of an unknown kind; its requests go out unobserved.", module.__name__)
        elif not hasattr(original, "tercet"):
            client._send_single_request = hook(original)
            client._send_single_request.tercet = True


def _hooked_sync(original: Any) -> Any:
    @functools.wraps(original)
    def send(self: Any, request: Any) -> Any:
        edge = _edge()
        if edge is None:
            return original(self, request)
        with edge.observe(request) as note:
            response = original(self, request)
            note(response)
        return response

    return send


def _hooked_async(original: Any) -> Any:
    @functools.wraps(original)
    async def send(self: Any, request: Any) -> Any:
        edge = _edge()
        if edge is None:
            return await original(self, request)
        with edge.observe(request) as note:
            response = await original(self, request)
            note(response)
        return response

    return send
