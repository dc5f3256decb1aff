import asyncio
import gzip
import http.client
import logging
import math
import socket
import threading

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import Histogram, MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)
from prometheus_client import parser as classic_parser
from prometheus_client.openmetrics import parser as openmetrics_parser
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from tercet.declare.metric import Metric
from tercet.emit.registry import build_ledger
from tercet.errors import SetupError
from tercet.export import prometheus, scrape_port
from tercet.export.exposition import Exposition, Heading
from tercet.export.metered import LeanMeterProvider
from tercet.export.prometheus import PrometheusReader
from tercet.export.scrape import SCRAPES_AT_ONCE, PrometheusApp, respond
from tercet.export.scrape_port import start_server

TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
SPAN_ID = 0xB7AD6B7169203331
IN_A_SPAN = set_span_in_context(NonRecordingSpan(SpanContext(TRACE_ID, SPAN_ID, False, TraceFlags(1))))
CLASSIC = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
# What Prometheus 3 sends with every scrape.
PROMETHEUS_ACCEPT = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


class Fixed:
    """A reader whose text is known."""

    def render(self, openmetrics):
        return b"openmetrics" if openmetrics else b"classic"


class Broken:
    """A reader whose metrics cannot be collected."""

    def render(self, openmetrics):
        raise RuntimeError("secret detail")


class Held:
    """A reader whose scrapes last until they are released."""

    def __init__(self):
        self.entered = threading.Semaphore(0)
        self.released = threading.Event()

    def render(self, openmetrics):
        self.entered.release()
        self.released.wait(10)
        return b"done"


def metered(*views, resource=None):
    reader = PrometheusReader()
    resource = resource or Resource({"service.name": "orders"})
    provider = MeterProvider([reader], resource=resource, views=views, shutdown_on_exit=False)
    return reader, provider.get_meter("shop")


def samples(reader):
    """Scrape both formats through the independent parsers, which reject duplicates, and return the second."""
    list(classic_parser.text_string_to_metric_families(reader.render(openmetrics=False).decode()))
    text = reader.render(openmetrics=True).decode()
    families = openmetrics_parser.text_string_to_metric_families(text)
    return [sample for family in families for sample in family.samples if family.name != "target"]


def values(reader):
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples(reader)}


def body_without_target_info(reader, *, openmetrics):
    lines = reader.render(openmetrics).decode().splitlines(keepends=True)
    return "".join(line for line in lines if "target" not in line)


# --- the text -------------------------------------------------------------------------------------


def test_a_counter_and_a_histogram_in_openmetrics():
    """The golden text: units, help and types once, an exemplar on the bucket that holds its value."""
    reader, meter = metered()
    orders = meter.create_counter("orders", "{order}", "Orders processed.")
    duration = meter.create_histogram(
        "http.server.request.duration", "s", "How long.", explicit_bucket_boundaries_advisory=[0.005, 1, 2.5]
    )
    orders.add(2, {"status": "paid"})
    duration.record(0.5, {"http.route": "/orders/{id}"})
    duration.record(5, {"http.route": "/orders/{id}"})
    assert body_without_target_info(reader, openmetrics=True) == (
        "# HELP orders Orders processed.\n"
        "# TYPE orders counter\n"
        'orders_total{status="paid"} 2.0\n'
        "# HELP http_server_request_duration_seconds How long.\n"
        "# TYPE http_server_request_duration_seconds histogram\n"
        "# UNIT http_server_request_duration_seconds seconds\n"
        'http_server_request_duration_seconds_bucket{http_route="/orders/{id}",le="0.005"} 0\n'
        'http_server_request_duration_seconds_bucket{http_route="/orders/{id}",le="1.0"} 1\n'
        'http_server_request_duration_seconds_bucket{http_route="/orders/{id}",le="2.5"} 1\n'
        'http_server_request_duration_seconds_bucket{http_route="/orders/{id}",le="+Inf"} 2\n'
        'http_server_request_duration_seconds_sum{http_route="/orders/{id}"} 5.5\n'
        'http_server_request_duration_seconds_count{http_route="/orders/{id}"} 2\n'
        "# EOF\n"
    )


