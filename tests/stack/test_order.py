"""The document's order through the whole reference backend: one trace, its log lines, its exemplar."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from backend import Backend, JaegerSpan, eventually
from fleet import Fleet, Receipt, running_fleet

from tercet.demo.catalog import GATEWAY, PAYMENTS, PORTS

TREE = """\
gateway: POST /orders
  gateway: POST
    auth-service: POST /verify
  gateway: POST
    order-service: POST /orders
      order-service: database
      order-service: POST
        payment-service: POST /charge
  gateway: POST
    notification: POST /notify
"""
FAILED = """\
gateway: POST /orders (error: 502)
  gateway: POST
    auth-service: POST /verify
  gateway: POST (error: 502)
    order-service: POST /orders (error: 502)
      order-service: database
      order-service: POST (error: httpx.ConnectError)
"""


@pytest.fixture(scope="module")
def fleet(backend: Backend, folder: Callable[[str], Path]) -> Iterator[Fleet]:
    """The five services, with no orders yet."""
    with running_fleet(backend.collector.http, folder("fleet")) as running:
        yield running


@pytest.fixture(scope="module")
def order(fleet: Fleet) -> Receipt:
    """An order that went well."""
    (receipt,) = fleet.orders(1)
    assert receipt.status == 201
    return receipt


@pytest.fixture(scope="module")
def spans(backend: Backend, order: Receipt) -> list[JaegerSpan]:
    """Its trace as Jaeger tells it."""
    return eventually(
        lambda: backend.jaeger.trace(order.trace_id), lambda spans: len(spans) >= TREE.count("\n")
    )


def picture(spans: list[JaegerSpan], parent: str = "", indent: str = "") -> str:
    below = sorted((span for span in spans if span.parent_id == parent), key=lambda span: span.started)
    return "".join(_line(span, indent) + picture(spans, span.span_id, indent + "  ") for span in below)


def _line(span: JaegerSpan, indent: str) -> str:
    error = f" (error: {span.tags.get('error.type')})" if span.tags.get("error") else ""
    return f"{indent}{span.service}: {span.name}{error}\n"


def test_jaeger_has_the_documents_trace(spans: list[JaegerSpan]) -> None:
    """Five services, each call under who made it, and no error."""
    assert picture(spans) == TREE


def test_the_spans_have_the_documents_attributes(spans: list[JaegerSpan]) -> None:
    """Each on the span that knows; numbers are numbers."""
    tags = {(s.service, s.tags["span.kind"]) if s.name != "database" else "database": s.tags for s in spans}
    assert tags["auth-service", "server"]["user_id"] == "usr_123"
    assert tags["payment-service", "server"]["amount"] == 150.0
    assert tags["notification", "server"]["type"] == "email"
    assert tags["database"]["db.system.name"] == "sqlite"
    assert tags["gateway", "server"]["http.response.status_code"] == 201
    assert tags["gateway", "server"]["http.route"] == "/orders"


def test_each_span_has_the_correlation_id(spans: list[JaegerSpan], order: Receipt) -> None:
    """The one that the customer was told."""
    assert {span.tags["correlation_id"] for span in spans} == {order.correlation_id}


def test_the_log_store_finds_the_order_by_its_trace(backend: Backend, order: Receipt) -> None:
    """Lines of all five services, all with the customer's id, each at a span of the trace."""
    finished = {(name, "request_completed") for name in PORTS}
    lines = eventually(
        lambda: backend.logs.lines(f'trace_id:="{order.trace_id}"'),
        lambda lines: {(line["service.name"], line["_msg"]) for line in lines} >= finished,
    )
    assert {line["correlation_id"] for line in lines} == {order.correlation_id}
    assert {span.span_id for span in backend.jaeger.trace(order.trace_id)} >= {
        line["span_id"] for line in lines
    }


def test_the_exemplar_of_a_duration_leads_to_the_trace(backend: Backend, order: Receipt) -> None:
    """From a bucket of each service's histogram in Prometheus."""
    for name in PORTS:
        bucket = f'http_server_request_duration_seconds_bucket{{job="{name}"}}'
        exemplars = eventually(lambda bucket=bucket: backend.prometheus.exemplars(bucket), bool)
        assert order.trace_id in {each["trace_id"] for each in exemplars}


def test_a_failed_order_shows_where_it_failed(backend: Backend, fleet: Fleet, order: Receipt) -> None:
    """The payment service is away: the error begins where it was called, and reaches the customer."""
    fleet.services[PAYMENTS].stop()
    (failed,) = fleet.orders(1)
    spans = eventually(
        lambda: backend.jaeger.trace(failed.trace_id), lambda spans: len(spans) >= FAILED.count("\n")
    )
    assert failed.status == 502
    assert picture(spans) == FAILED
    errors = (
        "http_server_request_duration_seconds_count"
        '{http_response_status_code="502",job=~"gateway|order-service"}'
    )
    counted = eventually(
        lambda: {each["metric"]["job"]: each["value"][1] for each in backend.prometheus.query(errors)},
        lambda counted: len(counted) >= 2,
    )
    assert counted == {GATEWAY: "1", "order-service": "1"}
