import enum
import logging
import math
from collections import UserDict, deque
from collections.abc import Sequence
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs as upstream_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as upstream_spans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LogRecordLimits, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util import BoundedList
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from tercet.export import attributes, wire
from tercet.export.encode import encode_log, encode_logs, encode_request, encode_span, encode_spans

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
SPAN_ID = 0xB7AD6B7169203331
CONTEXT = SpanContext(TRACE_ID, SPAN_ID, is_remote=False, trace_flags=TraceFlags(0x03))
REMOTE = SpanContext(TRACE_ID, 0x1111111111111111, is_remote=True)
RESOURCE = Resource({"service.name": "orders"}, "https://schema/resource")
SCOPE = InstrumentationScope("orders", "1.0", "https://schema/scope", {"tier": 1})
INTEGER_EDGES = [0, 1, -1, 127, 128, 16_383, 16_384, 2**31, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**200]
FLOAT_EDGES = [0.0, -0.0, math.inf, -math.inf, math.nan, 5e-324, 1.7976931348623157e308]


class Colour(enum.IntEnum):
    RED = 1


class Word(str):
    """A text that prints as another one."""

    __slots__ = ()

    def __str__(self) -> str:
        return "other"


class Ratio(float):
    __slots__ = ()


class Unprintable:
    """A value that raises when it is shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


# What UTF-8 can hold, across the lengths at which a varint grows; and what it cannot.
texts = st.text(max_size=40) | st.sampled_from(
    ["", "x" * 127, "x" * 128, "é" * 64, "x" * 20_000, "日本語", "\0"]
)
any_texts = texts | st.text(st.characters(), max_size=8) | st.just("\ud800")
scalars = st.one_of(
    st.none(),
    st.booleans(),
    any_texts,
    st.integers() | st.sampled_from(INTEGER_EDGES),
    st.floats() | st.sampled_from(FLOAT_EDGES),
    st.binary(max_size=200),
    st.sampled_from([Colour.RED, Word("a word"), Ratio(0.5), bytearray(b"ab"), range(3), set(), object()]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=2).map(deque),
        st.dictionaries(any_texts | st.integers() | st.none(), inner, max_size=4),
        st.dictionaries(texts, inner, max_size=2).map(UserDict),
    ),
    max_leaves=12,
)
keys = st.sampled_from(["", "http.route", "url.path", "k" * 128, "k" * 300, "ключ", "\udfff"]) | any_texts
raw_attributes = st.dictionaries(keys, values, max_size=6)
bounded_attributes = st.builds(
    BoundedAttributes,
    maxlen=st.none() | st.integers(0, 3),
    attributes=st.dictionaries(keys.filter(bool), values, max_size=6),
    immutable=st.booleans(),
    max_value_len=st.none() | st.integers(0, 5),
)
any_attributes = st.none() | raw_attributes | bounded_attributes | raw_attributes.map(MappingProxyType)

trace_states = st.none() | st.lists(
    st.tuples(
        st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True), st.from_regex(r"[!-+]{1,5}", fullmatch=True)
    ),
    max_size=4,
).map(TraceState)
contexts = st.builds(
    SpanContext,
    trace_id=st.integers(0, 2**128 - 1),
    span_id=st.integers(0, 2**64 - 1),
    is_remote=st.booleans(),
    trace_flags=st.integers(0, 255).map(TraceFlags),
    trace_state=trace_states,
)
nanoseconds = st.none() | st.integers(0, 2**64 - 1)
events = st.builds(Event, name=texts, attributes=any_attributes, timestamp=nanoseconds)
links = st.builds(Link, context=contexts, attributes=any_attributes)
schema_urls = st.none() | texts
resources = st.builds(Resource, st.dictionaries(texts.filter(bool), values, max_size=3), schema_urls)
scopes = st.builds(
    InstrumentationScope,
    name=texts,
    version=st.none() | texts,
    schema_url=schema_urls,
    attributes=st.none() | st.dictionaries(texts.filter(bool), values, max_size=3),
)


def bounded(items: st.SearchStrategy) -> st.SearchStrategy:
    """Draw tuples, and the SDK's lists that drop what does not fit."""
    many = st.lists(items, max_size=3)
    full = st.tuples(st.integers(0, 2), many).map(lambda drawn: bounded_list(*drawn))
    return many.map(tuple) | full