def test_a_counter_in_the_classic_format():
    """The golden text: the family of a counter is called like its series, and there is no unit and no end."""
    reader, meter = metered()
    meter.create_counter("disk.io", "By", "Bytes\nmoved.").add(2)
    assert body_without_target_info(reader, openmetrics=False) == (
        "# HELP disk_io_bytes_total Bytes\\nmoved.\n"
        "# TYPE disk_io_bytes_total counter\n"
        "disk_io_bytes_total 2.0\n"
    )


def test_exemplars_lead_to_the_trace():
    """Buckets and counters carry the trace and the span in which they were measured, on the right bucket."""
    reader, meter = metered()
    meter.create_counter("orders").add(1, context=IN_A_SPAN)
    duration = meter.create_histogram("wait", explicit_bucket_boundaries_advisory=[1, 2])
    for seconds in (0.5, 2, 9):
        duration.record(seconds, context=IN_A_SPAN)
    ids = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}
    found = {
        (sample.name, sample.labels.get("le")): (sample.exemplar.labels, sample.exemplar.value)
        for sample in samples(reader)
        if sample.exemplar
    }
    assert found == {
        ("orders_total", None): (ids, 1.0),
        ("wait_bucket", "1.0"): (ids, 0.5),
        ("wait_bucket", "2.0"): (ids, 2.0),
        ("wait_bucket", "+Inf"): (ids, 9.0),
    }


def test_every_scrape_sees_the_latest_exemplar():
    """Two Prometheus servers, or a person with curl, do not take each other's exemplars."""
    reader, meter = metered()
    orders = meter.create_counter("orders")
    orders.add(1, context=IN_A_SPAN)
    first = [sample.exemplar for sample in samples(reader)]
    assert [sample.exemplar for sample in samples(reader)] == first
    orders.add(7, context=IN_A_SPAN)
    assert [sample.exemplar.value for sample in samples(reader)] == [7.0]


def test_exemplars_need_a_sampled_span():
    """A measurement outside any trace leaves no exemplar."""
    reader, meter = metered()
    meter.create_counter("orders").add(1)
    assert [sample.exemplar for sample in samples(reader)] == [None]


def test_each_kind_has_its_type():
    """Monotonic sums are counters, other sums gauges; a ratio says so."""
    reader, meter = metered()
    meter.create_counter("a").add(1)
    meter.create_up_down_counter("b").add(-1)
    meter.create_gauge("c", "1").set(0.5)
    meter.create_observable_counter("d", [lambda _: [Observation(4)]])
    meter.create_histogram("e").record(1)
    families = openmetrics_parser.text_string_to_metric_families(reader.render(openmetrics=True).decode())
    assert [(family.name, family.type, family.unit) for family in families] == [
        ("target", "info", ""),
        ("a", "counter", ""),
        ("b", "gauge", ""),
        ("c_ratio", "gauge", "ratio"),
        ("e", "histogram", ""),
        ("d", "counter", ""),
    ]


def test_the_resource_is_the_target():
    """target_info carries the resource; no other series has labels of resource or scope."""
    reader, meter = metered(resource=Resource({"service.name": "orders", "host.cpus": 4, "tags": ["a", "b"]}))
    meter.create_counter("orders").add(1)
    lines = reader.render(openmetrics=False).decode().splitlines()
    assert 'target_info{host_cpus="4",service_name="orders",tags="[\\"a\\", \\"b\\"]"} 1.0' in lines
    assert "# TYPE target_info gauge" in lines
    assert "orders_total 1.0" in lines


def test_large_bounds_are_canonical():
    """OpenMetrics fixes how a bound is written, and rejects others."""
    reader, meter = metered()
    bounds = [1e-05, 0.1, 100000, 1e6, 1234567, 1e21]
    meter.create_histogram("size", explicit_bucket_boundaries_advisory=bounds).record(1)
    shown = [sample.labels["le"] for sample in samples(reader) if sample.name == "size_bucket"]
    assert shown == ["1e-05", "0.1", "100000.0", "1e+06", "1.234567e+06", "1e+21", "+Inf"]


