import os
import threading

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import INVALID_SPAN_CONTEXT

from tercet.declare.metric import HTTP_SERVER_ACTIVE, HTTP_SERVER_DURATION
from tercet.emit.metrics import ActiveCounts, build_recorder


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def meter(reader):
    return MeterProvider([reader]).get_meter("test")


def collected(reader):
    """The only metric there is."""
    (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    return metric


def counts(reader):
    """The value of each series, by its attributes."""
    return {tuple(point.attributes.values()): point.value for point in collected(reader).data.data_points}


def test_a_declared_histogram_becomes_an_instrument(reader, meter):
    """With its name, unit, help and buckets."""
    build_recorder(meter, HTTP_SERVER_DURATION).record(
        0.3, ("GET", "http", None, 200, None), INVALID_SPAN_CONTEXT
    )
    metric = collected(reader)
    assert (metric.name, metric.unit, metric.description) == (
        "http.server.request.duration",
        "s",
        "Duration of HTTP server requests.",
    )
    assert tuple(metric.data.data_points[0].explicit_bounds) == HTTP_SERVER_DURATION.buckets


def begin(active, what, *values):
    """Write down that something goes on, as whoever begins it does."""
    active.going[what] = active.learn(values)


def test_what_goes_on_is_counted_by_attributes(reader, meter):
    """As a sum that goes up and down."""
    active = ActiveCounts(meter, HTTP_SERVER_ACTIVE)
    begin(active, 1, "GET", "http")
    begin(active, 2, "GET", "http")
    begin(active, 3, "POST", "https")
    del active.going[2]
    metric = collected(reader)
    assert (metric.name, metric.unit, metric.data.is_monotonic) == (
        "http.server.active_requests",
        "{request}",
        False,
    )
    assert dict(metric.data.data_points[0].attributes) == {"http.request.method": "GET", "url.scheme": "http"}
    assert counts(reader) == {("GET", "http"): 1, ("POST", "https"): 1}


def test_a_series_that_is_at_rest_is_told_as_zero(reader, meter):
    """It does not vanish."""
    active = ActiveCounts(meter, HTTP_SERVER_ACTIVE)
    begin(active, 1, "GET", "http")
    del active.going[1]
    assert counts(reader) == {("GET", "http"): 0}


def test_threads_lose_no_step(reader, meter):
    """Several loops may run in one process, and metrics be collected meanwhile."""
    active = ActiveCounts(meter, HTTP_SERVER_ACTIVE)

    def steps(thread):
        for number in range(2000):
            begin(active, thread + number, "GET", "http")
            if number % 2:
                del active.going[thread + number]

    threads = [threading.Thread(target=steps, args=(number * 2000,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        collected(reader)
    assert counts(reader) == {("GET", "http"): 4000}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_starts_at_zero(meter):
    """What its parent is doing is not going on in the child."""
    active = ActiveCounts(meter, HTTP_SERVER_ACTIVE)
    begin(active, 1, "GET", "http")
    child = os.fork()
    if child == 0:
        begin(active, 2, "POST", "http")
        os._exit(0 if [*active.known] == [("POST", "http")] and [*active.going] == [2] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
