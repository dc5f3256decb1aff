"""Spans and log records such as a service makes: what is encoded, and what an exporter is filled with."""

import logging
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.util.types import AnyValue

Emit = Callable[[int], None]

_CALLER = SpanContext(0xAF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, True, TraceFlags(1))
_FROM_CALLER = set_span_in_context(NonRecordingSpan(_CALLER), Context())


def emit_span(tracer: trace.Tracer, number: int) -> None:
    """Make one server span with ten attributes and end it; two of them differ from span to span."""
    attributes: dict[str, AnyValue] = {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": f"/orders/{number}",
        "server.address": "orders.example",
        "server.port": 8000,
        "client.address": f"10.0.{number // 250 % 250}.{number % 250}",
        "network.protocol.version": "1.1",
        "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    }
    span = tracer.start_span("GET", _FROM_CALLER, SpanKind.SERVER, attributes=attributes)
    span.set_attributes({"http.route": "/orders/{order_id}", "http.response.status_code": 200})
    span.update_name("GET /orders/{order_id}")
    span.end()


def emit_record(log: logging.Logger, number: int) -> None:
    """Log one line with four extras; two of them differ from record to record."""
    log.info(
        "order %d read",
        number,
        extra={"order_id": number, "customer": f"customer-{number % 5000}", "items": 3, "currency": "EUR"},
    )