def test_numbers_that_are_not_finite():
    """NaN and the infinities are written as both formats want them."""
    exposition = Exposition()
    for name, value in (("a", math.nan), ("b", math.inf), ("c", -math.inf)):
        exposition.open(Heading(name, "gauge")).add("", ((value, 0.0), (), ()))
    text = exposition.render(openmetrics=True)
    assert [line for line in text.splitlines() if line[0] != "#"] == ["a NaN", "b +Inf", "c -Inf"]


def test_a_histogram_below_zero_has_buckets_only():
    """A sum that may fall is no counter, so the formats want none."""
    reader, meter = metered()
    meter.create_histogram("delta", explicit_bucket_boundaries_advisory=[-1, 1]).record(3)
    assert values(reader) == {
        ("delta_bucket", "-1.0"): 0,
        ("delta_bucket", "1.0"): 0,
        ("delta_bucket", "+Inf"): 1,
    }


# --- one series, one line -------------------------------------------------------------------------


def test_two_scopes_share_a_family():
    """The same instrument from two libraries is one family, whose equal label sets are one series."""
    reader = PrometheusReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    for scope, bounds in (("first", [1, 2, 3]), ("second", [1, 3, 4])):
        meter = provider.get_meter(scope)
        meter.create_counter("orders", description=scope).add(1, {"by": "both"})
        meter.create_counter("orders").add(1, {"by": scope})
        meter.create_up_down_counter("active").add(1)
        meter.create_histogram("wait", explicit_bucket_boundaries_advisory=bounds).record(2.5)
    assert values(reader) == {
        ("orders_total", "both"): 2,
        ("orders_total", "first"): 1,
        ("orders_total", "second"): 1,
        ("active",): 2,
        ("wait_bucket", "1.0"): 0,
        ("wait_bucket", "3.0"): 2,
        ("wait_bucket", "+Inf"): 2,
        ("wait_count",): 2,
        ("wait_sum",): 5,
    }
    assert reader.render(openmetrics=True).count(b"# TYPE orders ") == 1


def test_label_sets_that_collide_are_one_series():
    """Keys that differ only in what a label cannot hold: counts add up, the last gauge wins."""
    reader, meter = metered()
    for attributes in ({"a.b": "x"}, {"a_b": "x"}, {"a-b": "x", "empty": ""}):
        meter.create_counter("orders").add(1, attributes)
        meter.create_gauge("level").set(len(attributes), attributes)
    assert values(reader) == {("orders_total", "x"): 3, ("level", "x"): 2}


def test_keys_that_collide_in_one_label_set_keep_both_values():
    """Values are joined in the order of their keys, as the specification says."""
    reader, meter = metered()
    meter.create_counter("orders").add(1, {"a_b": "second", "a.b": "first"})
    assert values(reader) == {("orders_total", "first;second"): 1}


def test_an_attribute_named_le_does_not_break_a_histogram():
    """The label of the bounds belongs to the bounds."""
    reader, meter = metered()
    meter.create_histogram("wait", explicit_bucket_boundaries_advisory=[1]).record(1, {"le": "mine"})
    assert samples(reader)[0].labels == {"exported_le": "mine", "le": "1.0"}


@pytest.mark.parametrize(
    ("name", "kind"), [("wait", "counter"), ("wait_count", "gauge"), ("target", "counter")]
)
def test_a_clash_of_types_costs_the_later_instrument(name, kind, caplog):
    """Conflicting names would cost the whole scrape, so the later one is left out and named once."""
    reader, meter = metered()
    meter.create_histogram("wait").record(1)
    if kind == "counter":
        meter.create_counter(name).add(1)
    else:
        meter.create_gauge(name).set(1)
    assert {sample.name for sample in samples(reader)} == {"wait_bucket", "wait_sum", "wait_count"}
    assert [record.args[0] for record in caplog.records if record.name == "tercet.prometheus"] == [name]


