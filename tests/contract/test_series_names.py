"""One series has one name, whichever way it travels: scraped here, pushed over OTLP, or through a collector.

The names over OTLP and of the collector are those of their common translator, by its source:
https://github.com/prometheus/otlptranslator, strategy UnderscoreEscapingWithSuffixes, the default of both.
"""

from dataclasses import dataclass

import pytest
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import INVALID_SPAN_CONTEXT
from prometheus_client.openmetrics import parser

from tercet.declare.metric import Metric
from tercet.emit.registry import build_ledger
from tercet.export.metered import LeanMeterProvider
from tercet.export.prometheus import PrometheusReader


@dataclass(frozen=True)
class Golden:
    """An instrument, and the names of its series over OTLP; the collector scrapes to the same ones."""

    name: str
    unit: str
    kind: str
    series: tuple[str, ...]


def histogram(name):
    return f"{name}_bucket", f"{name}_count", f"{name}_sum"


TABLE = [
    Golden(
        "http.server.request.duration", "s", "histogram", histogram("http_server_request_duration_seconds")
    ),
    Golden("http.server.active_requests", "{request}", "up_down_counter", ("http_server_active_requests",)),
    Golden("orders", "1", "counter", ("orders_total",)),
    Golden("orders", "{order}", "counter", ("orders_total",)),
    Golden("revenue", "cents", "counter", ("revenue_cents_total",)),
    Golden("queue.size", "1", "up_down_counter", ("queue_size",)),
    Golden("system.cpu.utilization", "1", "gauge", ("system_cpu_utilization_ratio",)),
    Golden("orders.total", "1", "counter", ("orders_total",)),
    Golden("disk.io", "By", "counter", ("disk_io_bytes_total",)),
    Golden("disk.io.bytes", "By", "counter", ("disk_io_bytes_total",)),
    Golden("network.speed", "By/s", "gauge", ("network_speed_bytes_per_second",)),
    Golden("gc.pause", "ms", "histogram", histogram("gc_pause_milliseconds")),
    Golden("battery", "%", "gauge", ("battery_percent",)),
]
ATTRIBUTES = {"http.response.status_code": 200, "http.route": "/orders/{id}", "error.type": "x"}
#: What labels are called over OTLP.
LABELS = {"http_response_status_code": "200", "http_route": "/orders/{id}", "error_type": "x"}


def by_ledger(golden):
    metric = Metric(
        golden.name,
        golden.kind,
        golden.unit,
        "Help.",
        tuple(ATTRIBUTES),
        (1.0,) * (golden.kind == "histogram"),
    )
    reader = PrometheusReader()
    provider = LeanMeterProvider([reader], Resource({}), TraceBasedExemplarFilter(), [])
    ledger, values = provider.get_meter("t").take(build_ledger(metric)), tuple(ATTRIBUTES.values())
    measure = {"histogram": "record", "gauge": "set"}.get(golden.kind, "add")
    getattr(ledger, measure)(1, values, *([] if golden.kind == "gauge" else [INVALID_SPAN_CONTEXT]))
    return reader


def by_the_sdk(golden):
    reader = PrometheusReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("t")
    options = {"explicit_bucket_boundaries_advisory": [1.0]} if golden.kind == "histogram" else {}
    instrument = getattr(meter, f"create_{golden.kind}")(golden.name, golden.unit, "Help.", **options)
    measure = {"histogram": "record", "gauge": "set"}.get(golden.kind, "add")
    getattr(instrument, measure)(1, ATTRIBUTES)
    return reader


@pytest.mark.parametrize("source", [by_ledger, by_the_sdk])
@pytest.mark.parametrize("golden", TABLE, ids=lambda golden: f"{golden.name} {golden.unit}")
def test_a_scraped_series_is_called_as_over_otlp(golden, source):
    """Names, labels and types, of declared metrics and of any other instrument."""
    text = source(golden).render(openmetrics=True).decode()
    families = [each for each in parser.text_string_to_metric_families(text) if each.name != "target"]
    ((family, samples),) = [(family, family.samples) for family in families]
    assert sorted({sample.name for sample in samples}) == sorted(golden.series)
    assert family.type == {"up_down_counter": "gauge"}.get(golden.kind, golden.kind)
    for sample in samples:
        bound = {"le": sample.labels["le"]} if "le" in sample.labels else {}
        assert sample.labels == LABELS | bound
    # Prometheus writes a scraped bound as 1.0, and one that came over OTLP as 1: queries must take both.
    assert {sample.labels.get("le") for sample in samples} - {None} in (set(), {"1.0", "+Inf"})