def bounded_list(maxlen: int, items: Sequence) -> BoundedList:
    kept = BoundedList(maxlen)
    for item in items:
        kept.append(item)
    return kept


def emitted_by(pool: st.SearchStrategy, build) -> st.SearchStrategy:
    """Draw batches whose items share a few emitters, some equal without being the same object."""
    emitters = st.lists(st.tuples(resources, st.none() | scopes), min_size=1, max_size=3)
    return emitters.flatmap(
        lambda known: st.lists(st.builds(build, pool, st.sampled_from(known)), max_size=6)
    )


statuses = st.none() | st.builds(
    lambda code, text: Status(code, text if code is StatusCode.ERROR else None),
    st.sampled_from(StatusCode),
    st.none() | texts,
)
span_fields = st.fixed_dictionaries(
    {
        "name": texts,
        "context": contexts,
        "parent": st.none() | contexts,
        "attributes": any_attributes,
        "events": bounded(events),
        "links": bounded(links),
        "kind": st.sampled_from(SpanKind),
        "status": statuses,
        "start_time": nanoseconds,
        "end_time": nanoseconds,
    }
)
span_batches = emitted_by(
    span_fields, lambda fields, by: ReadableSpan(**fields, resource=by[0], instrumentation_scope=by[1])
)
# Upstream loses the batch for a body that it cannot encode; the bodies that it can, and nothing else.
body_scalars = (
    st.none() | st.booleans() | texts | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.binary()
)
bodies = st.recursive(
    body_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts | st.integers(), inner, max_size=3),
    max_leaves=8,
)


def log_record(context: SpanContext, **fields) -> LogRecord:
    return LogRecord(context=set_span_in_context(NonRecordingSpan(context)), **fields)


log_fields = st.builds(
    log_record,
    contexts,
    timestamp=nanoseconds,
    observed_timestamp=nanoseconds,
    severity_text=st.none() | texts,
    severity_number=st.none() | st.sampled_from(SeverityNumber),
    body=bodies,
    attributes=any_attributes,
    event_name=st.none() | texts,
)
log_batches = emitted_by(log_fields, lambda log, by: ReadableLogRecord(log, by[0], by[1]))


def decoded_spans(encoded: bytes) -> ExportTraceServiceRequest:
    return ExportTraceServiceRequest.FromString(encoded)


def decoded_logs(encoded: bytes) -> ExportLogsServiceRequest:
    return ExportLogsServiceRequest.FromString(encoded)


def canonical(message) -> bytes:
    """Make messages comparable that hold NaN, which equals nothing."""
    return message.SerializeToString(deterministic=True)


def a_span(**fields) -> ReadableSpan:
    given = {"name": "place order", "context": CONTEXT, "resource": RESOURCE, "instrumentation_scope": SCOPE}
    return ReadableSpan(**{**given, **fields})


def a_record(**fields) -> ReadableLogRecord:
    return ReadableLogRecord(
        log_record(CONTEXT, timestamp=1, observed_timestamp=2, **fields), RESOURCE, SCOPE
    )


def the_span(span: ReadableSpan):
    return decoded_spans(encode_spans([span])).resource_spans[0].scope_spans[0].spans[0]


def the_record(record: ReadableLogRecord):
    return decoded_logs(encode_logs([record])).resource_logs[0].scope_logs[0].log_records[0]


def value_of(value):
    """Encode an attribute and read it back as protobuf's one-line text."""
    return " ".join(str(the_span(a_span(attributes={"key": value})).attributes[0].value).split())


@pytest.fixture(autouse=True)
def _quiet_examples():
    """Keep thousands of refused attributes out of the captured log, but for tests that set a level."""
    refused = [logging.getLogger(name) for name in ("tercet.export.attributes", "opentelemetry")]
    before = [logger.level for logger in refused]
    for logger in refused:
        logger.setLevel(logging.CRITICAL)
    yield
    for logger, level in zip(refused, before, strict=True):
        logger.setLevel(level)


@settings(deadline=None, max_examples=150)
@given(span_batches)
def test_spans_decode_as_upstreams_do(spans):
    """Spans of any content decode to the very messages of upstream's encoder."""
    assert canonical(decoded_spans(encode_spans(spans))) == canonical(upstream_spans(spans))


