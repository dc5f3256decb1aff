"""The link: what each answer of a collector means, and what is said of it."""

import gzip
import logging
import os
import shutil
import socket
import threading
import time
import zlib
from contextlib import contextmanager, suppress

import pytest
from collector import answering, certify, collecting, cutting, cutting_body, dripping, server_tls
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from tercet.declare.settings import Settings
from tercet.errors import SettingsError
from tercet.export.compression import COMPRESS
from tercet.export.link import Answer, Link, Outage

BODY = b"\x0a\x00"


def link_to(url, signal="traces", **settings):
    return Link(Settings.load({}, otlp_endpoint=url, **settings).otlp(signal), signal)


@pytest.fixture
def collector():
    with collecting() as server:
        yield server


def said(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "tercet.export"]


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (answering(200), Answer("delivered")),
        (answering(204), Answer("delivered")),
        (answering(200, b"a gateway's own word"), Answer("delivered")),
        (answering(200, b"x" * 200_000), Answer("delivered")),
        (answering(429), Answer("later", "HTTP 429")),
        (answering(503, retry_after="7"), Answer("later", "HTTP 503", 7.0)),
        (answering(503, retry_after="soon"), Answer("later", "HTTP 503")),
        (answering(503, retry_after="9" * 5000), Answer("later", "HTTP 503")),
        (answering(503, retry_after="99999999"), Answer("later", "HTTP 503", 300.0)),
        (answering(502), Answer("later", "HTTP 502")),
        (answering(504), Answer("later", "HTTP 504")),
        (answering(413), Answer("too_large", "HTTP 413")),
        (answering(301, location="/elsewhere"), Answer("refused", "HTTP 301")),
        (answering(307, location="/elsewhere"), Answer("refused", "HTTP 307")),
        (answering(400), Answer("refused", "HTTP 400")),
        (answering(500), Answer("refused", "HTTP 500")),
    ],
)
def test_each_answer_has_its_meaning(answer, meaning, collector):
    """As OTLP's specification has it; a redirect is followed nowhere."""
    collector.answer = answer
    link = link_to(collector.url)
    assert [link.post(BODY), link.post(BODY)] == [meaning, meaning]
    assert [request.path for request in collector.requests] == ["/v1/traces", "/v1/traces"]


@pytest.mark.parametrize(
    ("signal", "response", "field"),
    [
        ("traces", ExportTraceServiceResponse, "rejected_spans"),
        ("metrics", ExportMetricsServiceResponse, "rejected_data_points"),
        ("logs", ExportLogsServiceResponse, "rejected_log_records"),
    ],
)
def test_partial_success_is_read(signal, response, field, collector, caplog):
    """And said, without what would break a line."""
    message = response()
    message.partial_success.error_message = "too\nold"
    setattr(message.partial_success, field, 3)
    collector.answer = answering(200, message.SerializeToString())
    assert link_to(collector.url, signal).post(BODY) == Answer("delivered", "too?old", None, 3)
    host = collector.url.partition("//")[2]
    assert said(caplog) == [f"{signal} to {host}: taken in part, 3 rejected: too?old."]


def test_a_meter_that_fails_changes_no_answer(collector, caplog):
    """It is somebody else's, and what is delivered must not be sent again."""
    link = link_to(collector.url)
    link.observe = lambda seconds, answer: 1 / 0
    assert link.post(BODY) == Answer("delivered")
    assert said(caplog)[0].endswith(": a request could not be measured (ZeroDivisionError).")


def test_one_connection_is_kept(collector):
    """Whatever is answered."""
    link = link_to(collector.url)
    for status in (200, 503, 400, 413, 200):
        collector.answer = answering(status, b"a word")
        link.post(BODY)
    assert len({request.peer for request in collector.requests}) == 1


def test_a_connection_that_was_closed_meanwhile_is_no_failure(collector):
    """The request is sent again on a new one."""
    link = link_to(collector.url)
    link.post(BODY)
    collector.answer = lambda handler: (setattr(collector, "answer", answering()), cutting(handler))
    assert link.post(BODY) == Answer("delivered")
    assert len(collector.requests) == 3


def test_a_connection_that_is_cut_each_time_is_tried_later(collector):
    """Not for ever at once."""
    collector.answer = cutting
    assert link_to(collector.url).post(BODY).kind == "later"
    assert len(collector.requests) == 2


def test_an_answer_that_is_cut_after_its_status_is_an_answer(collector):
    """Sending again would deliver twice."""
    collector.answer = cutting_body
    assert link_to(collector.url).post(BODY) == Answer("delivered")
    assert len(collector.requests) == 1