# --- hostile values -------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=())), st.text())
def test_any_label_value_and_help_survive_the_round_trip(value, description):
    """Quotes, backslashes, newlines and the rest come back from the independent parsers as they went in."""
    reader, meter = metered()
    meter.create_gauge("level", description=description).set(1, {"text": value, "other": "\\n"})
    shown = value.encode(errors="replace").decode()
    expected = {"other": "\\n", **({"text": shown} if shown else {})}
    assert [sample.labels for sample in samples(reader)] == [expected]


def test_values_that_are_equal_keep_their_types():
    """What is remembered of labels does not take True for 1."""
    reader, meter = metered()
    for number, value in enumerate((1, True, 1.0, "1", (1,), (True,))):
        meter.create_counter(f"c{number}").add(1, {"a": value})
    assert [sample.labels["a"] for sample in samples(reader)] == ["1", "true", "1.0", "1", "[1]", "[true]"]


def test_a_clash_of_ledgers_costs_the_later_one(caplog):
    """Declared metrics are held to the same rule."""
    reader = PrometheusReader()
    provider = LeanMeterProvider([reader], Resource({}), TraceBasedExemplarFilter(), [])
    for kind in ("counter", "gauge"):
        provider.get_meter(kind).take(build_ledger(Metric("a.total", kind, "", "")))
    first, second = (ledger for ledger in reader.ledgers())
    first.add(1, (), INVALID_SPAN_CONTEXT)
    second.set(2, ())
    assert values(reader) == {("a_total",): 1}
    assert "a.total" in caplog.text


def test_texts_that_are_remembered_are_limited(monkeypatch):
    """Labels of instruments without limits do not fill the memory."""
    monkeypatch.setattr(prometheus.Describer, "_MOST", 3)
    reader, meter = metered()
    orders = meter.create_counter("orders")
    for number in range(5):
        orders.add(1, {"number": number})
    assert [sample.labels["number"] for sample in samples(reader)] == list("01234")
    assert len(reader.describe._texts) <= 3


def test_values_that_are_no_text_become_json():
    """Booleans, numbers and lists read as they do over OTLP."""
    reader, meter = metered()
    meter.create_gauge("level").set(1, {"a": True, "b": 1.5, "c": ("x", "é")})
    assert samples(reader)[0].labels == {"a": "true", "b": "1.5", "c": '["x", "é"]'}


def test_an_exponential_histogram_does_not_fail_the_scrape(caplog):
    """The instrument that cannot be written is left out and named once; the others stay."""
    reader, meter = metered(View(instrument_name="odd", aggregation=ExponentialBucketHistogramAggregation()))
    meter.create_histogram("odd").record(1)
    meter.create_counter("orders").add(1)
    assert values(reader) == {("orders_total",): 1}
    assert [record.getMessage() for record in caplog.records if record.name == "tercet.prometheus"] == [
        "Instrument 'odd' is left out of the Prometheus scrape: the text formats have no exponential buckets."
    ]


def test_a_name_without_a_letter_is_left_out(caplog):
    """A view may rename an instrument to something Prometheus has no name for."""
    reader, meter = metered(View(instrument_name="odd", name="日本"))
    meter.create_counter("odd").add(1)
    assert values(reader) == {}
    assert "日本" in caplog.text


def test_exponential_histograms_of_the_environment_are_not_for_this_reader(monkeypatch):
    """What the environment asks of the OTLP exporter leaves the scrape alone."""
    monkeypatch.setenv(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "base2_exponential_bucket_histogram"
    )
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta")
    reader, meter = metered(View(instrument_type=Histogram, name="renamed"))
    meter.create_histogram("wait", explicit_bucket_boundaries_advisory=[1]).record(1)
    assert values(reader)["renamed_bucket", "1.0"] == 1
    assert set(reader._instrument_class_temporality.values()) == {AggregationTemporality.CUMULATIVE}


# --- the reader's life ----------------------------------------------------------------------------


