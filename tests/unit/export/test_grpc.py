"""gRPC: what each answer of a collector means, and what it is sent, as its own protocol has it."""

import gzip
import logging
import os
import re
import shutil
import socket
import sys
import time
import zlib
from base64 import b64encode

import pytest
from collector import certify, server_tls
from collector import collecting as collecting_http
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from grpc_collector import answering, collecting, cutting, resetting, without_grpc
from h2.errors import ErrorCodes
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tercet.declare.settings import Settings
from tercet.errors import SettingsError, SetupError
from tercet.export.answer import Answer
from tercet.export.compression import COMPRESS
from tercet.export.link import Link

BODY = b"\x0a\x00"


def link_to(endpoint, signal="traces", **settings):
    loaded = Settings.load({}, otlp_protocol="grpc", otlp_endpoint=endpoint, **settings)
    return Link(loaded.otlp(signal), signal)


@pytest.fixture
def collector():
    with collecting() as server:
        yield server


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "tercet.export"]


def message(number, content):
    """Encode one field that holds a message."""
    return bytes([number << 3 | 2, len(content)]) + content


def asking_for(seconds, nanos=0, name="google.rpc.RetryInfo"):
    """Encode what a server adds to a status when it asks for a pause."""
    delay = Duration(seconds=seconds, nanos=nanos).SerializeToString()
    others = message(3, Any(type_url="type.googleapis.com/google.rpc.Help").SerializeToString())
    detail = Any(type_url=f"type.googleapis.com/{name}", value=message(1, delay) if delay else b"")
    status = b"\x08\x08" + message(2, b"slowly") + others + message(3, detail.SerializeToString())
    return b64encode(status).decode().rstrip("=")


TOKEN = "otlp_headers (OTEL_EXPORTER_OTLP_HEADERS) must hold a token that it accepts"
NO_DURATION = Any(type_url="/google.rpc.RetryInfo", value=b"\x0a\x01\x08").SerializeToString()


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (answering(0), Answer("delivered")),
        (answering(0, b"a gateway's own word"), Answer("delivered")),
        (answering(1), Answer("later", "gRPC CANCELLED")),
        (answering(2), Answer("refused", "gRPC UNKNOWN")),
        (
            answering(3, grpc_message="bad%0Aspan%C3%A9"),
            Answer("refused", "gRPC INVALID_ARGUMENT (bad?span?)"),
        ),
        (answering(4), Answer("later", "gRPC DEADLINE_EXCEEDED")),
        (answering(5), Answer("refused", "gRPC NOT_FOUND")),
        (answering(6), Answer("refused", "gRPC ALREADY_EXISTS")),
        (answering(7), Answer("refused", f"gRPC PERMISSION_DENIED. {TOKEN}")),
        (answering(8), Answer("refused", "gRPC RESOURCE_EXHAUSTED")),
        (answering(9), Answer("refused", "gRPC FAILED_PRECONDITION")),
        (answering(10), Answer("later", "gRPC ABORTED")),
        (answering(11), Answer("later", "gRPC OUT_OF_RANGE")),
        (answering(12), Answer("refused", "gRPC UNIMPLEMENTED")),
        (answering(13), Answer("refused", "gRPC INTERNAL")),
        (answering(14), Answer("later", "gRPC UNAVAILABLE")),
        (answering(15), Answer("later", "gRPC DATA_LOSS")),
        (answering(16, grpc_message="none"), Answer("refused", f"gRPC UNAUTHENTICATED (none). {TOKEN}")),
        (answering(17), Answer("refused", "gRPC UNKNOWN")),
        (answering("soon"), Answer("refused", "gRPC UNKNOWN")),
        (without_grpc(200), Answer("refused", "gRPC UNKNOWN")),
        (without_grpc(503), Answer("later", "HTTP 503")),
        (without_grpc(413), Answer("too_large", "HTTP 413")),
        (without_grpc(404), Answer("refused", "HTTP 404")),
    ],
)
def test_each_answer_has_its_meaning(answer, meaning, collector):
    """As OTLP's specification has it, over one connection, whatever is answered."""
    collector.answer = answer
    link = link_to(collector.url)
    assert [link.post(BODY), link.post(BODY)] == [meaning, meaning]
    assert len(collector.requests) == 2
    assert collector.connections == 1


