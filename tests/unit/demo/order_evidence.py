"""The document's order trace as evidence, for tests that need no processes."""

from typing import Any

from tercet.console.answers import LogLine, Node, Red, Span, Trace, Use
from tercet.demo.catalog import PORTS
from tercet.demo.evidence import Evidence, OrderTrace
from tercet.demo.traffic import Orders

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def _span(number: int, parent: int, service: str, start: float, lasts: float, **rest: Any) -> Span:
    return Span(
        trace_id=TRACE_ID,
        span_id=f"{number:03}",
        parent_span_id=f"{parent:03}" if parent else "",
        service=service,
        name=rest.pop("name", f"POST /{service}"),
        kind=rest.pop("kind", "server"),
        start_ms=start,
        duration_ms=lasts,
        status="unset",
        attributes={"http.route": "/", "correlation_id": "c1"} | rest,
    )


def spans() -> list[Span]:
    """The document's six spans, with its times and tags."""
    return [
        _span(1, 0, "gateway", 0, 150),
        _span(2, 1, "auth-service", 5, 20, user_id="usr_123"),
        _span(3, 1, "order-service", 30, 100),
        _span(4, 3, "order-service", 35, 45, name="database", kind="client", query="SELECT..."),
        _span(5, 3, "payment-service", 85, 40, amount=150.0),
        _span(6, 1, "notification", 135, 10, type="email"),
    ]


def _node(number: int, *children: Node) -> Node:
    span = spans()[number - 1]
    return Node(service=span["service"], name=span["name"], span_id=span["span_id"], children=list(children))


def trace() -> Trace:
    """The document's trace as the receiver answers it."""
    return Trace(
        trace_id=TRACE_ID,
        correlation_id="c1",
        start="2026-01-01T00:00:00.000000Z",
        duration_ms=150.0,
        spans=spans(),
        roots=[_node(1, _node(2), _node(3, _node(4), _node(5)), _node(6))],
    )


def red(requests: int = 20, errors: int = 0) -> list[Red]:
    """A row for each service."""
    return [
        Red(
            service=service,
            requests=requests,
            errors=errors,
            rate=150.0,
            error_ratio=errors / requests,
            p50_ms=45.0,
            p95_ms=120.0,
            p99_ms=350.0,
        )
        for service in PORTS
    ]


def use() -> list[Use]:
    """A row for each service."""
    return [Use(service=service, memory_bytes=70 * 2**20) for service in PORTS]


def orders(sent: int = 20, pending: int = 0) -> Orders:
    """Orders that were all answered as promised."""
    return Orders(sent=sent, good=sent - pending, bad=0, slow=0, pending=pending)


def log(service: str, message: str, **rest: Any) -> LogLine:
    """A log line of the trace."""
    return {
        "timestamp": "2026-01-01T00:00:00.123456Z",
        "level": "INFO",
        "logger": "orders",
        "message": message,
        "service": service,
        "trace_id": TRACE_ID,
        "span_id": "001",
        "correlation_id": "c1",
    } | rest


def logs() -> list[LogLine]:
    """The last line of each service."""
    return [log(service, "request_completed", status=200) for service in PORTS]


def evidence(*faults: str) -> Evidence:
    """Everything about one order, with faults that did it no harm."""
    whole = trace()
    order = OrderTrace(
        trace_id=TRACE_ID,
        correlation_id="c1",
        duration_ms=150.0,
        spans=whole["spans"],
        tree=whole["roots"][0],
    )
    return Evidence(
        trace=order,
        red=red(),
        use=use(),
        logs=logs(),
        requests_sent=20,
        orders=orders(),
        faults=list(faults),
    )