@settings(deadline=None, max_examples=150)
@given(log_batches)
def test_logs_decode_as_upstreams_do(records):
    """Log records of any content decode to the very messages of upstream's encoder."""
    assert canonical(decoded_logs(encode_logs(records))) == canonical(upstream_logs(records))


@settings(deadline=None, max_examples=50)
@given(span_batches)
def test_spans_are_as_short_as_upstreams(spans):
    """Spelled-out zeros are few: no span costs the wire more than 30 bytes above upstream's."""
    assert len(encode_spans(spans)) <= len(upstream_spans(spans).SerializeToString()) + 30 * sum(
        1 + len(span.events) + len(span.links) for span in spans
    )


def test_an_empty_batch_is_an_empty_request():
    """Nothing encodes to nothing."""
    assert (encode_spans([]), encode_logs([]), encode_request([])) == (b"", b"", b"")


def test_what_nobody_emitted_is_not_left_out():
    """Whoever sends it is told, and counts it."""
    with pytest.raises(AttributeError):
        encode_request([(None, None, b"span")])


@pytest.mark.parametrize(
    ("value", "picture"),
    [
        ("world", 'string_value: "world"'),
        ("", 'string_value: ""'),
        (Word("hello"), 'string_value: "hello"'),
        (False, "bool_value: false"),
        (True, "bool_value: true"),
        (1, "int_value: 1"),
        (-1, "int_value: -1"),
        (-(2**63), "int_value: -9223372036854775808"),
        (Colour.RED, "int_value: 1"),
        (1.0, "double_value: 1"),
        (-0.0, "double_value: -0"),
        (math.nan, "double_value: nan"),
        (-math.inf, "double_value: -inf"),
        (b"x00\x01", r'bytes_value: "x00\001"'),
        (None, ""),
        ([], "array_value { }"),
        ({}, "kvlist_value { }"),
        (["a", None, 1], 'array_value { values { string_value: "a" } values { } values { int_value: 1 } }'),
        (
            {"a": {1: None}},
            'kvlist_value { values { key: "a" value { kvlist_value { values { key: "1" value { } } } } } }',
        ),
    ],
)
def test_each_type_has_its_value(value, picture):
    """Each type of attribute has the protobuf value that OTLP gives it."""
    assert value_of(value) == picture


def test_equal_values_of_different_types_stay_apart():
    """One, one point nought and true are the same dictionary key, but not the same attribute."""
    values = {"int": 1, "float": 1.0, "bool": True, "int again": 1, "zero": 0, "false": False}
    assert [item.value.WhichOneof("value") for item in the_span(a_span(attributes=values)).attributes] == [
        "int_value",
        "double_value",
        "bool_value",
        "int_value",
        "int_value",
        "bool_value",
    ]


@pytest.mark.parametrize("bad", ["\ud800", 2**63, set(), [2**63], {"\ud800": 1}, Unprintable()])
def test_an_attribute_that_cannot_be_encoded_is_told_and_left_out(bad, caplog):
    """A bad attribute costs itself and one log record, with the text that upstream has."""
    caplog.set_level(logging.ERROR, "tercet.export.attributes")
    span = the_span(a_span(attributes={"a": 1, "bad_key": bad, "b": 2}))
    assert [item.key for item in span.attributes] == ["a", "b"]
    assert [(record.msg, record.args[0]) for record in caplog.records] == [
        ("Failed to encode key %s: %s", "bad_key")
    ]


def test_a_key_that_is_no_text_is_left_out():
    """A key that the types forbid costs its own attribute only."""
    assert [item.key for item in the_span(a_span(attributes={7: 1, "b": 2})).attributes] == ["b"]


@pytest.mark.parametrize(("wrap", "most"), [(lambda inner: [inner], 47), (lambda inner: {"k": inner}, 31)])
def test_values_nest_as_deep_as_decoders_read(wrap, most):
    """The deepest value that a decoder can read is sent, and one level more is left out."""
    value = "bottom"
    for _ in range(most):
        value = wrap(value)
    event = Event("deep", {"fits": value, "too deep": wrap(value)}, timestamp=1)
    assert [item.key for item in the_span(a_span(events=[event])).events[0].attributes] == ["fits"]


def test_a_value_without_bottom_is_harmless():
    """A list that holds itself is left out as an attribute, and becomes text as a body."""
    endless = []
    endless.append(endless)
    assert not the_span(a_span(attributes={"endless": endless})).attributes
    assert the_record(a_record(body=endless)).body.string_value == "[[...]]"


