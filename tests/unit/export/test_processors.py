"""Processors: what they hand on, and what they keep to themselves."""

import pytest
from opentelemetry import trace
from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from tercet.export.answer import Answer
from tercet.export.batch import Outbox
from tercet.export.encode import encode_request
from tercet.export.processors import BatchedLogs, BatchedSpans


class Collector:
    """A link that notes what it is given."""

    def __init__(self, kind="delivered"):
        self.kind = kind
        self.posted = []
        self.timeouts = []

    def pack(self, body):
        return body

    def post(self, packed, timeout=float("inf")):
        self.posted.append(packed)
        self.timeouts.append(timeout)
        return Answer(self.kind)

    def tell(self, what):
        return False


@pytest.fixture
def collector():
    return Collector()


@pytest.fixture
def outbox(collector):
    """An outbox whose items can be seen when they are encoded."""
    items = []

    def encode(batch):
        items.extend(batch)
        return b"x"

    box = Outbox("test", collector, encode, list, queue_size=100, batch_size=10, delay=1000, max_bytes=1000)
    box.items = items
    yield box
    box.close(1)


@pytest.mark.parametrize(("sampler", "names"), [(ALWAYS_ON, ["inner", "outer"]), (ALWAYS_OFF, [])])
def test_sampled_spans_are_sent_when_they_end(sampler, names, outbox):
    """Others are not."""
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(BatchedSpans(outbox))
    tracer = provider.get_tracer("t")
    with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
        pass
    assert provider.force_flush()
    request = ExportTraceServiceRequest.FromString(encode_request(outbox.items))
    spans = [span for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]
    assert [span.name for span in spans] == names
    provider.shutdown()
    assert outbox.delivered == len(names)


def test_a_log_record_is_sent_as_it_was_emitted(outbox):
    """With the trace that its context names; what is done to it later changes nothing."""
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(BatchedLogs(outbox))
    span = trace.NonRecordingSpan(trace.SpanContext(1, 2, is_remote=False))
    context = trace.set_span_in_context(span, {"request": "a whole one"})
    record = LogRecord(body="hello", context=context)
    provider.get_logger("t").emit(record)
    record.body = "goodbye"
    assert provider.force_flush()
    (scope,) = ExportLogsServiceRequest.FromString(encode_request(outbox.items)).resource_logs[0].scope_logs
    (sent,) = scope.log_records
    assert (scope.scope.name, sent.body.string_value, int.from_bytes(sent.trace_id)) == ("t", "hello", 1)
    provider.shutdown()
    assert outbox.delivered == 1


def test_what_cannot_be_encoded_is_counted_and_fails_nobody(outbox):
    """It is gone, but not silently."""
    BatchedSpans(outbox).take(object())
    BatchedLogs(outbox).on_emit(object())
    assert outbox.dropped == {"encode_failed": 2}


@pytest.mark.parametrize("build", [BatchedSpans, BatchedLogs])
def test_a_processor_that_is_shut_down_says_whether_all_was_sent(build, outbox, collector):
    """As its handle must know."""
    collector.kind = "later"
    outbox.put("an item")
    assert build(outbox).force_flush(5_000) is False
    assert build(outbox).shutdown(5_000) is False
    assert outbox.dropped == {"shutdown": 1}
