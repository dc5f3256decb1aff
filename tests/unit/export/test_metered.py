"""Ledgers: what readers collect of them is what the SDK's own histogram would give."""

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Counter,
    Histogram,
    MeterProvider,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanContext, TraceFlags

from tercet.declare.metric import Metric
from tercet.emit.distributions import Histograms
from tercet.emit.metrics import ApiRecorder, build_recorder
from tercet.emit.registry import build_ledger
from tercet.export.metered import LeanMeterProvider

WAITED = Metric("waited", "histogram", "s", "Time waited.", attributes=("queue", "kind"), buckets=(0.1, 1.0))
SAMPLED = SpanContext(0xA1, 0xB2, False, TraceFlags(1))
UNSAMPLED = SpanContext(0xA1, 0xB2, False, TraceFlags(0))
DELTA = {Histogram: AggregationTemporality.DELTA}


def provided(*readers, exemplar_filter=None):
    return LeanMeterProvider(
        readers, Resource({"service.name": "t"}), exemplar_filter or TraceBasedExemplarFilter(), []
    )


def metrics_of(reader):
    """All metrics of a collection, by name."""
    data = reader.get_metrics_data()
    resources = data.resource_metrics if data is not None else ()
    return {m.name: m for resource in resources for scope in resource.scope_metrics for m in scope.metrics}


def points(reader):
    """The points of the histogram, by their attributes."""
    found = metrics_of(reader).get("waited")
    return {} if found is None else {tuple(p.attributes.items()): p for p in found.data.data_points}


def shape(point):
    return (
        point.count,
        round(point.sum, 9),
        tuple(point.bucket_counts),
        point.min,
        point.max,
        tuple(point.explicit_bounds),
    )


rounds = st.lists(
    st.lists(
        st.tuples(st.floats(0, 5), st.tuples(st.sampled_from(["mail", None]), st.sampled_from(["a", "b"]))),
        max_size=6,
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("temporality", [{}, DELTA], ids=["cumulative", "delta"])
@given(rounds)
def test_points_are_those_of_the_sdk(temporality, recorded):
    """Counts, sums, buckets, extremes, unit and temporality, over several collections."""
    ours, theirs = InMemoryMetricReader(temporality), InMemoryMetricReader(temporality)
    recorders = [
        build_recorder(provided(ours).get_meter("t"), WAITED),
        build_recorder(MeterProvider([theirs], shutdown_on_exit=False).get_meter("t"), WAITED),
    ]
    assert [type(recorder) for recorder in recorders] == [Histograms, ApiRecorder]
    for measurements in recorded:
        for recorder in recorders:
            for value, values in measurements:
                recorder.record(value, values, UNSAMPLED)
        one, other = metrics_of(ours).get("waited"), metrics_of(theirs).get("waited")
        assert _picture(one) == _picture(other)


PAID = Metric("paid", "counter", "{order}", "Orders paid.", attributes=("card",))
OPEN = Metric("open", "up_down_counter", "{order}", "Orders that are open.", attributes=("card",))
HEAT = Metric("heat", "gauge", "Cel", "How hot it is.", attributes=("card",))
steps = st.lists(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["visa", None])), max_size=6),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("temporality", [{}, {Counter: AggregationTemporality.DELTA}], ids=["whole", "delta"])
@pytest.mark.parametrize("metric", [PAID, OPEN, HEAT], ids=lambda metric: metric.kind)
@given(steps)
def test_numbers_are_those_of_the_sdk(metric, temporality, rounds):
    """Sums and gauges, with their temporality, over several collections."""
    ours, theirs = InMemoryMetricReader(temporality), InMemoryMetricReader(temporality)
    ledger = provided(ours).get_meter("t").take(build_ledger(metric))
    meter = MeterProvider([theirs], shutdown_on_exit=False).get_meter("t")
    made = getattr(meter, f"create_{metric.kind}")(metric.name, metric.unit, metric.help)
    for taken in rounds:
        for number, card in taken:
            values = (card,)
            ledger.set(number, values) if metric is HEAT else ledger.add(number, values, UNSAMPLED)
            step = made.set if metric is HEAT else made.add
            step(number, metric.named(values))
        found = [metrics_of(reader).get(metric.name) for reader in (ours, theirs)]
        if metric is HEAT and found[1] is None:
            continue  # The SDK forgets a gauge that is not set anew; Prometheus would see it vanish.
        assert _numbers(found[0]) == _numbers(found[1])


def _numbers(metric):
    if metric is None:
        return None
    kind = type(metric.data).__name__, getattr(metric.data, "is_monotonic", None)
    temporality = getattr(metric.data, "aggregation_temporality", None)
    found = {tuple(point.attributes.items()): point.value for point in metric.data.data_points}
    return (metric.unit, metric.description, *kind, temporality, found)


