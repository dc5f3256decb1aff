"""Spans and log records as OTLP protobuf bytes, made directly: no message objects in between.

What decodes from these bytes equals what decodes from upstream's encoder. Where upstream raises and so loses
the whole batch, for a name or a body that protobuf cannot hold, only that text is mended.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Any

from opentelemetry.sdk._logs import ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceState,
)

from tercet.export.attributes import attributes_field, encode_value, own_copy
from tercet.export.wire import Memo, delimited, delimited_each, text_field, varints
from tercet.fast.stand_in import has_twin

#: Who emitted a span or a record, and its body as `encode_span` or `encode_log` made it.
Encoded = tuple[Resource, InstrumentationScope | None, bytes]

# Names and severities are few by convention; where they are not, a miss costs under a microsecond.
_names: Memo[str] = Memo(lambda name: text_field(b"\x2a", name), 1024)
_severity_texts: Memo[str | None] = Memo(lambda text: text_field(b"\x1a", text), 64)
# Enum members hash in Python; their values, as an index, do not.
_KINDS = tuple(b"\x30" + varints[kind.value + 1] for kind in SpanKind)
_UNSET = StatusCode.UNSET
#: The status of nearly all spans, as one object.
UNSET = Status(_UNSET)
_UNSET_STATUS = delimited(b"\x7a", b"")
# SpanFlags: whether is_remote is known, which it always is, and whether it is true.
_LOCAL = (0x100).to_bytes(4, "little")
_REMOTE = (0x300).to_bytes(4, "little")
_LOCAL_PARENT = b"\x85\x01" + _LOCAL
_REMOTE_PARENT = b"\x85\x01" + _REMOTE
_START, _END = 0x39, 0x41
_EVENTS, _LINKS, _ATTRIBUTES = ReadableSpan.events, ReadableSpan.links, ReadableSpan.attributes
_EVENT_TIME = 0x09
_LOG_TIME, _LOG_OBSERVED, _LOG_FLAGS = 0x09, 0x59, 0x45
_pack_time = Struct("<BQ").pack
_pack_span_times = Struct("<BQBQ").pack
_pack_log_times = Struct("<BQBQBI").pack


def encode_spans(spans: Sequence[ReadableSpan]) -> bytes:
    """Encode a batch as an `ExportTraceServiceRequest`."""
    return encode_request([(span.resource, span.instrumentation_scope, encode_span(span)) for span in spans])


def encode_logs(records: Sequence[ReadableLogRecord]) -> bytes:
    """Encode a batch as an `ExportLogsServiceRequest`."""
    return encode_request(
        [(record.resource, record.instrumentation_scope, encode_log(record)) for record in records]
    )


def weight(item: Encoded) -> int:
    """Count the bytes of a body."""
    return len(item[2])


def encode_request(items: Sequence[Encoded]) -> bytes:
    """Build a request from spans or from records that are encoded already.

    Both requests have the same shape and field numbers, so one function makes either.

    Args:
        items: All spans or all records; they are grouped by who emitted them, in the order they came.
    """
    groups: dict[Resource, dict[InstrumentationScope | None, list[bytes]]] = {}
    # A resource renders itself as JSON to be hashed, so equality is asked once an object, not once a span.
    known: dict[tuple[int, int], list[bytes]] = {}
    bodies: list[bytes] = []
    of_latest: object = bodies
    by_latest: object = bodies
    for resource, scope, body in items:
        # Mostly who emitted the one before.
        if resource is not of_latest or scope is not by_latest:
            of_latest, by_latest = resource, scope
            emitter = (id(resource), id(scope))
            if emitter not in known:
                known[emitter] = groups.setdefault(resource, {}).setdefault(scope, [])
            bodies = known[emitter]
        bodies.append(body)
    # Joined once: what is copied takes longer than all else here.
    return b"".join([part for resource, scopes in groups.items() for part in _of_resource(resource, scopes)])


def _of_resource(resource: Resource, scopes: dict[InstrumentationScope | None, list[bytes]]) -> list[bytes]:
    who = delimited(b"\x0a", attributes_field(b"\x0a", resource.attributes))
    groups = [part for scope, bodies in scopes.items() for part in _of_scope(scope, bodies)]
    return _delimited_parts(b"\x0a", [who, *groups, text_field(b"\x1a", resource.schema_url)])


def _of_scope(scope: InstrumentationScope | None, bodies: list[bytes]) -> list[bytes]:
    all_bodies = delimited_each(b"\x12", bodies)
    if scope is None:
        return _delimited_parts(b"\x12", [delimited(b"\x0a", b""), all_bodies])
    name, version = text_field(b"\x0a", scope.name), text_field(b"\x12", scope.version)
    who = delimited(b"\x0a", name + version + attributes_field(b"\x1a", scope.attributes))
    return _delimited_parts(b"\x12", [who, all_bodies, text_field(b"\x1a", scope.schema_url)])


def _delimited_parts(tag: bytes, parts: list[bytes]) -> list[bytes]:
    return [tag, varints[sum(map(len, parts))], *parts]


def encode_span(span: ReadableSpan) -> bytes:
    """Encode the body of a `Span`, for `encode_request`; it can be done as soon as the span has ended."""
    # Both properties copy under a lock, in Python, and mostly nothing: a seventh of the whole time.
    # A subclass may answer otherwise, to redact for example: only the SDK's own answers are looked behind.
    kind = type(span)
    events = () if kind.events is _EVENTS and not span._events else span.events
    links = () if kind.links is _LINKS and not span._links else span.links
    attributes = span._attributes if kind.attributes is _ATTRIBUTES else span.attributes
    dropped = span.dropped_attributes or span.dropped_events or span.dropped_links
    rare = [_event_field(event) for event in events] + [_link_field(link) for link in links]
    if dropped:
        rare.append(_dropped_fields(span))
    return encode_span_fields(
        span.get_span_context(),
        span.parent,
        span.name,
        span.kind,
        (span.start_time, span.end_time),
        attributes,
        span.status,
        b"".join(rare),
    )


def encode_span_fields(  # noqa: PLR0917 - two callers, for which names would cost time
    context: Any,
    parent: SpanContext | None,
    name: str,
    kind: SpanKind,
    times: tuple[int | None, int | None],
    attributes: Any,
    status: Status | None,
    rare: bytes = b"",
) -> bytes:
    """Encode what every `Span` has.

    Args:
        context: Its own ids.
        parent: Those of its parent.
        name: What it is called.
        kind: What it is.
        times: Its start and end, in nanoseconds since 1970.
        attributes: A mapping, or None.
        status: How it ended.
        rare: The fields of events, links and what was dropped.
    """
    state = context.trace_state
    start, end = times
    return b"".join(
        (
            b"\x0a\x10",
            context.trace_id.to_bytes(16, "big"),
            b"\x12\x08",
            context.span_id.to_bytes(8, "big"),
            # Asked first whether it is the one that stands for none: its length is counted in Python.
            b"" if state is DEFAULT_TRACE_STATE or not state else _trace_state_field(state),
            b"\x22\x08" + parent.span_id.to_bytes(8, "big") if parent else b"",
            _names[name],
            _KINDS[kind._value_],
            _pack_span_times(_START, start or 0, _END, end or 0),
            attributes_field(b"\x4a", attributes),
            rare,
            _UNSET_STATUS if status is UNSET else _status_field(status),
            _REMOTE_PARENT if parent and parent.is_remote else _LOCAL_PARENT,
        )
    )


def _trace_state_field(trace_state: TraceState) -> bytes:
    return text_field(b"\x1a", ",".join(f"{key}={value}" for key, value in trace_state.items()))


def _event_field(event: Event) -> bytes:
    body = (
        _pack_time(_EVENT_TIME, event.timestamp or 0),
        text_field(b"\x12", event.name),
        attributes_field(b"\x1a", event.attributes),
        b"\x20" + varints[event.dropped_attributes],
    )
    return delimited(b"\x5a", b"".join(body))


def _link_field(link: Link) -> bytes:
    context = link.context
    body = (
        b"\x0a\x10" + context.trace_id.to_bytes(16, "big"),
        b"\x12\x08" + context.span_id.to_bytes(8, "big"),
        attributes_field(b"\x22", link.attributes),
        b"\x28" + varints[link.dropped_attributes],
        b"\x35" + (_REMOTE if context.is_remote else _LOCAL),
    )
    return delimited(b"\x6a", b"".join(body))


def _dropped_fields(span: ReadableSpan) -> bytes:
    counts = (b"\x50", span.dropped_attributes), (b"\x60", span.dropped_events), (b"\x70", span.dropped_links)
    return b"".join([tag + varints[count] for tag, count in counts])


def _status_field(status: Status | None) -> bytes:
    if status is None:
        return b""
    code, description = status.status_code, status.description
    if code is _UNSET and not description:
        return _UNSET_STATUS
    return delimited(b"\x7a", text_field(b"\x12", description) + b"\x18" + varints[code.value])


def encode_log(record: ReadableLogRecord | ReadWriteLogRecord) -> bytes:
    """Encode the body of a `LogRecord`, for `encode_request`."""
    log = record.log_record
    fields = encode_log_fields(
        log.timestamp,
        log.observed_timestamp,
        (log.trace_id, log.span_id, False, log.trace_flags),
        (getattr(log.severity_number, "_value_", 0), log.severity_text),
        log.body,
        own_copy(log.attributes),  # as a plain dictionary, which is quick to walk through
    )
    dropped = record.dropped_attributes
    fields += b"\x38" + varints[dropped] if dropped else b""
    return fields + text_field(b"\x62", log.event_name) if log.event_name else fields


@has_twin()
def encode_log_fields(  # noqa: PLR0917 - two callers, for which names would cost time
    timestamp: int | None,
    observed_timestamp: int | None,
    ids: tuple[Any, ...],
    severity: tuple[int, str | None],
    body: Any,
    attributes: Any,
) -> bytes:
    """Encode what every `LogRecord` has.

    Args:
        timestamp: Nanoseconds since 1970.
        observed_timestamp: Likewise.
        ids: As a `SpanContext` begins: trace id, span id, whether it is remote, and flags.
        severity: Number and text.
        body: Any value; one that OTLP has no form for becomes text.
        attributes: A mapping, or None.
    """
    trace_id, span_id, _, flags, *_ = ids
    number, severity_text = severity
    return b"".join(
        (
            _pack_log_times(
                _LOG_TIME, timestamp or 0, _LOG_OBSERVED, observed_timestamp or 0, _LOG_FLAGS, flags or 0
            ),
            b"\x10",
            varints[number],
            _severity_texts[severity_text],
            _bodies[body] if type(body) is str else _body_field(body),
            attributes_field(b"\x32", attributes),
            b"\x4a\x10" + trace_id.to_bytes(16, "big") if trace_id else b"",
            b"\x52\x08" + span_id.to_bytes(8, "big") if span_id else b"",
        )
    )


def _body_field(body: Any) -> bytes:
    try:
        return delimited(b"\x2a", encode_value(body))
    except Exception:  # a hostile mapping may raise anything; the record is worth more than its body's shape
        return delimited(b"\x2a", text_field(b"\x0a", _text_of(body)))


# The messages of structured logs are names of events, and as few.
_bodies: Memo[str] = Memo(_body_field, 1024)


def _text_of(value: Any) -> str:
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__name__}>"
