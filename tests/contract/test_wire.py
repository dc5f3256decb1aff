"""What leaves the process, letter for letter: one line of JSON and one OTLP record for the same event."""

import io
import json
import logging

from google.protobuf.json_format import MessageToDict
from opentelemetry._logs import get_logger_provider
from opentelemetry.context import Context, attach, detach
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from tercet.emit.correlation import with_correlation_id
from tercet.emit.logs import LogStream
from tercet.export.text import json_line


def test_one_event_is_golden_in_both_forms(seen):
    """Names, order and types are what dashboards and searches build on."""
    out = io.StringIO()
    stream = LogStream(service="shop", render=json_line, provider=get_logger_provider(), stream=out)
    record = logging.makeLogRecord(
        {
            "name": "orders",
            "msg": "paid %d",
            "args": (5,),
            "levelno": logging.WARNING,
            "levelname": "WARNING",
            "created": 1.25,
            "user_id": "u1",
            "amount": 9.5,
            "items": ["a", {"b": None}],
        }
    )
    span = NonRecordingSpan(SpanContext(0xA1, 0xB2, is_remote=False, trace_flags=TraceFlags(1)))
    token = attach(set_span_in_context(span, with_correlation_id("abc", Context())))
    stream.take(record)
    detach(token)
    assert out.getvalue() == (
        '{"timestamp": "1970-01-01T00:00:01.250000Z", "level": "WARNING", "logger": "orders", '
        '"message": "paid 5", "service": "shop", "trace_id": "000000000000000000000000000000a1", '
        '"span_id": "00000000000000b2", "correlation_id": "abc", "user_id": "u1", "amount": 9.5, '
        '"items": ["a", {"b": null}]}\n'
    )
    scope = MessageToDict(encode_logs(seen.logs))["resourceLogs"][0]["scopeLogs"][0]
    (sent,) = scope["logRecords"]
    attributes = {pair["key"]: pair["value"] for pair in sent["attributes"]}
    assert scope["scope"]["name"] == "orders"
    assert (sent["timeUnixNano"], sent["severityNumber"], sent["severityText"]) == (
        "1250000000",
        "SEVERITY_NUMBER_WARN",
        "WARN",
    )
    assert sent["body"] == {"stringValue": "paid 5"}
    assert attributes.keys() == {"user_id", "amount", "items", "correlation_id"}
    assert attributes["user_id"] == {"stringValue": "u1"}
    assert attributes["amount"] == {"doubleValue": 9.5}
    assert attributes["correlation_id"] == {"stringValue": "abc"}
    assert json.loads(out.getvalue())["trace_id"].endswith("a1")