def _picture(metric):
    if metric is None:
        return None
    found = {tuple(point.attributes.items()): shape(point) for point in metric.data.data_points}
    return (metric.unit, metric.description, metric.data.aggregation_temporality, found)


@pytest.mark.parametrize(
    ("exemplar_filter", "ids", "count"),
    [
        (TraceBasedExemplarFilter(), SAMPLED, 1),
        (TraceBasedExemplarFilter(), UNSAMPLED, 0),
        (AlwaysOnExemplarFilter(), UNSAMPLED, 1),
        (AlwaysOffExemplarFilter(), SAMPLED, 0),
    ],
)
def test_exemplars_lead_to_the_trace(exemplar_filter, ids, count):
    """Those that the filter lets through, once each, to each reader."""
    readers = InMemoryMetricReader(), InMemoryMetricReader()
    recorder = build_recorder(provided(*readers, exemplar_filter=exemplar_filter).get_meter("t"), WAITED)
    recorder.record(0.5, ("mail", "a"), ids)
    for reader in readers:
        (point,) = points(reader).values()
        assert [(e.value, e.trace_id, e.span_id) for e in point.exemplars] == [(0.5, 0xA1, 0xB2)] * count
        (point,) = points(reader).values()
        assert point.exemplars == []


def test_each_reader_keeps_its_own_account():
    """One that comes later counts from then on; one that leaves is forgotten."""
    whole, early, late = InMemoryMetricReader(), InMemoryMetricReader(DELTA), InMemoryMetricReader(DELTA)
    provider = provided(whole, early)
    recorder = build_recorder(provider.get_meter("t"), WAITED)
    recorder.record(0.5, ("mail", "a"), SAMPLED)
    provider.add_metric_reader(late)
    recorder.record(0.5, ("mail", "a"), SAMPLED)
    counts = [[point.count for point in points(reader).values()] for reader in (whole, early, late)]
    assert counts == [[2], [2], [1]]
    assert [points(reader) for reader in (early, late)] == [{}, {}]
    open_accounts = len(recorder._accounts)
    provider.remove_metric_reader(late)
    assert len(recorder._accounts) == open_accounts - 1


def test_the_sdks_instruments_are_collected_beside():
    """In the same scope, where they share one; a meter makes one recorder a name."""
    reader = InMemoryMetricReader()
    meter = provided(reader).get_meter("t")
    meter.create_counter("orders").add(1)
    build_recorder(meter, WAITED).record(0.5, ("mail", None), SAMPLED)
    assert build_recorder(meter, WAITED) is build_recorder(meter, WAITED)
    (resource,) = reader.get_metrics_data().resource_metrics
    (scope,) = resource.scope_metrics
    assert (scope.scope.name, [metric.name for metric in scope.metrics]) == ("t", ["orders", "waited"])
    assert resource.resource.attributes["service.name"] == "t"


def test_series_are_bounded_and_no_total_is_lost():
    """What is beyond goes to one more, which says so."""
    durations = Histograms(WAITED, most_series=3)
    for number in range(100):
        durations.record(0.5, (f"queue {number}", None), SAMPLED)
    collected = [(attributes, sum(cell.buckets)) for attributes, cell in durations.collect(0)]
    assert collected == [
        ({"queue": "queue 0"}, 1),
        ({"queue": "queue 1"}, 1),
        ({"queue": "queue 2"}, 1),
        ({"otel.metric.overflow": True}, 97),
    ]


def test_threads_lose_no_measurement():
    """Nor does a collection in between."""
    reader = InMemoryMetricReader(DELTA)
    recorder = build_recorder(provided(reader).get_meter("t"), WAITED)

    def work():
        for _ in range(2_000):
            recorder.record(0.5, ("mail", "a"), SAMPLED)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    counted = 0
    while any(thread.is_alive() for thread in threads):
        counted += sum(point.count for point in points(reader).values())
    counted += sum(point.count for point in points(reader).values())
    assert counted == 8_000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="This system does not fork.")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_tells_only_its_own():
    """Even when it is forked in the middle of a measurement."""
    reader = InMemoryMetricReader()
    recorder = build_recorder(provided(reader).get_meter("t"), WAITED)
    recorder.record(0.5, ("mail", "a"), SAMPLED)
    held = threading.Event()
    done = threading.Event()

    def hold():
        with recorder._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        recorder.record(0.5, ("mail", "b"), SAMPLED)
        counts = [point.count for point in points(reader).values()]
        os._exit(0 if counts == [1] and list(points(reader)) == [(("queue", "mail"), ("kind", "b"))] else 1)
    done.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