def test_counters_are_cumulative_whatever_is_flushed():
    """A flush neither queues nor duplicates: every scrape tells the whole once."""
    reader, meter = metered()
    orders = meter.create_counter("orders")
    orders.add(1)
    assert [reader.force_flush() for _ in range(3)] == [True, True, True]
    assert values(reader) == {("orders_total",): 1}
    orders.add(1)
    reader.collect()
    assert values(reader) == {("orders_total",): 2}


def test_an_empty_process_has_an_empty_text():
    """Before the first measurement, and after shutdown, a scrape succeeds and says nothing."""
    reader, meter = metered()
    assert reader.render(openmetrics=True) == b"# EOF\n"
    meter.create_counter("orders").add(1)
    reader.shutdown()
    assert (reader.render(openmetrics=False), reader.render(openmetrics=True)) == (b"", b"# EOF\n")


def test_concurrent_scrapes_are_each_whole():
    """Many scrapes at once, while the application counts: each text is complete and none goes backwards."""
    reader, meter = metered(View(instrument_name="w", aggregation=ExplicitBucketHistogramAggregation([1, 2])))
    counters = [meter.create_counter(f"c{number}") for number in range(20)]
    texts, start = [], threading.Barrier(6)

    def scrape():
        start.wait()
        texts.extend(reader.render(openmetrics=True).decode() for _ in range(10))

    threads = [threading.Thread(target=scrape) for _ in range(5)]
    for thread in threads:
        thread.start()
    for counter in counters:
        counter.add(1)
    start.wait()
    for counter in counters:
        counter.add(1)
    for thread in threads:
        thread.join()
    assert len(texts) == 50
    for text in texts:
        families = list(openmetrics_parser.text_string_to_metric_families(text))
        assert len(families) == len(counters) + 1
        assert {family.samples[0].value for family in families[1:]} <= {1, 2}


# --- what a scrape answers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", CLASSIC),
        ("*/*", CLASSIC),
        ("text/html,*/*;q=0.8", CLASSIC),
        (PROMETHEUS_ACCEPT, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ('Application/OpenMetrics-Text; Version="1.0.0"', OPENMETRICS),
        ("application/openmetrics-text;version=2.0.0", CLASSIC),
        ("application/openmetrics-text;q=0", CLASSIC),
        ("application/openmetrics-text;q=lots", CLASSIC),
        ("application/openmetrics-text;q=nan", CLASSIC),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.9", CLASSIC),
        ("application/openmetrics-text;q=0.5, text/plain;q=0.4, */*", OPENMETRICS),
        ("application/openmetrics-text;q=0.5, */*", CLASSIC),
        (";;,,=;q", CLASSIC),
    ],
)
def test_the_format_is_what_the_client_asks_for(accept, expected):
    """OpenMetrics is for those who name it and want it at least as much as plain text."""
    _, headers, body = respond(Fixed(), "GET", accept, "")
    assert dict(headers)["Content-Type"] == expected
    assert body == (b"openmetrics" if expected == OPENMETRICS else b"classic")


@pytest.mark.parametrize(
    ("accept_encoding", "zipped"),
    [
        ("gzip", True),
        ("br, gzip;q=0.5", True),
        ("*", True),
        ("", False),
        ("gzip;q=0, *", False),
        ("br", False),
    ],
)
def test_the_body_is_zipped_for_those_who_take_it(accept_encoding, zipped):
    """Compression follows the client's qualities."""
    _, headers, body = respond(Fixed(), "GET", "", accept_encoding)
    assert (dict(headers).get("Content-Encoding") == "gzip") is zipped
    assert (gzip.decompress(body) if zipped else body) == b"classic"
    assert dict(headers)["Content-Length"] == str(len(body))


def test_no_answer_is_stored():
    """Old metrics are wrong metrics."""
    answers = [
        respond(Fixed(), "GET", "", ""),
        respond(Broken(), "GET", "", ""),
        respond(Fixed(), "PUT", "", ""),
    ]
    assert {dict(headers)["Cache-Control"] for _, headers, _ in answers} == {"no-store"}


