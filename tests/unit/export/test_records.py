"""Lean records: what is emitted leaves as the SDK's own logger would send it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs as upstream_encode
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from tercet.export.encode import encode_request
from tercet.export.processors import BatchedLogs
from tercet.export.records import LeanLogger, LeanLoggerProvider

RESOURCE = Resource({"service.name": "orders"})
IN_A_SPAN = set_span_in_context(NonRecordingSpan(SpanContext(0xA1, 0xB2, False, TraceFlags(1))), Context())
values = st.one_of(
    st.text(max_size=5),
    st.integers(-5, 5),
    st.floats(),
    st.booleans(),
    st.none(),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
)


class Shelf:
    """An outbox that keeps what it is given."""

    def __init__(self):
        self.items = []

    def put(self, item):
        self.items.append(item)


def emitted(provider, **fields):
    provider.get_logger("t", "1").emit(**fields)


def both(**fields):
    """What leaves here, and what the SDK's own provider sends."""
    ours, shelf = LeanLoggerProvider(RESOURCE), Shelf()
    ours.add_log_record_processor(BatchedLogs(shelf))
    theirs, exporter = LoggerProvider(RESOURCE, shutdown_on_exit=False), InMemoryLogRecordExporter()
    theirs.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    emitted(ours, **fields)
    emitted(theirs, **fields)
    wanted = upstream_encode(exporter.get_finished_logs())
    return type(wanted).FromString(encode_request(shelf.items)), wanted


@given(
    body=values,
    attributes=st.none() | st.dictionaries(st.sampled_from(["a", "b", "c", ""]), values, max_size=4),
    context=st.sampled_from([Context(), IN_A_SPAN]),
    severity_number=st.none() | st.sampled_from(SeverityNumber),
    severity_text=st.sampled_from([None, "INFO"]),
    event_name=st.sampled_from([None, "paid"]),
)
@pytest.mark.filterwarnings("ignore")
def test_a_record_says_on_the_wire_what_the_sdks_own_would(**fields):
    """Of any shape."""
    sent, wanted = both(timestamp=5, observed_timestamp=6, **fields)
    assert sent == wanted


@pytest.mark.parametrize("length", ["3", "200"])
@pytest.mark.filterwarnings("ignore")
def test_limits_are_the_sdks(length, monkeypatch):
    """In number and in length."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", length)
    sent, wanted = both(
        timestamp=5, observed_timestamp=6, attributes={f"key {number}": "x" * 10 for number in range(200)}
    )
    assert sent == wanted


@pytest.mark.parametrize(
    "fields",
    [{"record": LogRecord(timestamp=5, observed_timestamp=6, body="hello", context=IN_A_SPAN)},
     {"timestamp": 5, "observed_timestamp": 6, "exception": KeyError("k"), "context": Context()}],
    ids=["a record", "an exception"],
)  # fmt: skip
def test_what_is_rare_takes_the_sdks_way(fields):
    """A record that somebody made, and an exception."""
    sent, wanted = both(**fields)
    assert sent == wanted


class _Redacting(LogRecordProcessor):
    def on_emit(self, log_record):
        log_record.log_record.body = "<hidden>"

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=0):
        return True


def test_a_foreign_processor_changes_what_leaves():
    """Also one that is added last."""
    provider, shelf = LeanLoggerProvider(RESOURCE), Shelf()
    provider.add_log_record_processor(BatchedLogs(shelf))
    provider.add_log_record_processor(_Redacting())
    emitted(provider, timestamp=5, body="hunter2")
    (item,) = shelf.items
    assert b"<hidden>" in item[2]
    assert b"hunter2" not in item[2]


def test_a_logger_without_a_way_out_sends_nothing():
    """And one that is switched off neither; both are cheap."""
    provider, shelf = LeanLoggerProvider(RESOURCE), Shelf()
    emitted(provider, timestamp=5, body="hello")
    provider.add_log_record_processor(BatchedLogs(shelf))
    logger = provider.get_logger("t", "1")
    assert type(logger) is LeanLogger
    logger._logger_config.is_enabled = False
    emitted(provider, timestamp=5, body="hello")
    assert shelf.items == []
