"""What the request path knows of upstream's insides is what upstream shows to everybody."""

import logging

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)

from tercet.emit.correlation import ids_of, with_span
from tercet.emit.records import own_fields

IDS = SpanContext(0xA1, 0xB2, True, TraceFlags(1), TraceState([("a", "b")]))


def test_ids_unpack_to_what_their_properties_say():
    """Six properties, each a call, for one."""
    trace_id, span_id, is_remote, flags, state, is_valid = IDS
    shown = (IDS.trace_id, IDS.span_id, IDS.is_remote, IDS.trace_flags, IDS.trace_state, IDS.is_valid)
    assert (trace_id, span_id, is_remote, flags, state, is_valid) == shown


def test_the_current_span_is_found_where_the_api_keeps_it():
    """Whoever put it there; and nothing where nobody did."""
    span = NonRecordingSpan(IDS)
    assert ids_of(set_span_in_context(span, Context())) is IDS
    assert get_current_span(with_span(span, Context({"other": 1}))) is span
    assert ids_of(Context()) is INVALID_SPAN_CONTEXT


def test_a_record_holds_what_logging_gives_it_before_what_the_caller_adds():
    """Otherwise its own two dozen fields would be looked at one by one."""
    record = logging.getLogger("t").makeRecord("t", 20, __file__, 1, "paid", (), None, extra={"total": 1})
    assert own_fields(record) == {"total": 1}
    record.__dict__ = {"total": 1} | vars(record)
    assert own_fields(record) == {"total": 1}


def test_the_sdk_makes_spans_without_anything_that_ours_leave_out():
    """Ours are made past `Span.__new__`, which only asks who makes them."""
    assert Span.__new__(type("Own", (Span,), {}), "name", None).__dict__ == {}
