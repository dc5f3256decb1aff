"""What the console answers with: JSON documents, named field by field."""

from typing import Any, TypedDict

Attributes = dict[str, Any]


class Span(TypedDict):
    """One span; `start_ms` counts from the start of its trace."""

    trace_id: str
    span_id: str
    parent_span_id: str
    service: str
    name: str
    kind: str
    start_ms: float
    duration_ms: float
    status: str
    attributes: Attributes


class Node(TypedDict):
    """One place in the tree of a trace."""

    service: str
    name: str
    span_id: str
    children: list["Node"]


class Trace(TypedDict):
    """One trace: its spans by start, and the same as trees."""

    trace_id: str
    correlation_id: str | None
    start: str
    duration_ms: float
    spans: list[Span]
    roots: list[Node]


class Red(TypedDict):
    """Rate, errors and duration of one service, over all requests it has counted."""

    service: str
    requests: int
    errors: int
    rate: float | None
    error_ratio: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Use(TypedDict):
    """What one service uses, over all its processes; None where they have not said."""

    service: str
    memory_bytes: int | None


LogLine = dict[str, Any]
