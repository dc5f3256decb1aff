import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tercet.declare.metric import METRICS
from tercet.declare.names import label_name, metric_name, unit_name

GOLDEN = [
    # OpenTelemetry name, unit, kind → Prometheus name: scraped, pushed over OTLP or through a collector
    ("http.server.request.duration", "s", "histogram", "http_server_request_duration_seconds"),
    ("http.server.active_requests", "{request}", "up_down_counter", "http_server_active_requests"),
    ("orders", "1", "counter", "orders_total"),
    ("orders", "{order}", "counter", "orders_total"),
    ("revenue", "cents", "counter", "revenue_cents_total"),
    ("queue.size", "1", "up_down_counter", "queue_size"),
    ("system.cpu.utilization", "1", "gauge", "system_cpu_utilization_ratio"),
    ("hit.ratio", "1", "gauge", "hit_ratio"),
    ("orders.total", "1", "counter", "orders_total"),
    ("orders.total.count", "1", "counter", "orders_count_total"),
    ("total", "1", "counter", "total_total"),
    ("disk.io", "By", "counter", "disk_io_bytes_total"),
    ("disk.io.bytes", "By", "counter", "disk_io_bytes_total"),
    ("network.speed", "By/s", "gauge", "network_speed_bytes_per_second"),
    ("packets", "{packet}/s", "gauge", "packets_per_second"),
    ("lag", "m/{request}", "gauge", "lag_meters"),
    ("battery", "%", "gauge", "battery_percent"),
    ("a..b--c__d", "", "gauge", "a_b_c_d"),
    ("2xx.responses", "1", "counter", "_2xx_responses_total"),
    ("日本", "", "counter", ""),
]


@pytest.mark.parametrize(("name", "unit", "kind", "expected"), GOLDEN)
def test_the_golden_table_holds(name, unit, kind, expected):
    """Every series has the name that the OTLP receiver and the collector give it too."""
    assert metric_name(name, unit, kind) == expected


def test_declared_metrics_have_these_series():
    """What dashboards and rules are written against."""
    assert [metric_name(metric.name, metric.unit, metric.kind) for metric in METRICS][:4] == [
        "http_server_request_duration_seconds",
        "http_server_active_requests",
        "http_client_request_duration_seconds",
        "tercet_correlation_replaced_total",
    ]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("s", "seconds"), ("By/s", "bytes_per_second"), ("1", ""), ("{order}", ""), ("", "")],
)
def test_units_become_words(unit, expected):
    """A unit is spelled out, and a count has none."""
    assert unit_name(unit) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("http.route", "http_route"),
        ("http.response.status_code", "http_response_status_code"),
        ("a..b", "a_b"),
        ("2nd", "key_2nd"),
        ("_private", "key_private"),
        ("__name__", "key_name_"),
        ("日本", "key_"),
        ("", "key_"),
    ],
)
def test_keys_become_label_names(key, expected):
    """A label's name is valid and never one of those that Prometheus reserves."""
    assert label_name(key) == expected


@given(st.text(), st.text(), st.sampled_from(["counter", "up_down_counter", "gauge", "histogram"]))
def test_any_text_becomes_a_valid_metric_name(name, unit, kind):
    """Whatever an instrument is called, its series can be scraped, or it has no name at all."""
    assert re.fullmatch(r"([a-zA-Z_:][a-zA-Z0-9_:]*)?", metric_name(name, unit, kind), re.ASCII)


@given(st.text())
def test_any_text_becomes_a_valid_label_name(key):
    """Whatever a key is called, its label can be scraped."""
    assert re.fullmatch(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", label_name(key), re.ASCII)
