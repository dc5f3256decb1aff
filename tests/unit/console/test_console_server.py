"""The console's answers without a socket, and what the socket adds."""

import gzip
import http.client
import json
import math
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from otlp_messages import DELTA, TRACE, durations, logs, span, traces

from tercet.console import otlp, server
from tercet.console.server import Request, Response, Server, handle
from tercet.console.store import Store

LOCAL = {"host": "127.0.0.1:4318"}
PROTOBUF = {**LOCAL, "content-type": "application/x-protobuf"}


def _post(store: Store, path: str, message, **headers: str) -> Response:
    return handle(store, Request("POST", path, PROTOBUF | headers, message.SerializeToString()))


def _get(store: Store, target: str, **headers: str) -> Response:
    return handle(store, Request("GET", target, LOCAL | headers))


def _json(response: Response):
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(response.body, parse_constant=refuse)


@pytest.fixture
def store() -> Store:
    """A store that has one order of each signal."""
    store = Store()
    _post(store, "/v1/traces", traces(gateway=[span(1, name="POST /orders")], orders=[span(2, 1, start=1)]))
    _post(store, "/v1/metrics", durations("gateway", 1, 0, 0, 0))
    _post(store, "/v1/logs", logs("orders", "order_created", correlation_id="c1"))
    return store


def test_what_was_sent_can_be_asked_for(store):
    """Each signal goes in by OTLP and comes out as JSON."""
    trace = _json(_get(store, f"/api/traces/{TRACE.hex()}"))

    assert [
        (node["service"], [child["service"] for child in node["children"]]) for node in trace["roots"]
    ] == [("gateway", ["orders"])]
    assert [row["trace_id"] for row in _json(_get(store, "/api/traces"))] == [TRACE.hex()]
    assert [(row["service"], row["requests"]) for row in _json(_get(store, "/api/red"))] == [("gateway", 1)]
    assert _json(_get(store, "/api/use")) == [{"service": "gateway", "memory_bytes": None}]
    assert {signal: row["received"] for signal, row in _json(_get(store, "/api/stats")).items()} == {
        "traces": 2,
        "metrics": 1,
        "logs": 1,
    }


@pytest.mark.parametrize("query", [f"trace_id={TRACE.hex()}", "correlation_id=c1", "a=1&correlation_id=c1"])
def test_logs_are_found_by_either_id(store, query):
    """A trace id or a correlation id is enough."""
    assert [line["message"] for line in _json(_get(store, f"/api/logs?{query}"))] == ["order_created"]


def test_the_newest_traces_are_listed_first():
    """The list is bounded and starts with what happened last."""
    store = Store()
    for number in range(server.MAX_LISTED_TRACES + 5):
        _post(store, "/v1/traces", traces(orders=[span(1, trace_id=number.to_bytes(16, "big"))]))

    listed = [int(row["trace_id"], 16) for row in _json(_get(store, "/api/traces"))]

    assert (len(listed), listed[0]) == (server.MAX_LISTED_TRACES, server.MAX_LISTED_TRACES + 4)


def test_a_sender_hears_what_was_rejected():
    """Partial success is told in the signal's own words; full success is an empty message."""
    store = Store()
    spans = _post(store, "/v1/traces", traces(orders=[span(1, trace_id=b"short"), span(2)]))
    deltas = _post(store, "/v1/metrics", durations("orders", 1, 0, 0, 0, temporality=DELTA))
    fine = _post(store, "/v1/logs", logs("orders", "m"))

    assert ExportTraceServiceResponse.FromString(spans.body).partial_success.rejected_spans == 1
    assert ExportMetricsServiceResponse.FromString(deltas.body).partial_success.rejected_data_points == 1
    assert (fine.status, fine.body, fine.content_type) == (200, b"", "application/x-protobuf")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:4318", 200),
        ("127.0.0.1", 200),
        ("[::1]:4318", 200),
        ("localhost:4318", 200),
        ("LOCALHOST", 200),
        ("console.localhost", 200),
        ("evil.example", 403),
        ("evil.example:4318", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1, evil.example", 403),
        ("evil.example@127.0.0.1", 200),  # no browser sends it, and the address decides
        ("[", 403),
        ("", 403),
    ],
)
def test_a_foreign_host_is_refused(host, status):
    """A name that DNS could rebind to loopback is not answered."""
    assert _get(Store(), "/api/stats", host=host).status == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:4318", 200),
        ("http://127.0.0.1:8000", 403),
        ("https://127.0.0.1:4318", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_foreign_origin_is_refused(origin, status):
    """Only a page of this very server may ask."""
    assert _get(Store(), "/api/stats", origin=origin).status == status


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "status"),
    [
        ("POST", "/v1/traces", {"content-type": "text/plain"}, b"", 415),
        ("POST", "/v1/traces", {}, b"", 415),
        ("POST", "/v1/traces", {"content-type": "application/x-protobuf"}, b"\xff", 400),
        ("POST", "/v1/logs", {"content-type": "application/json"}, b"{", 400),
        ("GET", "/v1/traces", {}, b"", 405),
        ("OPTIONS", "/v1/traces", {}, b"", 405),
        ("POST", "/api/red", {}, b"", 405),
        ("GET", "/", {}, b"", 404),
        ("GET", "/api/traces/xyz", {}, b"", 404),
        ("GET", "/api/traces/" + "0" * 32, {}, b"", 404),
        ("GET", "/api/traces/../../etc/passwd", {}, b"", 404),
        ("GET", "/api/logs", {}, b"", 400),
        ("GET", "/api/logs?trace_id=xyz", {}, b"", 400),
        ("GET", "/api/logs?" + "a=1&" * 100, {}, b"", 400),
        ("GET", "http://[", {}, b"", 400),
    ],
)
def test_what_cannot_be_served_says_so(method, target, headers, body, status):
    """Each refusal has its status and a sentence."""
    response = handle(Store(), Request(method, target, LOCAL | headers, body))

    assert (response.status, bool(_json(response)["message"])) == (status, True)