def test_the_parent_says_whether_it_is_remote():
    """The flags tell a remote parent, a local one, and none."""
    spans = [the_span(a_span(parent=parent)) for parent in (REMOTE, CONTEXT, None)]
    assert [(span.parent_span_id.hex(), hex(span.flags)) for span in spans] == [
        ("1111111111111111", "0x300"),
        ("b7ad6b7169203331", "0x100"),
        ("", "0x100"),
    ]


def test_the_trace_state_is_a_header():
    """Trace state reads as in the tracestate header."""
    context = SpanContext(TRACE_ID, SPAN_ID, False, trace_state=TraceState([("a", "1"), ("b", "2")]))
    assert the_span(a_span(context=context)).trace_state == "a=1,b=2"


@pytest.mark.parametrize(
    ("status", "picture"),
    [
        (Status(StatusCode.UNSET), (True, 0, "")),
        (Status(StatusCode.OK), (True, 1, "")),
        (Status(StatusCode.ERROR), (True, 2, "")),
        (Status(StatusCode.ERROR, "card declined"), (True, 2, "card declined")),
        (None, (False, 0, "")),
    ],
)
def test_statuses(status, picture):
    """A status is there with its code and text, also when it is unset."""
    span = the_span(a_span(status=status))
    assert (span.HasField("status"), span.status.code, span.status.message) == picture


@pytest.mark.parametrize("kind", SpanKind)
def test_kinds_have_the_numbers_of_otlp(kind):
    """Each kind is one above the SDK's number, which OTLP gives to the unspecified kind."""
    assert the_span(a_span(kind=kind)).kind == kind.value + 1


def test_items_are_grouped_by_who_emitted_them_in_order():
    """Equal resources and scopes share a group, wherever their items stand in the batch."""
    emitters = [("a", "x"), ("b", "x"), ("a", None), ("a", "x"), ("b", "y"), ("b", "x")]
    spans = [
        a_span(
            name=str(number),
            resource=Resource({"service.name": service}),
            instrumentation_scope=scope and InstrumentationScope(scope),
        )
        for number, (service, scope) in enumerate(emitters)
    ]
    request = decoded_spans(encode_spans(spans))
    assert [
        (by.resource.attributes[0].value.string_value, group.scope.name, [span.name for span in group.spans])
        for by in request.resource_spans
        for group in by.scope_spans
    ] == [("a", "x", ["0", "3"]), ("a", "", ["2"]), ("b", "x", ["1", "5"]), ("b", "y", ["4"])]
    assert request == upstream_spans(spans)


def test_who_emitted_is_told_in_full():
    """Resource and scope carry their attributes and schema addresses."""
    by = decoded_spans(encode_spans([a_span()])).resource_spans[0]
    scope = by.scope_spans[0]
    assert (by.schema_url, scope.schema_url) == ("https://schema/resource", "https://schema/scope")
    assert (scope.scope.name, scope.scope.version, scope.scope.attributes[0].key) == ("orders", "1.0", "tier")


def test_a_request_is_built_from_what_was_encoded_before():
    """Spans encoded one by one as they end make the same request as the batch."""
    spans = [a_span(name="one"), a_span(name="two", instrumentation_scope=None)]
    kept = [(span.resource, span.instrumentation_scope, encode_span(span)) for span in spans]
    assert encode_request(kept) == encode_spans(spans)
    record = a_record(body="placed")
    assert encode_request([(RESOURCE, SCOPE, encode_log(record))]) == encode_logs([record])


def test_limits_of_the_sdk_show_as_dropped_counts():
    """A span that outgrew its limits decodes as upstream's does, with the counts."""
    kept = InMemorySpanExporter()
    limits = SpanLimits(1, max_events=1, max_links=1, max_event_attributes=1, max_link_attributes=1)
    provider = TracerProvider(resource=RESOURCE, span_limits=limits, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(kept))
    links = [Link(REMOTE, {"a": 1, "b": 2}), Link(CONTEXT, {"a": 1, "b": 2, "c": 3})]
    with provider.get_tracer("t").start_span(
        "full", attributes={"a": 1, "b": 2, "c": 3}, links=links
    ) as span:
        span.add_event("one")
        span.add_event("two", {"a": 1, "b": 2})
    spans = kept.get_finished_spans()
    full = the_span(spans[0])
    assert (full.dropped_attributes_count, full.dropped_events_count, full.dropped_links_count) == (2, 1, 1)
    assert (full.events[0].dropped_attributes_count, full.links[0].dropped_attributes_count) == (1, 2)
    assert decoded_spans(encode_spans(spans)) == upstream_spans(spans)