def test_a_head_has_the_headers_of_its_get():
    """Same status and headers, no body."""
    status, headers, _ = respond(Fixed(), "GET", "", "gzip")
    assert respond(Fixed(), "HEAD", "", "gzip") == (status, headers, b"")


def test_other_methods_are_refused():
    """Metrics are read only."""
    status, headers, _ = respond(Fixed(), "POST", "", "")
    assert (status, dict(headers)["Allow"]) == (405, "GET, HEAD")


def test_a_reader_that_fails_is_an_answer_too(caplog):
    """The client learns that it failed, the log learns why."""
    status, _, body = respond(Broken(), "GET", "", "")
    assert (status, b"secret" in body, "secret detail" in caplog.text) == (500, False, True)


# --- the ASGI door --------------------------------------------------------------------------------


def fetch(app, path, method="GET", **headers):
    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(ask())


def mounted_in_fastapi():
    app = FastAPI()
    app.mount("/metrics", PrometheusApp(Fixed()))
    return app


@pytest.mark.parametrize(
    ("app", "path"),
    [
        (PrometheusApp(Fixed()), "/anything"),
        (Starlette(routes=[Route("/metrics", PrometheusApp(Fixed()))]), "/metrics"),
        (Starlette(routes=[Mount("/metrics", PrometheusApp(Fixed()))]), "/metrics/"),
        (mounted_in_fastapi(), "/metrics/"),
    ],
    ids=["alone", "route", "mount", "fastapi"],
)
def test_the_app_answers_wherever_it_is_put(app, path):
    """The path is the framework's business."""
    response = fetch(app, path, Accept=PROMETHEUS_ACCEPT)
    assert (response.status_code, response.headers["content-type"]) == (200, OPENMETRICS)
    assert (response.headers["content-encoding"], response.text) == ("gzip", "openmetrics")
    assert fetch(app, path, "HEAD").content == b""
    assert fetch(app, path, "DELETE").status_code == 405


def converse(app, scope, *events):
    """Play events to an app and return the types of what it sent."""
    sent, pending = [], list(events)

    async def receive():
        return {"type": pending.pop(0)}

    async def send(message):
        sent.append(message["type"])

    asyncio.run(app({"type": scope}, receive, send))
    return sent


def test_the_app_lives_and_dies_with_its_server():
    """A server that speaks the lifespan protocol to it gets its answers."""
    events = ("lifespan.startup", "lifespan.shutdown")
    assert converse(PrometheusApp(Fixed()), "lifespan", *events) == [f"{event}.complete" for event in events]


def test_a_wsgi_server_is_answered_too():
    """For gunicorn's own workers, Flask and Django."""
    said = []
    environ = {"REQUEST_METHOD": "GET", "HTTP_ACCEPT": "application/openmetrics-text"}
    body = PrometheusApp(Fixed()).wsgi(environ, lambda status, headers: said.append((status, dict(headers))))
    ((status, headers),) = said
    assert (status, headers["Content-Type"], body) == ("200 OK", OPENMETRICS, [b"openmetrics"])


def test_too_many_scrapes_of_a_wsgi_server_are_refused():
    """As those of any other door are."""
    app, held, said = PrometheusApp(reader := Held()), [], []

    def ask():
        held.append(app.wsgi({"REQUEST_METHOD": "GET"}, lambda status, _: said.append(status)))

    threads = [threading.Thread(target=ask) for _ in range(SCRAPES_AT_ONCE)]
    for thread in threads:
        thread.start()
        assert reader.entered.acquire(timeout=10)
    ask()
    reader.released.set()
    for thread in threads:
        thread.join()
    assert [status[:3] for status in said] == ["503"] + ["200"] * SCRAPES_AT_ONCE


def test_the_app_refuses_websockets():
    """There is nothing to talk about."""
    assert converse(PrometheusApp(Fixed()), "websocket", "websocket.connect") == ["websocket.close"]