def test_a_gzip_bomb_is_refused(monkeypatch):
    """A small body that grows beyond the limit is stopped there."""
    monkeypatch.setattr(otlp, "MAX_INFLATED_BYTES", 1000)
    headers = PROTOBUF | {"content-encoding": "gzip"}
    request = Request("POST", "/v1/traces", headers, gzip.compress(bytes(10**6)))

    assert handle(Store(), request).status == 413


@given(
    st.sampled_from(["GET", "POST"]),
    st.text(max_size=40) | st.sampled_from(["/v1/metrics", "/v1/logs", "/api/logs?trace_id="]),
    st.dictionaries(
        st.sampled_from(["host", "origin", "content-type", "content-encoding"]), st.text(max_size=20)
    ),
    st.binary(max_size=100),
)
def test_any_request_gets_a_response(method, target, headers, body):
    """Whatever comes in, no exception comes out."""
    assert handle(Store(), Request(method, target, PROTOBUF | headers, body)).status >= 200


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_odd_numbers_stay_json(odd):
    """A histogram of nonsense is answered in valid JSON."""
    store = Store()
    request = durations("orders", 1, 2, 0, 1, least=odd, greatest=odd)
    bounds = request.resource_metrics[0].scope_metrics[0].metrics[0].histogram.data_points[0].explicit_bounds
    bounds[1] = odd
    _post(store, "/v1/metrics", request)

    assert [row["requests"] for row in _json(_get(store, "/api/red"))] == [4]


@pytest.fixture
def console() -> Iterator[Server]:
    """A console on a free port."""
    with Server(socket.create_server(("127.0.0.1", 0)), Store()) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def client(console: Server) -> Iterator[http.client.HTTPConnection]:
    """A connection to it."""
    connection = http.client.HTTPConnection(*console.server_address, timeout=5)
    yield connection
    connection.close()


def _ask(
    client: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, **headers: str
):
    client.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = client.getresponse()
    return response, response.read()


def test_one_connection_serves_many_requests(client):
    """Connections are kept alive, and what one request sent the next can ask for."""
    body = traces(orders=[span(1)]).SerializeToString()
    sent, _ = _ask(client, "POST", "/v1/traces", body, Content_Type="application/x-protobuf")
    response, answer = _ask(client, "GET", f"/api/traces/{TRACE.hex()}")

    assert (sent.status, response.status, len(json.loads(answer)["spans"])) == (200, 200, 1)


def test_no_answer_invites_another_page(client):
    """No CORS header on any answer, and nothing to sniff, run or cache."""
    for method, path in (("GET", "/api/stats"), ("OPTIONS", "/v1/traces"), ("GET", "/nowhere")):
        response, _ = _ask(client, method, path, Access_Control_Request_Method="POST")
        names = {name.lower() for name in response.headers}
        assert not {name for name in names if name.startswith("access-control")}
        assert names >= {"content-security-policy", "x-content-type-options", "cache-control"}


def test_head_has_no_body(client):
    """HEAD is GET without the body."""
    response, body = _ask(client, "HEAD", "/api/stats")

    assert (response.status, body, int(response.headers["Content-Length"]) > 2) == (200, b"", True)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Transfer-Encoding: chunked", 411),
        ("Content-Length: -1", 400),
        ("Content-Length: ten", 400),
        ("Content-Length: 1\r\nContent-Length: 2", 400),
        (f"Content-Length: {otlp.MAX_BODY_BYTES + 1}", 413),
        ("Content-Length: 10", 400),
        ("Host: evil.example", 403),
    ],
)
def test_a_body_of_unclear_length_is_refused_unread(console, headers, status):
    """The connection is answered and, where the next request could not be found, closed."""
    with socket.create_connection(console.server_address, timeout=5) as raw:
        raw.sendall(f"POST /v1/traces HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n\r\n".encode())
        raw.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: raw.recv(4096), b""))

    assert int(answer.split()[1]) == status


def test_connections_have_a_greatest_number(console, monkeypatch):
    """Where all slots are taken the next connection is closed, and a freed slot serves again."""
    monkeypatch.setattr(console, "_slots", threading.BoundedSemaphore(1))
    first = http.client.HTTPConnection(*console.server_address, timeout=5)
    assert _ask(first, "GET", "/api/stats")[0].status == 200

    with socket.create_connection(console.server_address, timeout=5) as second:
        assert second.recv(1) == b""
    first.close()

    assert console._slots.acquire(timeout=5)


def test_a_client_that_goes_away_leaves_no_trace(console, capfd):
    """A broken connection is the client's affair; any other error is told."""
    for error in (ConnectionResetError(), ValueError("odd")):
        try:
            raise error
        except (OSError, ValueError):
            console.handle_error(None, ("127.0.0.1", 1))

    assert ("ConnectionResetError" in capfd.readouterr().err, console.url[:17]) == (
        False,
        "http://127.0.0.1:",
    )
