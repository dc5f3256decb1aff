"""Views of other people's instruments: what contrib and libraries measure stays bounded as well."""

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

from tercet.configure.metrics import build_meter_provider
from tercet.declare.settings import Settings
from tercet.export.views import HOSTS, UNBOUNDED


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def meter(reader):
    settings = Settings.load({}, metric_series_limit=3)
    return build_meter_provider(settings, Resource({}), [reader]).get_meter("opentelemetry.instrumentation.x")


def points(reader, name):
    """The points of a metric, which is there once."""
    scopes = reader.get_metrics_data().resource_metrics[0].scope_metrics
    (metric,) = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
    return list(metric.data.data_points)


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("http.server.request.body.size", UNBOUNDED | HOSTS),
        ("rpc.server.duration", UNBOUNDED | HOSTS),
        ("http.client.response.body.size", UNBOUNDED),
        ("logins", UNBOUNDED),
    ],
)
def test_hosts_and_raw_paths_never_get_through(reader, meter, name, dropped):
    """A client may say which host it called; a server believes nobody."""
    attributes = dict.fromkeys(UNBOUNDED | HOSTS | {"http.route"}, "x")
    meter.create_histogram(name, explicit_bucket_boundaries_advisory=[1, 2]).record(1, attributes)
    (point,) = points(reader, name)
    assert set(point.attributes) == attributes.keys() - dropped
    assert list(point.explicit_bounds) == [1, 2]


def test_series_of_other_instruments_are_bounded_and_said_once(reader, meter, caplog):
    """The totals stay, and the attribute to blame is named."""
    logins = meter.create_counter("logins")
    for number in range(10):
        logins.add(1, {"user.id": f"u{number}", "kind": "web"})
    found = points(reader, "logins")
    points(reader, "logins")
    assert (len(found), sum(point.value for point in found)) == (4, 10)
    assert found[-1].attributes == {"otel.metric.overflow": True}
    assert [record.getMessage() for record in caplog.records] == [
        (
            "Metric logins has 3 series, its limit; others are counted under otel.metric.overflow. Attribute "
            "'user.id' has 3 different values: measure something bounded instead, or raise the limit "
            "(TERCET_METRIC_SERIES_LIMIT)."
        )
    ]
