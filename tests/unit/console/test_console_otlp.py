"""OTLP bodies: what is read, and what is refused with which status."""

import gzip
import json
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from otlp_messages import TRACE, span, traces

from tercet.console import otlp
from tercet.console.otlp import JSON, PROTOBUF, RefusedError, decode, encode

REQUEST = traces(orders=[span(2, parent=1)])
WIRE = REQUEST.SerializeToString()


def _refusal(body: bytes, content_type: str = PROTOBUF, encoding: str = "") -> int:
    with pytest.raises(RefusedError) as caught:
        decode(ExportTraceServiceRequest, body, content_type, encoding)
    return caught.value.status


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (WIRE, ""),
        (WIRE, "identity"),
        (gzip.compress(WIRE), "gzip"),
        (gzip.compress(WIRE), " GZip "),
        (zlib.compress(WIRE), "deflate"),
    ],
)
def test_protobuf_is_read_in_each_encoding(body, encoding):
    """A body says the same in each content encoding."""
    assert decode(ExportTraceServiceRequest, body, PROTOBUF, encoding) == REQUEST


@pytest.mark.parametrize(("trace_id", "span_id"), [("traceId", "spanId"), ("trace_id", "span_id")])
def test_json_ids_are_hexadecimal(trace_id, span_id):
    """OTLP's JSON has ids in hex, where protobuf's own JSON has base64."""
    document = {
        "resourceSpans": [{"scopeSpans": [{"spans": [{trace_id: TRACE.hex(), span_id: "00000000000000ff"}]}]}]
    }

    request = decode(
        ExportTraceServiceRequest, json.dumps(document).encode(), "application/json; charset=utf-8"
    )

    found = request.resource_spans[0].scope_spans[0].spans[0]
    assert (found.trace_id, found.span_id) == (TRACE, b"\0\0\0\0\0\0\0\xff")


def test_json_fields_of_a_later_version_are_ignored():
    """An unknown field is no reason to lose the rest."""
    assert decode(ExportTraceServiceRequest, b'{"later": 1}', JSON) == ExportTraceServiceRequest()


@pytest.mark.parametrize(
    "content_type", ["text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_type_that_a_foreign_page_could_send_is_refused(content_type):
    """Types that need no preflight are not OTLP."""
    assert _refusal(WIRE, content_type) == 415


def test_an_unknown_encoding_is_refused():
    """An encoding that nobody decodes is said to be so."""
    assert _refusal(WIRE, encoding="br") == 415


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"7",
        b'"spans"',
        b'{"resourceSpans": 7}',
        b"[" * 100_000,
        b"\xff",
        b'{"traceId": "xyz"}',
        b'{"spanId": 7}',
    ],
)
def test_garbage_in_json_is_refused(body):
    """Broken JSON, wrong shapes and endless nesting are the sender's fault."""
    assert _refusal(body, JSON) == 400


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("body", [b"garbage", gzip.compress(WIRE)[:-9], zlib.compress(WIRE)[:-5]])
def test_a_broken_stream_is_refused(body, encoding):
    """A stream that is cut or no stream at all is the sender's fault."""
    assert _refusal(body, encoding=encoding) == 400


@pytest.mark.parametrize(("encoding", "deflate"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_bomb_is_refused(monkeypatch, encoding, deflate):
    """Inflating stops at the limit, however small the body."""
    monkeypatch.setattr(otlp, "MAX_INFLATED_BYTES", 1000)

    assert _refusal(deflate(bytes(10**6)), encoding=encoding) == 413


def test_a_body_above_the_limit_is_refused():
    """The limit on what is sent holds before anything is inflated."""
    assert _refusal(bytes(otlp.MAX_BODY_BYTES + 1)) == 413


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body):
    """Whatever the bytes, nothing but a refusal comes out of the decoder."""
    for content_type in (PROTOBUF, JSON):
        for encoding in ("", "gzip", "deflate"):
            try:
                decode(ExportTraceServiceRequest, body, content_type, encoding)
            except RefusedError as refusal:
                assert refusal.status == 400  # noqa: PT017 - either outcome is right


def test_a_reply_has_the_encoding_of_its_request():
    """JSON is answered in JSON, protobuf in protobuf."""
    reply = ExportTraceServiceResponse()
    reply.partial_success.rejected_spans = 2

    assert json.loads(encode(reply, JSON)) == {"partialSuccess": {"rejectedSpans": "2"}}
    assert ExportTraceServiceResponse.FromString(encode(reply, PROTOBUF)) == reply