def test_an_answer_without_an_end_costs_the_timeout(collector):
    """It has said what counts, and the next one has a connection of its own."""
    collector.answer = dripping()
    link = link_to(collector.url, otlp_timeout=0.1)
    assert link.post(BODY) == Answer("delivered")
    collector.answer = answering()
    assert link.post(BODY) == Answer("delivered")
    assert len({request.peer for request in collector.requests}) == 2


DRIPPING = [
    dripping(b"HTTP/1.1 "),
    dripping(b"HTTP/1.1 200 OK\r\nX-Pad: "),
    dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
]


@pytest.mark.parametrize("answer", DRIPPING, ids=["status", "header", "continue"])
def test_an_answer_that_drips_before_its_body_costs_the_timeout(answer, collector):
    """However little comes at a time, it is the time of the whole request."""
    collector.answer = answer
    link = link_to(collector.url, otlp_timeout=0.2)
    assert link.post(BODY) == Answer("later", "no answer in time")
    collector.answer = answering()
    assert link_to(collector.url).post(BODY) == Answer("delivered")


@contextmanager
def slow_reader(tls=None):
    """Take a little of what one client sends, now and then."""
    enough = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take():
            wire = listener.accept()[0]
            with suppress(OSError), tls.wrap_socket(wire, server_side=True) if tls else wire as taking:
                while not enough.wait(0.01) and taking.recv(100):
                    pass

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http{'s' if tls else ''}://localhost:{listener.getsockname()[1]}"
        enough.set()
        thread.join(10)


def test_a_collector_that_reads_slowly_costs_the_timeout():
    """It may be slow in taking, too."""
    with slow_reader() as url:
        answer = link_to(url, otlp_timeout=0.5, otlp_compression="none").post(bytes(20_000_000))
    assert answer == Answer("later", "no answer in time")