def test_a_scrape_holds_up_no_request():
    """The event loop is free while metrics are collected, and too many scrapes are refused."""
    reader = Held()
    app = PrometheusApp(reader)

    async def storm():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            scrapes = [asyncio.create_task(client.get("/")) for _ in range(SCRAPES_AT_ONCE)]
            await asyncio.to_thread(reader.entered.acquire)
            refused = await client.get("/")
            reader.released.set()
            return refused.status_code, {(await scrape).text for scrape in scrapes}

    assert asyncio.run(storm()) == (503, {"done"})


# --- the port of its own --------------------------------------------------------------------------


@pytest.fixture
def serve():
    servers = []

    def start(reader, host="127.0.0.1", port=0):
        servers.append(start_server(reader, host, port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def ask(server, path="/metrics", method="GET", **headers):
    connection = http.client.HTTPConnection(*server.address, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def test_the_port_serves_the_metrics(serve):
    """Same answer as the app's, on its own port, with no word on stderr."""
    reader, meter = metered()
    meter.create_counter("orders").add(1)
    server = serve(reader)
    status, headers, body = ask(server, "/metrics?name[]=x", Accept=PROMETHEUS_ACCEPT)
    assert (status, headers["Content-Type"]) == (200, OPENMETRICS)
    assert b"\norders_total 1.0\n" in body
    assert ask(server, method="HEAD")[2] == b""
    assert ask(server, method="POST")[::2] == (405, b"Metrics are read with GET.\n")


def test_the_port_serves_nothing_else(serve, capfd):
    """The root gives a hint, any other path is unknown, and nothing is written to stderr."""
    server = serve(Fixed())
    assert ask(server, "/")[::2] == (200, b"Metrics are at /metrics.\n")
    assert ask(server, "/../etc/passwd")[0] == 404
    assert ask(server, method="BREW")[0] == 501
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:9464", 200),
        ("shop.localhost", 200),
        ("127.0.0.1:9464", 200),
        ("[::1]:9464", 200),
        ("192.168.0.7", 200),
        ("evil.example:9464", 403),
        ("localhost.evil.example", 403),
        ("localhost@evil.example", 403),
        ("[evil", 403),
        ("", 403),
    ],
)
def test_a_page_cannot_rebind_its_name_to_loopback(serve, host, status):
    """On loopback only names of this machine are answered."""
    assert ask(serve(Fixed()), Host=host)[0] == status


def test_on_the_network_any_name_is_answered(serve):
    """Whoever listens on all addresses has names that cannot be known here."""
    server = serve(Fixed(), "0.0.0.0")
    assert ask(server, Host="orders.internal")[0] == 200


def test_the_port_speaks_ipv6(serve):
    """Loopback has two addresses."""
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        server = serve(Fixed(), "::1")
    except SetupError:
        pytest.skip("no IPv6 loopback here")
    assert ask(server)[2] == b"classic"


def test_a_taken_port_says_how_to_mend_it(serve):
    """The setting is named, with the value it has."""
    port = serve(Fixed()).address[1]
    with pytest.raises(SetupError) as caught:
        start_server(Fixed(), "127.0.0.1", port)
    assert str(caught.value) == (
        f"OTEL_EXPORTER_PROMETHEUS_PORT must be a free port, got {port}. "
        "Choose one that nothing else on 127.0.0.1 listens on, or 0 to take any that is free."
    )


@pytest.mark.parametrize(
    ("host", "port", "setting"),
    [("127.0.0.1", 70000, "PORT"), ("192.0.2.1", 0, "HOST"), ("a..b", 0, "HOST")],
)
def test_wrong_addresses_name_their_setting(host, port, setting):
    """The mend belongs to the setting that is wrong."""
    with pytest.raises(SetupError, match=f"^OTEL_EXPORTER_PROMETHEUS_{setting} must be "):
        start_server(Fixed(), host, port)


def test_closing_frees_the_port(serve):
    """A closed server can be closed again, and its port taken by the next."""
    server = serve(Fixed())
    port = server.address[1]
    server.close()
    server.close()
    assert serve(Fixed(), port=port).address[1] == port


def test_too_many_scrapes_are_refused(serve):
    """Eight at once is plenty; the ninth is told to come back."""
    reader = Held()
    server = serve(reader)
    scrapes = [threading.Thread(target=ask, args=(server,)) for _ in range(SCRAPES_AT_ONCE)]
    for scrape in scrapes:
        scrape.start()
    for _ in scrapes:
        assert reader.entered.acquire(timeout=10)
    status, headers, _ = ask(server)
    reader.released.set()
    for scrape in scrapes:
        scrape.join()
    assert (status, headers["Retry-After"]) == (503, "1")
    assert ask(server)[0] == 200


def test_too_many_connections_are_hung_up_on(serve, monkeypatch):
    """Clients that connect and say nothing cannot take all threads."""
    monkeypatch.setattr(scrape_port, "CONNECTIONS_AT_ONCE", 1)
    server = serve(Fixed())
    with socket.create_connection(server.address), socket.create_connection(server.address, 10) as refused:
        assert refused.recv(1) == b""


def test_slow_clients_are_hung_up_on(serve, monkeypatch):
    """A request that comes drop by drop has a limit as a whole, beside the one for each drop."""
    monkeypatch.setattr(scrape_port, "CONNECTION_LIMIT_SECONDS", 0)
    server = serve(Fixed())
    with socket.create_connection(server.address, 10) as slow:
        slow.sendall(b"GET /met")
        assert slow.recv(1) == b""


def test_garbage_does_no_harm(serve, capfd):
    """Whatever is not HTTP gets an error or a closed connection, and the next scrape is served."""
    server = serve(Fixed())
    for garbage in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GET " + b"a" * 70_000 + b"\r\n\r\n", b"\r\n", b""):
        with socket.create_connection(server.address, 10) as client:
            client.sendall(garbage)
            client.shutdown(socket.SHUT_WR)
    assert ask(server)[2] == b"classic"
    assert capfd.readouterr().err == ""


def test_a_broken_connection_is_no_news(serve, caplog):
    """What a client breaks is noted for those who debug, and written nowhere else."""
    server = serve(Fixed())
    with caplog.at_level(logging.DEBUG, "tercet.prometheus"):
        server.handle_error(None, None)
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


@pytest.mark.parametrize("openmetrics", [True, False])
def test_a_summary_has_its_quantiles(openmetrics):
    """And sum and count; an attribute named quantile does not break it."""
    size = Metric(
        "size", "summary", "By", "Size.", attributes=("kind", "quantile"), quantiles=(0.5, 1.0), window=60.0
    )
    reader = PrometheusReader()
    provider = LeanMeterProvider([reader], Resource({}), TraceBasedExemplarFilter(), [])
    ledger = provider.get_meter("t").take(build_ledger(size))
    for value in (1, 1, 1, 0):
        ledger.record_to(ledger.series(("mail", "all")), value, INVALID_SPAN_CONTEXT)
    text = reader.render(openmetrics).decode()
    parse = openmetrics_parser if openmetrics else classic_parser
    (family,) = [each for each in parse.text_string_to_metric_families(text) if each.name == "size_bytes"]
    own = {"kind": "mail", "exported_quantile": "all"}
    assert family.type == "summary"
    assert [(s.name, s.labels, round(s.value, 1)) for s in family.samples] == [
        ("size_bytes", {**own, "quantile": "0.5"}, 1.0),
        ("size_bytes", {**own, "quantile": "1.0"}, 1.0),
        ("size_bytes_sum", own, 3),
        ("size_bytes_count", own, 4),
    ]


def test_summaries_of_several_workers_have_no_quantiles():
    """Their sums and counts add up; what quantiles both have together, nobody can tell."""
    exposition = Exposition()
    family = exposition.open(Heading("size", "summary"))
    family.add("", ((3.0, 2.0, 1.5), (0.5,), ()))
    family.add("", ((4.0, 1.0), (), ()))
    assert exposition.render(openmetrics=False).splitlines() == [
        "# TYPE size summary",
        "size_sum 7.0",
        "size_count 3",
    ]