@pytest.mark.parametrize(
    ("code", "details", "kind", "wait"),
    [
        (8, asking_for(3, 500_000_000), "later", 3.5),
        (8, asking_for(0), "later", 0.0),
        (8, asking_for(-3), "later", 0.0),
        (8, asking_for(99_999), "later", 300.0),
        (14, asking_for(2), "later", 2.0),
        (13, asking_for(2), "refused", None),
        (8, asking_for(3, name="google.rpc.QuotaFailure"), "refused", None),
        (8, b64encode(message(3, NO_DURATION)).decode(), "refused", None),
        (8, "!", "refused", None),
        (8, b64encode(b"\xff\xff").decode(), "refused", None),
    ],
)
def test_a_pause_that_is_asked_for_is_kept(code, details, kind, wait, collector):
    """Who is out of resources and asks for none does not take it later either."""
    collector.answer = answering(code, grpc_status_details_bin=details)
    answer = link_to(collector.url).post(BODY)
    assert (answer.kind, answer.wait) == (kind, wait)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (8, "SERVER: Received message larger than max (5000001 vs. 4194304)"),
        (8, "grpc: received message after decompression larger than max 4194304"),
        (8, "gRPC message exceeds maximum size 4194304: 5000001"),
        (8, "Received message exceeds the maximum configured message size."),
        (11, "Error, decoded message length too large: found 5000001 bytes, the limit is: 4194304 bytes"),
    ],
)
def test_what_is_too_large_is_halved(code, words, collector):
    """Each server has its own words for it."""
    collector.answer = answering(code, grpc_message=words)
    assert link_to(collector.url).post(BODY).kind == "too_large"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ErrorCodes.CANCEL, "later"),
        (ErrorCodes.REFUSED_STREAM, "later"),
        (ErrorCodes.INTERNAL_ERROR, "refused"),
    ],
)
def test_a_request_that_is_given_up_is_tried_later_where_it_may_be(code, kind, collector):
    """By the code of HTTP/2; the connection is not used again."""
    collector.answer = resetting(code)
    link = link_to(collector.url)
    assert link.post(BODY).kind == kind
    collector.answer = answering()
    assert link.post(BODY) == Answer("delivered")


@pytest.mark.parametrize(
    ("signal", "service", "partial", "field"),
    [
        ("traces", "trace.v1.TraceService", ExportTraceServiceResponse(), "rejected_spans"),
        ("metrics", "metrics.v1.MetricsService", ExportMetricsServiceResponse(), "rejected_data_points"),
        ("logs", "logs.v1.LogsService", ExportLogsServiceResponse(), "rejected_log_records"),
    ],
)
def test_partial_success_is_read(signal, service, partial, field, collector):
    """Of each signal, which has a service of its own."""
    partial.partial_success.error_message = "too\nold"
    setattr(partial.partial_success, field, 3)
    collector.answer = answering(0, partial.SerializeToString())
    assert link_to(collector.url, signal).post(BODY) == Answer("delivered", "too?old", None, 3)
    (request,) = collector.requests
    assert request.headers[":path"] == f"/opentelemetry.proto.collector.{service}/Export"


def test_what_grpc_asks_for_is_sent(collector):
    """Ours stands, whatever the settings say; a login in the URL becomes a header."""
    url = collector.url.replace("//", "//user:pass@")
    link_to(url, otlp_headers={"User-Agent": "x", "Token": "1" * 300}, otlp_timeout=7).post(BODY)
    (request,) = collector.requests
    assert re.fullmatch(r"[67]\d{3}m", request.headers.pop("grpc-timeout"))
    assert re.fullmatch(r"tercet/\d.*", request.headers.pop("user-agent"))
    assert request.headers == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        ":authority": collector.address,
        "te": "trailers",
        "content-type": "application/grpc",
        "authorization": "Basic dXNlcjpwYXNz",
        "token": "1" * 300,
    }
    assert request.body == b"\0\0\0\0\2" + BODY