def test_a_silent_collector_costs_the_timeout(caplog):
    """The shorter of the setting's and the caller's."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for setting, asked in ((0.1, 60), (60, 0.1)):
            began = time.monotonic()
            answer = link_to(url, otlp_timeout=setting).post(BODY, asked)
            assert answer == Answer("later", "no answer in time")
            assert time.monotonic() - began < 5


def test_nobody_there_is_said_without_secrets(caplog):
    """Neither the URL's nor the headers'."""
    link = link_to("http://user:hunter2@localhost:9", otlp_headers={"authorization": "hunter2"})
    assert link.post(BODY) == Answer("later", "Connection refused")
    (line,) = said(caplog)
    assert line.startswith("Cannot deliver traces to localhost:9: Connection refused. It waits, and is sent")


def test_a_header_that_cannot_be_sent_raises_nothing(collector):
    """Settings made by hand may hold one; the reason names the kind of error, not the value."""
    settings = Settings(otlp_endpoint=collector.url, otlp_headers={"token": "sécret\u20ac"})
    assert Link(settings.otlp("traces"), "traces").post(BODY) == Answer("later", "UnicodeEncodeError")


def test_headers_know_no_case(collector):
    """Ours stand; a login in the URL becomes a header."""
    url = collector.url.replace("//", "//user:pass@")
    link_to(url, otlp_headers={"User-Agent": "x", "CONTENT-TYPE": "y", "Token": "1"}).post(BODY)
    (request,) = collector.requests
    assert request.headers["content-type"] == "application/x-protobuf"
    assert request.headers["user-agent"].startswith("tercet/")
    assert (request.headers["token"], request.headers["authorization"]) == ("1", "Basic dXNlcjpwYXNz")


@pytest.mark.parametrize("now", COMPRESS)
@pytest.mark.parametrize("then", COMPRESS)
def test_a_request_packed_by_other_settings_is_understood(now, then, collector):
    """It waited on disk while the settings changed."""
    link_to(collector.url, otlp_compression=now).post(COMPRESS[then](BODY))
    (request,) = collector.requests
    unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress, "none": bytes}
    assert unpack[request.headers.get("content-encoding", "none")](request.body) == BODY
    assert request.headers.get("content-encoding", "none") == then


def test_a_child_has_a_connection_of_its_own(collector):
    """Also where its parent's is in the middle of a request."""
    link = link_to(collector.url)
    link.post(BODY)
    child = os.fork()
    if child == 0:
        os._exit(0 if link.post(BODY).kind == "delivered" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert link.post(BODY).kind == "delivered"
    parents, childs, again = (request.peer for request in collector.requests)
    assert parents == again != childs


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_an_outage_is_two_lines_and_one_a_minute(clock, caplog):
    """However often it is tried."""
    outage = Outage("traces to c:4318", "It waits, and is sent", clock)
    for clock.now in range(0, 130, 10):
        outage.goes_on("HTTP 503")
    clock.now = 131
    outage.is_over()
    outage.is_over()
    assert said(caplog) == [
        "Cannot deliver traces to c:4318: HTTP 503. It waits, and is sent when the collector is back.",
        "traces to c:4318: still not delivered after 60 s: HTTP 503.",
        "traces to c:4318: still not delivered after 120 s: HTTP 503.",
        "Delivering traces to c:4318 again, after 131 s.",
    ]


def test_a_flapping_collector_is_told_of_once_a_minute(clock, caplog):
    """And how often it went, away for seven seconds each time."""
    outage = Outage("traces to c", "It waits", clock)
    for clock.now in range(126):
        if clock.now % 9 < 7:
            outage.goes_on("HTTP 503")
        else:
            outage.is_over()
    assert said(caplog) == [
        "Cannot deliver traces to c: HTTP 503. It waits when the collector is back.",
        "Delivering traces to c again, after 7 s.",
        "Cannot deliver traces to c: HTTP 503 (6 times in 60 s). It waits when the collector is back.",
        "Delivering traces to c again, after 7 s.",
        "Cannot deliver traces to c: HTTP 503 (7 times in 60 s). It waits when the collector is back.",
        "Delivering traces to c again, after 7 s.",
    ]


def test_a_collector_that_stays_away_is_told_of_when_the_minute_is_over(clock, caplog):
    """Though its going was not; the last thing that is said is so."""
    outage = Outage("traces to c:4318", "It waits, and is sent", clock)
    outage.goes_on("HTTP 503")
    outage.is_over()
    for clock.now in range(10, 70, 10):
        outage.goes_on("HTTP 429")
    assert said(caplog)[2:] == [
        "Cannot deliver traces to c:4318: HTTP 429. It waits, and is sent when the collector is back."
    ]


def test_deltas_that_are_lost_are_told(clock, caplog):
    """How many, for nobody will get them; also those of an outage that is not told of at its time."""
    outage = Outage("metrics", "The sums go on, and are sent", clock)
    for clock.now in (0, 10, 70, 140):
        outage.goes_on("HTTP 503", 12)
        if clock.now < 70:
            outage.is_over()
    outage.is_over()
    second = (
        "Cannot deliver metrics: HTTP 503 (2 times in 70 s). "
        "24 points are lost, the next are sent when the collector is back."
    )
    assert said(caplog) == [
        "Cannot deliver metrics: HTTP 503. 12 points are lost, the next are sent when the collector is back.",
        "Delivering metrics again, after 0 s, 12 points lost.",
        second,
        "metrics: still not delivered after 70 s, 36 points lost: HTTP 503.",
        "Delivering metrics again, after 70 s, 36 points lost.",
    ]


def test_refusals_are_said_once_a_minute_and_end_no_outage(collector, caplog):
    """A gateway that answers 401 delivers nothing."""
    clock = Clock()
    otlp = Settings.load({}, otlp_endpoint=collector.url).otlp("traces")
    link = Link(otlp, "traces", clock)
    collector.answer = answering(503)
    link.post(BODY)
    collector.answer = answering(401)
    for clock.now in (10, 70, 80):
        link.post(BODY)
    mend = "otlp_headers (OTEL_EXPORTER_OTLP_HEADERS) must hold a token that it accepts"
    assert [line.rpartition(": ")[2] for line in said(caplog)[1:]] == [f"HTTP 401. {mend}."]


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="certificates are made by openssl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(folder):
    return certify(folder, "collector")


@pytest.fixture(scope="module")
def client(folder):
    return certify(folder, "client")


@needs_openssl
def test_the_collectors_certificate_is_checked(ours, client, caplog):
    """The one that is named is trusted; no other is, and the notice says so."""
    with collecting(tls=server_tls(*ours)) as server:
        assert link_to(server.url, otlp_certificate=ours[0]).post(BODY) == Answer("delivered")
        for other in ({}, {"otlp_certificate": client[0]}):
            answer = link_to(server.url, **other).post(BODY)
            assert answer.kind == "later"
            assert "certificate verify failed" in answer.reason
            assert "otlp_certificate (OTEL_EXPORTER_OTLP_CERTIFICATE) must be" in answer.reason
        # It is made for localhost alone.
        answer = link_to(server.url.replace("localhost", "127.0.0.1"), otlp_certificate=ours[0]).post(BODY)
        assert "certificate is not valid for '127.0.0.1'" in answer.reason
        assert "otlp_endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) must name a host" in answer.reason
    assert all("certificate" in line for line in said(caplog))


@needs_openssl
def test_the_client_shows_its_certificate(ours, client):
    """Where the collector speaks to nobody else."""
    with collecting(tls=server_tls(*ours, client=client[0])) as server:
        shown = {"otlp_client_certificate": client[0], "otlp_client_key": client[1]}
        assert link_to(server.url, otlp_certificate=ours[0], **shown).post(BODY) == Answer("delivered")
        answer = link_to(server.url, otlp_certificate=ours[0]).post(BODY)
        assert answer.kind == "later"
        assert "otlp_client_certificate (OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE) and" in answer.reason


@needs_openssl
@pytest.mark.parametrize("answer", DRIPPING, ids=["status", "header", "continue"])
def test_an_answer_that_drips_over_tls_costs_the_timeout(answer, ours):
    """As without TLS."""
    with collecting(answer, tls=server_tls(*ours)) as server:
        link = link_to(server.url, otlp_certificate=ours[0], otlp_timeout=0.5)
        assert link.post(BODY) == Answer("later", "no answer in time")
        server.answer = answering()
        assert link_to(server.url, otlp_certificate=ours[0]).post(BODY) == Answer("delivered")


@needs_openssl
def test_a_collector_that_reads_slowly_over_tls_costs_the_timeout(ours):
    """Each record of TLS is a write of its own, with a timeout of its own."""
    with slow_reader(server_tls(*ours)) as url:
        link = link_to(url, otlp_certificate=ours[0], otlp_timeout=1, otlp_compression="none")
        assert link.post(bytes(20_000_000)) == Answer("later", "no answer in time")


@needs_openssl
def test_who_hangs_up_over_tls_is_tried_once_more(ours):
    """As without TLS: a kept connection may have been closed meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        link = link_to(f"https://localhost:{listener.getsockname()[1]}", otlp_certificate=ours[0])
        came = []

        def hang_up():
            for _ in range(2):
                wire = listener.accept()[0]
                came.append(server_tls(*ours).wrap_socket(wire, server_side=True))
                came[-1].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        answer = link.post(bytes(4_000_000))
        thread.join(10)
    assert (answer.kind, len(came)) == ("later", 2)


@needs_openssl
def test_tls_to_who_speaks_none_is_said(collector):
    """With what to write instead."""
    answer = link_to(collector.url.replace("http:", "https:")).post(BODY)
    assert answer.kind == "later"
    assert answer.reason.endswith(
        "otlp_endpoint (OTEL_EXPORTER_OTLP_ENDPOINT) must begin with http:// if it speaks no TLS"
    )


@needs_openssl
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"otlp_certificate": "/none.pem"}, "otlp_certificate (OTEL_EXPORTER_OTLP_CERTIFICATE) must be"),
        ({"otlp_client_certificate": "/none.pem"}, "got '/none.pem': No such file or directory."),
        ({"otlp_certificate": os.devnull}, "got '/dev/null': NO_CERTIFICATE_OR_CRL_FOUND."),
    ],
)
def test_a_certificate_that_cannot_be_used_is_said_at_the_start(settings, words):
    """Not once a minute for ever."""
    with pytest.raises(SettingsError) as error:
        link_to("https://localhost", **settings)
    assert words in str(error.value)


@needs_openssl
def test_a_key_that_does_not_fit_is_said_at_the_start(ours, client):
    """With the mend."""
    with pytest.raises(SettingsError, match=r"KEY_VALUES_MISMATCH\. Correct the path or the file\."):
        link_to("https://localhost", otlp_client_certificate=ours[0], otlp_client_key=client[1])


def test_metrics_that_cannot_be_delivered_promise_no_more_than_they_keep(caplog):
    """They do not wait; their sums go on."""
    link = Link(Settings(otlp_endpoint="http://127.0.0.1:9").otlp("metrics"), "metrics")
    link.post(link.pack(b""), 1)
    (record,) = [each for each in caplog.records if each.name == "tercet.export"]
    assert record.getMessage().endswith("The sums go on, and are sent when the collector is back.")


def test_an_application_whose_logging_raises_harms_no_delivery(collector):
    """Its filters and handlers see the line, and what they do with it is their own."""

    def refuse(_record):
        raise RuntimeError("not here")

    collector.answer = answering(503)
    logger = logging.getLogger("tercet.export")
    logger.addFilter(refuse)
    try:
        assert link_to(collector.url).post(BODY) == Answer("later", "HTTP 503")
    finally:
        logger.removeFilter(refuse)
