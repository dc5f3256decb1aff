"""Lean records: what is emitted leaves as the SDK's own logger would send it."""

from time import time_ns

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs as upstream_encode
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import Logger, LoggerProvider, LogRecordProcessor
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

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
        self.refused = []

    def put(self, item):
        self.items.append(item)

    def refuse(self, reason, error):
        self.refused.append((reason, type(error)))


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


@given(
    message=st.text(max_size=5),
    fields=st.dictionaries(st.sampled_from(["a", "b", ""]), values, max_size=3),
    context=st.sampled_from([Context(), IN_A_SPAN]),
    severity=st.sampled_from([(9, "INFO"), (21, "FATAL")]),
)
@pytest.mark.filterwarnings("ignore")
def test_a_record_of_the_log_stream_says_the_same(message, fields, context, severity):
    """By the short way that only a lean logger has."""
    provider, shelf = LeanLoggerProvider(RESOURCE), Shelf()
    provider.add_log_record_processor(BatchedLogs(shelf))
    ids = get_current_span(context).get_span_context()
    provider.get_logger("t", "1").take(5, severity, message, fields, ids, context)
    sent = ExportLogsServiceRequest.FromString(encode_request(shelf.items))
    (record,) = sent.resource_logs[0].scope_logs[0].log_records
    _, wanted = both(
        timestamp=5,
        observed_timestamp=record.observed_time_unix_nano,
        severity_text=severity[1],
        severity_number=SeverityNumber(severity[0]),
        body=message,
        attributes=fields,
        context=context,
    )
    assert record == wanted.resource_logs[0].scope_logs[0].log_records[0]


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
    severity, ids = (9, "INFO"), get_current_span(Context()).get_span_context()
    provider.get_logger("t", "1").take(5, severity, "hunter2", {}, ids, Context())
    assert [(b"<hidden>" in body, b"hunter2" in body) for _, _, body in shelf.items] == [(True, False)] * 2


def test_a_logger_without_a_way_out_sends_nothing():
    """And one that is switched off neither; both are cheap."""
    provider, shelf = LeanLoggerProvider(RESOURCE), Shelf()
    emitted(provider, timestamp=5, body="hello")
    provider.add_log_record_processor(BatchedLogs(shelf))
    logger = provider.get_logger("t", "1")
    assert type(logger) is LeanLogger
    logger._logger_config.is_enabled = False
    emitted(provider, timestamp=5, body="hello")
    logger.take(
        5,
        (9, "INFO"),
        "hello",
        {},
        get_current_span(IN_A_SPAN).get_span_context(),
        IN_A_SPAN,
    )
    assert shelf.items == []


def test_with_internal_metrics_on_the_sdks_own_loggers_stay(monkeypatch):
    """They count what they send; and what they send is the same."""
    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    provider, shelf = LeanLoggerProvider(RESOURCE), Shelf()
    provider.add_log_record_processor(BatchedLogs(shelf))
    emitted(provider, timestamp=5, observed_timestamp=6, body="hello")
    assert type(provider.get_logger("t", "1")) is Logger
    assert (
        ExportLogsServiceRequest.FromString(encode_request(shelf.items))
        == (both(timestamp=5, observed_timestamp=6, body="hello")[1])
    )


@pytest.mark.parametrize(
    "odd", [{"timestamp": 1e18}, {"timestamp": -1}, {"timestamp": 2**64}, {"severity_text": []}], ids=str
)
def test_what_cannot_be_encoded_is_counted(odd):
    """And fails nobody who logs; the SDK's own fails nobody either."""
    provider, shelf = LeanLoggerProvider(RESOURCE), Shelf()
    provider.add_log_record_processor(BatchedLogs(shelf))
    emitted(provider, **({"timestamp": 5, "body": "hello"} | odd))
    assert ([reason for reason, _ in shelf.refused], shelf.items) == (["encode_failed"], [])


def test_a_severity_may_be_a_bare_number():
    """It leaves as the member would; the SDK's own loses it."""
    bare, _ = both(timestamp=5, observed_timestamp=6, body="hello", severity_number=9)
    member, _ = both(timestamp=5, observed_timestamp=6, body="hello", severity_number=SeverityNumber.INFO)
    assert bare == member


def test_a_record_is_observed_when_it_is_emitted():
    """Whenever it says that it happened."""
    provider, shelf = LeanLoggerProvider(RESOURCE), Shelf()
    provider.add_log_record_processor(BatchedLogs(shelf))
    before = time_ns()
    emitted(provider, timestamp=5, body="hello")
    request = ExportLogsServiceRequest.FromString(encode_request(shelf.items))
    (record,) = request.resource_logs[0].scope_logs[0].log_records
    assert record.time_unix_nano == 5
    assert before <= record.observed_time_unix_nano <= time_ns()


class _Failing(_Redacting):
    def on_emit(self, log_record):
        raise ValueError("foreign")


def test_a_foreign_processor_fails_by_itself(caplog):
    """Neither who logs, nor what leaves here; it is said once a minute."""
    provider, shelf = LeanLoggerProvider(RESOURCE), Shelf()
    provider.add_log_record_processor(_Failing())
    provider.add_log_record_processor(BatchedLogs(shelf))
    emitted(provider, timestamp=5, body="hello")
    emitted(provider, timestamp=6, body="hello")
    assert len(shelf.items) == 2
    said = [each.getMessage() for each in caplog.records]
    assert said == ["The processor _Failing failed: ValueError('foreign')"]


class _Undecided(_Redacting):
    def enabled(self, **_kwargs):
        raise ValueError("foreign")


def test_a_foreign_processor_that_cannot_say_what_it_wants_fails_by_itself(caplog):
    """Whoever asks before making a record is not failed by it."""
    provider = LeanLoggerProvider(RESOURCE)
    provider.add_log_record_processor(_Undecided())
    assert provider.get_logger("app").enabled()
    assert [each.getMessage() for each in caplog.records] == [
        "The processor _Undecided failed: ValueError('foreign')"
    ]