@pytest.mark.parametrize("then", COMPRESS)
@pytest.mark.parametrize("now", ["gzip", "none"])
def test_a_request_packed_by_other_settings_is_understood(now, then, collector):
    """It waited on disk while the settings changed, or the protocol did, and only HTTP has deflate."""
    link_to(collector.url, otlp_compression=now).post(COMPRESS[then](BODY))
    (request,) = collector.requests
    kind = request.headers.get("grpc-encoding", "none")
    assert kind == ("gzip" if then == "deflate" else then)
    assert request.body[0] == (kind != "none")
    assert {"gzip": gzip.decompress, "none": bytes}[kind](request.body[5:]) == BODY


def test_a_damaged_request_is_given_up(collector):
    """Nobody will ever take it."""
    answer = link_to(collector.url).post(zlib.compress(BODY)[:-1])
    assert answer == Answer("refused", "it is damaged, and cannot be unpacked")


def test_a_large_request_arrives_whole(collector):
    """In pieces, as the collector makes room for them."""
    body = b"\x0a" + os.urandom(1_000_000)
    assert link_to(collector.url).post(body) == Answer("delivered")
    assert collector.requests[0].body[5:] == body


def test_a_connection_that_was_closed_meanwhile_is_no_failure(collector):
    """The request is sent again on a new one."""
    link = link_to(collector.url)
    link.post(BODY)
    collector.answer = lambda http, stream: (setattr(collector, "answer", answering()), cutting(http, stream))
    assert link.post(BODY) == Answer("delivered")
    assert (len(collector.requests), collector.connections) == (3, 2)


def test_a_connection_that_is_cut_each_time_is_tried_later(collector):
    """Not for ever at once; how it ends depends on what was on its way."""
    collector.answer = cutting
    answer = link_to(collector.url).post(BODY)
    assert answer.kind == "later"
    assert answer.reason in {"the connection was cut", "Connection reset by peer", "Broken pipe"}
    assert len(collector.requests) == 2