def test_limits_on_log_records_show_as_dropped_counts():
    """A log record that outgrew its limits decodes as upstream's does, with the count."""
    log = log_record(CONTEXT, timestamp=1, body="full", attributes={"a": 1, "b": "c", "user_id": "B121092"})
    with pytest.warns(Warning, match="dropped due to limits"):
        record = ReadWriteLogRecord(log, RESOURCE, SCOPE, LogRecordLimits(max_attributes=1))
    assert the_record(record).dropped_attributes_count == 2
    assert decoded_logs(encode_logs([record])) == upstream_logs([record])


def test_a_log_record_tells_its_trace():
    """A record has the ids and flags of its span, and none of them outside of one."""
    inside = the_record(a_record(body="x"))
    outside = the_record(ReadableLogRecord(log_record(SpanContext(0, 0, False), body="x"), RESOURCE, SCOPE))
    assert (inside.trace_id.hex(), inside.span_id.hex(), inside.flags) == (
        f"{TRACE_ID:032x}",
        f"{SPAN_ID:016x}",
        0x03,
    )
    assert (outside.trace_id, outside.span_id, outside.flags) == (b"", b"", 0)


def test_a_log_record_says_what_happened():
    """Severity, event name, times and a structured body arrive as they were."""
    body = {"error": None, "array_with_nones": [1, None, 2]}
    record = a_record(
        body=body, severity_text="WARN", severity_number=SeverityNumber.WARN, event_name="order.late"
    )
    sent = the_record(record)
    assert (sent.severity_text, sent.severity_number, sent.event_name) == ("WARN", 13, "order.late")
    assert (sent.time_unix_nano, sent.observed_time_unix_nano) == (1, 2)
    assert decoded_logs(encode_logs([record])) == upstream_logs([record])


@pytest.mark.parametrize(
    ("body", "text"),
    [("a\ud800b", "a?b"), (2**64, str(2**64)), ({1}, "{1}"), (Unprintable(), "<Unprintable>")],
)
def test_a_body_that_cannot_be_encoded_becomes_text(body, text):
    """Where upstream would lose the whole batch, the record arrives with its body as text."""
    assert the_record(a_record(body=body, severity_text="\ud800")).body.string_value == text


def test_names_that_utf8_cannot_hold_are_mended():
    """A lone surrogate in a name costs one character, not the batch."""
    span = a_span(
        name="\ud800x", status=Status(StatusCode.ERROR, "\udfff"), events=[Event("\ud800", timestamp=1)]
    )
    sent = the_span(span)
    assert (sent.name, sent.status.message, sent.events[0].name) == ("?x", "?", "?")


def test_a_subclass_may_answer_otherwise():
    """What a wrapper overrides is what is sent, also where the SDK's own class is looked into."""

    class Redacted(ReadableSpan):
        @property
        def attributes(self):
            return {"card": "<hidden>"}

        @property
        def events(self):
            return (Event("redacted", timestamp=1),)

    span = the_span(Redacted("pay", CONTEXT, resource=RESOURCE, attributes={"card": "4242"}))
    assert span.attributes[0].value.string_value == "<hidden>"
    assert [event.name for event in span.events] == ["redacted"]


def test_caches_stay_bounded_whatever_the_keys_and_names():
    """Keys, lengths, integers and names without end do not fill the memory."""
    for number in range(40_000):
        attributes.attributes_field(b"\x0a", {f"key{number}": number, "same": "x" * (number % 300)})
    assert sum(1 + len(heads) for heads in attributes._keys.values()) <= 16_384
    assert max(len(attributes._integers), len(wire.varints)) <= 4096


def test_a_full_memo_starts_again():
    """The entry above the bound finds the memo empty, and long results are never kept."""
    memo = wire.Memo(lambda size: b"x" * size, 2)
    assert [len(memo[size]) for size in (1, 2, 1, 3, 1_000)] == [1, 2, 1, 3, 1_000]
    assert list(memo) == [3]