def test_a_silent_collector_costs_the_timeout():
    """The shorter of the setting's and the caller's."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for setting, asked in ((0.1, 60), (60, 0.1)):
            began = time.monotonic()
            answer = link_to(f"http://127.0.0.1:{silent.getsockname()[1]}", otlp_timeout=setting).post(
                BODY, asked
            )
            assert answer == Answer("later", "no answer in time")
            assert time.monotonic() - began < 5


def test_nobody_there_is_said_without_secrets(caplog):
    """Neither the URL's nor the headers'; a host and a port are an address, too."""
    link = link_to("user:hunter2@localhost:9", otlp_insecure=True, otlp_headers={"authorization": "hunter2"})
    assert link.post(BODY) == Answer("later", "Connection refused")
    (line,) = said(caplog)
    assert line.startswith("Cannot deliver traces to localhost:9: Connection refused. It waits, and is sent")


def test_a_collector_of_http_is_told_from_one_of_grpc():
    """Their ports are neighbours."""
    with collecting_http() as server:
        answer = link_to(server.url).post(BODY)
    assert answer == Answer("later", "what listens there speaks no HTTP/2, and so no gRPC")


@pytest.mark.parametrize(
    "headers",
    [
        {"a!b": "1"},
        {"grpc-timeout": "1S"},
        {"TE": "x"},
        {"key-bin": "AA"},
        {"token": "s\u00e9cret"},
        {"token": "a\tb"},
    ],
)
def test_a_header_that_cannot_be_sent_is_said_at_the_start(headers):
    """By its name, for its value may be secret."""
    otlp = Settings(otlp_protocol="grpc", otlp_headers=headers).otlp("traces")
    (name,) = headers
    with pytest.raises(SettingsError, match=rf"gRPC can send, got '{name.lower()}': <hidden>\. Write "):
        Link(otlp, "traces")


def test_grpc_knows_no_deflate():
    """Only HTTP does."""
    with pytest.raises(SettingsError, match="otlp_compression must be gzip or none for gRPC, got 'deflate'"):
        link_to("http://localhost:4317", otlp_compression="deflate")


def test_grpc_that_is_not_installed_is_said(monkeypatch):
    """The extra is one command away."""
    monkeypatch.delitem(sys.modules, "tercet.export.grpc", raising=False)
    monkeypatch.delitem(sys.modules, "tercet.export.http2", raising=False)
    monkeypatch.setitem(sys.modules, "h2.config", None)
    with pytest.raises(SetupError) as error:
        link_to("http://localhost:4317")
    assert str(error.value) == (
        "otlp_protocol (OTEL_EXPORTER_OTLP_PROTOCOL) must be http/protobuf unless gRPC is installed, "
        "got 'grpc'. Write http/protobuf, or install tercet[grpc]."
    )


def test_a_child_has_a_connection_of_its_own(collector):
    """Its parent goes on with the one that it had."""
    link = link_to(collector.url)
    link.post(BODY)
    child = os.fork()
    if child == 0:
        os._exit(0 if link.post(BODY).kind == "delivered" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert link.post(BODY).kind == "delivered"
    parents, childs, again = (request.peer for request in collector.requests)
    assert parents == again != childs


def test_no_token_gets_into_a_log(collector, caplog):
    """Whatever is logged, by whomever; hpack would say it in clear, or by Huffman's code."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="hpack.hpack")
    link_to(collector.url, otlp_headers={"token": "hunter2"}).post(BODY)
    logging.getLogger("hpack.hpack").warning("still heard")
    assert collector.requests[0].headers["token"] == "hunter2"
    assert "hunter2" not in caplog.text
    assert [each.getMessage() for each in caplog.records if each.name == "hpack.hpack"] == ["still heard"]


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made by openssl")


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return certify(tmp_path_factory.mktemp("ours"), "collector")


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    return certify(tmp_path_factory.mktemp("client"), "client")


@needs_openssl
def test_the_collectors_certificate_is_checked(ours, client):
    """The one that is named is trusted; no other is, and the notice says so."""
    with collecting(tls=server_tls(*ours)) as server:
        assert link_to(server.address, otlp_certificate=ours[0]).post(BODY) == Answer("delivered")
        assert server.requests[0].headers[":scheme"] == "https"
        for other in ({}, {"otlp_certificate": client[0]}):
            answer = link_to(server.url, **other).post(BODY)
            assert answer.kind == "later"
            assert "certificate verify failed" in answer.reason
            assert "otlp_certificate (OTEL_EXPORTER_OTLP_CERTIFICATE) must be" in answer.reason


@needs_openssl
def test_the_client_shows_its_certificate(ours, client):
    """Where the collector speaks to nobody else."""
    with collecting(tls=server_tls(*ours, client=client[0])) as server:
        shown = {"otlp_client_certificate": client[0], "otlp_client_key": client[1]}
        link = link_to(server.url, otlp_certificate=ours[0], **shown)
        assert [link.post(BODY), link.post(BODY)] == [Answer("delivered")] * 2
        assert server.connections == 1
        answer = link_to(server.url, otlp_certificate=ours[0]).post(BODY)
        assert answer.kind == "later"
        assert "otlp_client_certificate (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE) and" in answer.reason


def test_a_certificate_that_cannot_be_used_is_said_at_the_start():
    """As over HTTP."""
    with pytest.raises(SettingsError, match=r"got '/none\.pem': No such file or directory\."):
        link_to("https://localhost", otlp_certificate="/none.pem")
